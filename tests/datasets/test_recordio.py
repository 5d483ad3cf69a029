import multiprocessing
import os
import pickle
import struct
from multiprocessing.queues import Queue
from pathlib import Path

import cv2
import numpy as np
import pytest

from kdface.datasets import recordio
from kdface.datasets.checks import verify
from kdface.datasets.image_folder import ImageFolder
from kdface.datasets.record_file import RecordFile, unpack
from kdface.datasets.recordio import RecordIO
from kdface.errors import DataError, UserError
from kdface.faces import ARCFACE_112, FaceSet

MAGIC = bytes.fromhex("0a23d7ce")


def picture(seed: int, size: int = 112) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (size // 8, size // 8, 3), dtype=np.uint8)
    return cv2.resize(noise, (size, size), interpolation=cv2.INTER_CUBIC)


def png(seed: int, size: int = 112) -> bytes:
    return cv2.imencode(".png", picture(seed, size)[..., ::-1])[1].tobytes()


def payload(label: float | list[float], body: bytes, number: int = 0) -> bytes:
    if isinstance(label, list):
        return struct.pack("<IfQQ", len(label), 0, number, 0) + struct.pack(f"<{len(label)}f", *label) + body
    return struct.pack("<IfQQ", 0, label, number, 1) + body


def record(data: bytes) -> bytes:
    """One record as the C++ writer lays it down: cut at every aligned magic, which is dropped."""
    cuts = [at for at in range(0, len(data) - 3, 4) if data[at : at + 4] == MAGIC]
    pieces, begin = [], 0
    for at in cuts:
        pieces.append(data[begin:at])
        begin = at + 4
    pieces.append(data[begin:])
    flags = [0] if len(pieces) == 1 else [1] + [2] * (len(pieces) - 2) + [3]
    out = b""
    for flag, piece in zip(flags, pieces, strict=True):
        out += MAGIC + struct.pack("<I", flag << 29 | len(piece)) + piece + bytes(-len(piece) % 4)
    return out


def write(folder: Path, payloads: list[tuple[int, bytes]], classes: int, size: int = 112) -> Path:
    """Records in the order given on disk; the index is written in that order too."""
    folder.mkdir(exist_ok=True)
    blob, lines = b"", []
    for number, data in payloads:
        lines.append(f"{number}\t{len(blob)}\n")
        blob += record(data)
    (folder / "train.rec").write_bytes(blob)
    (folder / "train.idx").write_text("".join(lines))
    (folder / "property").write_text(f"{classes},{size},{size}")
    return folder


# Three people with 2, 1 and 3 images: records 1..6 are images, 7..9 identities, 0 the header, written last.
OWNER = [0, 0, 1, 2, 2, 2]
RANGES = [(1, 3), (3, 4), (4, 7)]
MASKED = [2.0, *np.linspace(-1, 1, 236).tolist()]  # a mask-aware label: the class and 236 more


def standard() -> dict[int, bytes]:
    """Both label forms, a mask-aware record, a fragmented one; in the order of the disk."""
    labels: list[float | list[float]] = [0.0, [0.0, 1.0], 1.0, [2.0, 1.0], 2.0, MASKED]
    records = {number: payload(label, png(number), number) for number, label in enumerate(labels, start=1)}
    tail = bytes(-len(records[5]) % 4) + MAGIC + MAGIC + b"four" + MAGIC + b"end"  # behind the end of the image
    records[5] += tail
    assert records[5].count(MAGIC) == 3
    for number, (first, end) in enumerate(RANGES, start=7):
        records[number] = payload([float(first), float(end)], b"")
    records[0] = payload([7.0, 10.0], b"")
    return records


def build(folder: Path, records: dict[int, bytes], classes: int = 3) -> Path:
    return write(folder, list(records.items()), classes)


def test_reads_every_form(tmp_path: Path) -> None:
    faces = RecordIO(build(tmp_path / "mini", standard()))
    assert isinstance(faces, FaceSet)
    assert faces.name == "mini"
    assert faces.preprocessing.size == (112, 112)
    assert list(faces.people) == ["0", "1", "2"]
    assert faces.labels.tolist() == OWNER
    assert faces.labels.dtype == np.int64
    assert list(faces.keys) == [f"0000000{number}" for number in range(1, 7)]
    assert len(faces) == 6
    for index in range(6):
        sample = faces[index]
        assert (sample.label, sample.key) == (OWNER[index], faces.keys[index])
        np.testing.assert_array_equal(sample.image, picture(index + 1))
        np.testing.assert_array_equal(sample.landmarks, ARCFACE_112)


def test_magic_is_put_back_between_fragments(tmp_path: Path) -> None:
    records = standard()
    faces = RecordIO(build(tmp_path, records))
    blob = (tmp_path / "train.rec").read_bytes()
    assert MAGIC + struct.pack("<I", 2 << 29) in blob  # two magics in a row leave an empty middle fragment
    assert [faces.raw_bytes(index) for index in range(6)] == [records[number] for number in range(1, 7)]


@pytest.mark.parametrize("data", [MAGIC, MAGIC * 3, b"1" + MAGIC + b"234", b"12345678" + MAGIC, b"", b"abc"])
def test_fragments_of_any_shape(tmp_path: Path, data: bytes) -> None:
    write(tmp_path, [(4, data), (9, b"next")], 1)
    file = RecordFile(tmp_path / "train.rec", tmp_path / "train.idx")
    assert file.read(4) == data
    assert file.read(9) == b"next"


def test_padding_between_fragments_is_skipped(tmp_path: Path) -> None:
    word = [struct.pack("<I", flag << 29 | length) for flag, length in ((1, 3), (3, 2))]
    (tmp_path / "train.rec").write_bytes(MAGIC + word[0] + b"abc\0" + MAGIC + word[1] + b"de\0\0")
    (tmp_path / "train.idx").write_text("1\t0\n")
    assert RecordFile(tmp_path / "train.rec", tmp_path / "train.idx").read(1) == b"abc" + MAGIC + b"de"


def test_header_record_of_ms1mv2(tmp_path: Path) -> None:
    """The 40 bytes of record 0 of a set of 5,822,653 images and 85,742 people, written out by hand."""
    data = MAGIC + bytes.fromhex("20000000 02000000 00000000") + bytes(16) + bytes.fromhex("7cb1b14a 584fb44a")
    assert len(data) == 40
    (tmp_path / "train.rec").write_bytes(data)
    (tmp_path / "train.idx").write_text("0\t0\n")
    file = RecordFile(tmp_path / "train.rec", tmp_path / "train.idx")
    assert unpack(file.read(0), "f") == ((5822654.0, 5908396.0), b"")
    assert file.entry(0).values == (5822654.0, 5908396.0)
    assert not file.entry(0).has_image


def test_rec_path_name_and_terms(tmp_path: Path) -> None:
    build(tmp_path, standard())
    for suffix in ("rec", "idx"):
        (tmp_path / f"train.{suffix}").rename(tmp_path / f"part.{suffix}")
    faces = RecordIO(tmp_path / "part.rec", name="part", terms="research only")
    assert (faces.name, faces.terms, len(faces)) == ("part", "research only", 6)


def test_shuffled_file_has_no_identity_records(tmp_path: Path) -> None:
    labels: list[float | list[float]] = [5.0, 3.0, [5.0, 1.0], 9.0]
    records = [(number, payload(label, png(number))) for number, label in enumerate(labels)]
    write(tmp_path, records[::-1], 3)
    (tmp_path / "property").write_text("3,112,112,4,shuffled,2020-01-01")
    faces = RecordIO(tmp_path)
    assert len(faces) == 4
    assert list(faces.people) == ["3", "5", "9"]
    assert faces.labels.tolist() == [1, 0, 1, 2]
    np.testing.assert_array_equal(faces[0].image, picture(0))


def test_above_the_exact_range_of_float32_every_record_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(tmp_path, standard())
    monkeypatch.setattr(recordio, "_EXACT", 5)
    faces = RecordIO(tmp_path)
    assert faces.labels.tolist() == OWNER
    assert list(faces.keys) == [f"0000000{number}" for number in range(1, 7)]


def test_people_are_named_by_the_list_where_it_names_them(tmp_path: Path) -> None:
    build(tmp_path, standard())
    names = ["ada", "ada", "bo", "cy", "cy", "cy"]
    lines = [f"1\tset/{name}/{number}.jpg\t{OWNER[number]}\n" for number, name in enumerate(names)]
    (tmp_path / "train.lst").write_text("".join(lines))
    assert list(RecordIO(tmp_path).people) == ["ada", "bo", "cy"]
    (tmp_path / "train.lst").write_text("".join(lines).replace("bo/", "cy/"))  # one folder, two classes
    assert list(RecordIO(tmp_path).people) == ["0", "1", "2"]
    (tmp_path / "train.lst").write_text("".join(lines[:2]))  # not everybody
    assert list(RecordIO(tmp_path).people) == ["0", "1", "2"]


def test_keys_are_a_sequence(tmp_path: Path) -> None:
    keys = RecordIO(build(tmp_path, standard())).keys
    assert list(keys[1:3]) == ["00000002", "00000003"]
    assert keys[-1] == "00000006"
    assert "00000004" in keys
    with pytest.raises(IndexError):
        keys[6]


def test_pickled_copy_opens_the_file_itself(tmp_path: Path) -> None:
    faces = RecordIO(build(tmp_path, standard()))
    np.testing.assert_array_equal(faces[0].image, picture(1))
    copy = pickle.loads(pickle.dumps(faces))
    np.testing.assert_array_equal(copy[5].image, picture(6))


def _read_many(faces: RecordIO, seed: int, answer: "Queue[bool]") -> None:
    order = np.random.default_rng(seed).integers(0, len(faces), 2000)
    answer.put(all(faces.raw_bytes(index)[:40] == expected for index, expected in _expect(order)))


def _expect(order: np.ndarray) -> list[tuple[int, bytes]]:
    records = standard()
    return [(int(index), records[int(index) + 1][:40]) for index in order]


def test_forked_readers_do_not_disturb_each_other(tmp_path: Path) -> None:
    faces = RecordIO(build(tmp_path, standard()))
    faces[0]  # the file is open before the fork
    fork = multiprocessing.get_context("fork")
    answer = fork.Queue()
    readers = [fork.Process(target=_read_many, args=(faces, seed, answer)) for seed in range(3)]
    for reader in readers:
        reader.start()
    assert all(answer.get(timeout=30) for _ in readers)
    for reader in readers:
        reader.join()


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"train\.rec, which does not exist") as error:
        RecordIO(tmp_path)
    assert "paths.data" in error.value.fix
    for name in ("train.idx", "property"):
        folder = build(tmp_path / name.replace(".", ""), standard())
        (folder / name).unlink()
        with pytest.raises(UserError, match=f"{name}, which does not exist"):
            RecordIO(folder)


def test_cut_file_is_told_record_by_record(tmp_path: Path) -> None:
    records = standard()
    ordered = {number: records[number] for number in (0, 7, 8, 9, 1, 2, 3, 4, 5, 6)}
    build(tmp_path, ordered)
    lines = (tmp_path / "train.idx").read_text().splitlines()
    offsets = {int(number): int(at) for number, at in (line.split() for line in lines)}
    blob = (tmp_path / "train.rec").read_bytes()
    (tmp_path / "train.rec").write_bytes(blob[: offsets[5] + 500])
    faces = RecordIO(tmp_path)  # person 2's first image, record 4, is whole, so the set opens; 5 and 6 are not
    found = verify(faces)
    assert [broken.key for broken in found.broken] == ["00000005", "00000006"]
    assert "train.rec, record 5: it needs" in found.broken[0].reason
    assert f"record 6: train.idx points to byte {offsets[6]}" in found.broken[1].reason
    with pytest.raises(DataError, match=r"train\.rec, record 5: it needs"):
        faces[4]


def test_index_of_another_file(tmp_path: Path) -> None:
    build(tmp_path, standard())
    text = (tmp_path / "train.idx").read_text().splitlines()
    text[1] = f"2\t{int(text[1].split()[1]) + 4}"
    (tmp_path / "train.idx").write_text("\n".join(text))
    with pytest.raises(DataError, match=r"train\.rec, record 2: no record begins at byte \d+ \(found"):
        RecordIO(tmp_path)[1]


def test_wrong_magic(tmp_path: Path) -> None:
    build(tmp_path, standard())
    blob = bytearray((tmp_path / "train.rec").read_bytes())
    blob[3] = 0x3E
    (tmp_path / "train.rec").write_bytes(blob)
    with pytest.raises(DataError, match=r"record 1: no record begins at byte 0 \(found 0a 23 d7 3e\)") as error:
        RecordIO(tmp_path)
    assert "0a 23 d7 ce" in error.value.expected


@pytest.mark.parametrize("flags", [(2,), (3,), (1, 1), (1, 0), (4,)])
def test_fragments_out_of_turn(tmp_path: Path, flags: tuple[int, ...]) -> None:
    pieces = b"".join(MAGIC + struct.pack("<I", flag << 29 | 4) + b"abcd" for flag in flags)
    (tmp_path / "train.rec").write_bytes(pieces)
    (tmp_path / "train.idx").write_text("1\t0\n")
    with pytest.raises(DataError, match="record 1: a fragment with flag"):
        RecordFile(tmp_path / "train.rec", tmp_path / "train.idx").read(1)


def test_last_fragment_is_missing(tmp_path: Path) -> None:
    (tmp_path / "train.rec").write_bytes(MAGIC + struct.pack("<I", 1 << 29 | 4) + b"abcd")
    (tmp_path / "train.idx").write_text("1\t0\n")
    with pytest.raises(DataError, match=r"record 1: no record begins at byte 12 \(found the end\)"):
        RecordFile(tmp_path / "train.rec", tmp_path / "train.idx").read(1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the index is empty"),
        ("1\t0\n2 x\n", "line 2: '2 x' is not an index entry"),
        ("1\t0\n\n", "line 2: ''"),
        ("1\t-4\n", "line 1"),
        ("1\t0\n2\t40\n1\t80\n", "record 1 is listed twice"),
    ],
)
def test_bad_index(tmp_path: Path, text: str, said: str) -> None:
    build(tmp_path, standard())
    (tmp_path / "train.idx").write_text(text)
    with pytest.raises(DataError, match=r"train\.idx.*" + said):
        RecordIO(tmp_path)


@pytest.mark.parametrize("text", ["", "3,112", "three,112,112", "3,0,112"])
def test_bad_property(tmp_path: Path, text: str) -> None:
    build(tmp_path, standard())
    (tmp_path / "property").write_text(text)
    with pytest.raises(DataError, match=r"property: .* cannot be used"):
        RecordIO(tmp_path)


def test_property_of_another_set(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"announces 4 classes, but train\.rec has 3"):
        RecordIO(build(tmp_path, standard(), classes=4))


@pytest.mark.parametrize(
    ("number", "data", "said"),
    [
        (
            0,
            payload([7.0, 11.0], b""),
            "record 0: identity records 7 to 10 do not fit an index of 10 records that ends at 9",
        ),
        (0, payload([7.0], b""), "record 0: 1 values and no image"),
        (7, payload([1.0, 4.0], b""), r"record 8: the values 3, 4 are not a range of images"),  # overlaps the next
        (9, payload([4.0, 9.0], b""), r"record 9: the values 4, 9 are not a range of images"),
        (9, payload(4.0, b""), r"record 9: the values 4 are not a range of images"),
        (9, payload([4.0, 6.0], b""), "record 6: no identity record includes it"),
        (3, payload(1.5, png(3)), "record 3: label 1.5"),
        (3, payload(-1.0, png(3)), "record 3: label -1"),
        (3, payload(1e30, png(3)), r"record 3: label 1e\+30"),
        (3, payload(float("nan"), png(3)), "record 3: label nan"),
        (3, b"short", "record 3: 5 bytes cannot hold"),
        (3, struct.pack("<IfQQ", 9, 0, 0, 0) + bytes(8), "record 3: its header announces 9 label values"),
    ],
)
def test_bad_labels(tmp_path: Path, number: int, data: bytes, said: str) -> None:
    with pytest.raises(DataError, match=said):
        RecordIO(build(tmp_path, {**standard(), number: data}))


def test_label_that_contradicts_its_identity_record(tmp_path: Path) -> None:
    faces = RecordIO(build(tmp_path, {**standard(), 2: payload(1.0, png(2))}))
    with pytest.raises(DataError, match="record 2: its label is 1, and its identity record's is 0"):
        faces[1]


def test_broken_image_and_other_size_name_the_record(tmp_path: Path) -> None:
    faces = RecordIO(build(tmp_path, {**standard(), 2: payload(0.0, png(2)[:-30]), 5: payload(2.0, png(5, 96))}))
    with pytest.raises(DataError, match=r"train\.rec, record 2: the PNG is cut short"):
        faces[1]
    with pytest.raises(DataError, match=r"train\.rec, record 5: the crop is 96 high, 96 wide") as error:
        faces[4]
    assert f"height,width = 96,96 in {tmp_path / 'property'}" in error.value.fix


@pytest.mark.skipif("KDFACE_DATA" not in os.environ, reason="needs KDFACE_DATA")
def test_file_written_by_mxnet_holds_the_same_images_as_the_folder() -> None:
    data = Path(os.environ["KDFACE_DATA"])
    faces = RecordIO(data / "insightface")
    assert (len(faces), len(faces.people), np.bincount(faces.labels).tolist()) == (120, 12, [10] * 12)
    folder = ImageFolder(data / "pins90", people=list(faces.people))
    number = {key: index for index, key in enumerate(folder.keys)}
    lines = [line.split("\t") for line in (data / "insightface" / "train.lst").read_text().splitlines()]
    for index, (_, path, label) in enumerate(lines):
        sample, original = faces[index], folder[number[path.split("/", 1)[1]]]
        assert sample.label == int(label)
        assert faces.people[sample.label] == folder.people[original.label]
        np.testing.assert_array_equal(sample.image, original.image)


def test_numbers_that_no_file_has_are_refused_before_memory_is_asked_for(tmp_path: Path) -> None:
    """Record 0 may claim 10^12 images, and the index list a record of any number."""
    records = {**standard(), 0: payload([1e12, 1.1e12], b"")}
    root = build(tmp_path / "set", records)
    with open(root / "train.idx", "a") as index:
        index.write(f"{2 * 10**12}\t0\n")
    with pytest.raises(DataError, match="do not fit an index of 11 records"):
        RecordIO(root)
    for number in ("9" * 30, "9" * 5000):
        (root / "train.idx").write_text(f"0\t0\n{number}\t0\n")
        with pytest.raises(DataError, match="line 2"):
            RecordIO(root)
        (root / "property").write_text(f"{number},112,112")
        with pytest.raises(DataError, match="property"):
            RecordIO(root)
        (root / "property").write_text("3,112,112")
