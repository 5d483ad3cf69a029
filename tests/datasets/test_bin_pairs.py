import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from kdface.datasets.bin_pairs import BinPairs
from kdface.datasets.safe_pickle import _ANSWERS, load_plain
from kdface.errors import DataError, UserError
from kdface.faces import ARCFACE_112, FaceSet
from tests.conftest import Kdface


def picture(seed: int, size: int = 112) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (size // 8, size // 8, 3), dtype=np.uint8)
    return cv2.resize(noise, (size, size), interpolation=cv2.INTER_CUBIC)


def png(seed: int, size: int = 112) -> bytes:
    return cv2.imencode(".png", picture(seed, size)[..., ::-1])[1].tobytes()


def py2_string(data: bytes) -> bytes:
    """BINSTRING or SHORT_BINSTRING, the opcodes of Python 2's str."""
    return b"U" + bytes([len(data)]) + data if len(data) < 256 else b"T" + struct.pack("<I", len(data)) + data


def py2_array(data: bytes, kind: bytes = b"u1") -> bytes:
    """The opcodes with which Python 2 writes a one-dimensional array."""
    return (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01"
        + (b"J" + struct.pack("<i", len(data)) + b"\x85cnumpy\ndtype\n" + py2_string(kind) + b"K\x00K\x01\x87R")
        + b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        + py2_string(data)
        + b"tb"
    )


def py2_pickle(items: list[bytes], same: list[bool]) -> bytes:
    """Protocol 2 as Python 2.7 writes (list of items given in opcodes, list of booleans)."""
    flags = b"".join(b"\x88" if flag else b"\x89" for flag in same)
    return b"\x80\x02](" + b"".join(items) + b"e](" + flags + b"e\x86."


IMAGES = [png(seed) for seed in range(4)]
SAME = [True, False]


def check(faces: BinPairs) -> None:
    assert list(faces.keys) == ["0000000", "0000001", "0000002", "0000003"]
    assert (faces.left, faces.right) == (("0000000", "0000002"), ("0000001", "0000003"))
    assert faces.same.tolist() == SAME
    assert faces.same.dtype == np.bool_
    for index in range(4):
        np.testing.assert_array_equal(faces[index].image, picture(index))


def test_file_of_python_2(tmp_path: Path) -> None:
    (tmp_path / "mini.bin").write_bytes(py2_pickle([py2_string(image) for image in IMAGES], SAME))
    faces = BinPairs(tmp_path / "mini.bin", terms="research only")
    check(faces)
    assert isinstance(faces, FaceSet)
    assert (faces.name, faces.terms, len(faces)) == ("mini", "research only", 4)
    assert (list(faces.people), faces.labels.tolist()) == (["?"], [0, 0, 0, 0])
    np.testing.assert_array_equal(faces[0].landmarks, ARCFACE_112)
    assert faces.raw_bytes(1) == IMAGES[1] + b"\1"
    assert faces.raw_bytes(2) == IMAGES[2] + b"\0"


def test_arrays_of_python_2(tmp_path: Path) -> None:
    """cv2.imencode's arrays pickled instead of strings, as some verification sets hold them."""
    (tmp_path / "mini.bin").write_bytes(py2_pickle([py2_array(image) for image in IMAGES], SAME))
    check(BinPairs(tmp_path / "mini.bin"))


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("as_array", [False, True])
def test_files_of_python_3(tmp_path: Path, protocol: int, as_array: bool) -> None:
    items = [np.frombuffer(image, np.uint8).reshape(-1, 1).copy() if as_array else image for image in IMAGES]
    same = np.array(SAME) if as_array else SAME
    (tmp_path / "mini.bin").write_bytes(pickle.dumps((items, same), protocol=protocol))
    check(BinPairs(tmp_path / "mini.bin"))


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "array",
    [
        np.arange(12, dtype="<i4").reshape(3, 4),
        np.asfortranarray(np.arange(12, dtype=">f8").reshape(3, 4)),
        np.array([True, False]),
        np.array([1.5, -2], np.float16),
    ],
)
def test_plain_data_is_read_back(protocol: int, array: np.ndarray) -> None:
    value = [array, ("text", b"bytes \xff", 7, -(2**70), True, [])]
    read = load_plain(pickle.dumps(value, protocol=protocol))
    np.testing.assert_array_equal(read[0], array)
    assert read[0].dtype == array.dtype
    assert read[1] == value[1]


class Calls:
    """Pickles as a call of a function with arguments."""

    def __init__(self, function: Callable[..., object], *arguments: str) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, ...]]:
        return self.function, self.arguments


@pytest.mark.parametrize("protocol", range(6))
def test_code_is_not_run(tmp_path: Path, protocol: int) -> None:
    victim = tmp_path / "ran"
    for call in (
        Calls(os.system, f"touch {victim}"),
        Calls(eval, f"open({str(victim)!r}, 'w')"),
        Calls(open, str(victim), "w"),
    ):
        data = pickle.dumps(([call], [True]), protocol=protocol)
        (tmp_path / "bad.bin").write_bytes(data)
        with pytest.raises(DataError, match=r"bad\.bin: this pickle is not read: it names .*code"):
            BinPairs(tmp_path / "bad.bin")
    assert not victim.exists()
    pickle.loads(data)  # the same bytes do run where nothing refuses them
    assert victim.exists()


@pytest.mark.parametrize(
    "code",
    [
        b"cos\nsystem\n(S'touch {}'\ntR.",  # as Python 2 writes a call
        b'c__builtin__\neval\n(S\'open("{}", "w")\'\ntR.',
        b"(S'touch {}'\nios\nsystem\n.",  # INST
        b"(cos\nsystem\nS'touch {}'\no.",  # OBJ
        b"\x80\x02cnumpy\nload\nU\x01x\x85R.",
        b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x01x\x85R.",  # STACK_GLOBAL
        b"\x80\x02ccopy_reg\n_reconstructor\n(c__builtin__\nlist\nc__builtin__\nobject\nNtR.",
        b"\x80\x02cnumpy.core.multiarray\nscalar\n)R.",
        b"\x80\x04\x8c\x05numpy\x8c\x10ndarray.__class__\x93.",  # a dotted name
        b"\x80\x02P1\n.",  # a persistent id
        b"\x80\x02\x82\x01.",  # an extension code
    ],
)
def test_names_are_refused_in_every_form(tmp_path: Path, code: bytes) -> None:
    victim = tmp_path / "ran"
    with pytest.raises(ValueError):
        load_plain(code.replace(b"{}", str(victim).encode()))
    assert not victim.exists()


@pytest.mark.parametrize("name", sorted(_ANSWERS))
def test_what_stands_for_a_name_cannot_be_changed_or_made_anew(name: tuple[str, str]) -> None:
    answer = _ANSWERS[name]
    before = type(answer), dir(answer)
    push = b"\x80\x02c" + "\n".join(name).encode() + b"\n"
    for rest in (
        b"}U\x01aK\x01sb.",  # BUILD with a dict
        b"N}U\x08__call__K\x01s\x86b.",  # BUILD with slots
        b"N}U\x09__class__cnumpy\nndarray\ns\x86b.",
        b")\x81.",  # NEWOBJ
        b".",  # by itself
    ):
        with pytest.raises(ValueError):
            load_plain(push + rest)
    assert (type(answer), dir(answer)) == before
    assert not hasattr(answer, "a")


@pytest.mark.parametrize(
    "value",
    [
        {"a": 1},
        [None],
        1.5,
        {1},
        bytearray(b"x"),
        [np.array([{}], dtype=object)],
        [np.array(["text"])],
        [np.array([(1, 2)], dtype=[("a", int), ("b", int)])],
        [np.array(["2020-01-01"], dtype="datetime64[D]")],
        [np.float32(1)],
        [1j],
    ],
)
@pytest.mark.parametrize("protocol", [2, 5])
def test_other_data_are_refused(value: object, protocol: int) -> None:
    with pytest.raises(ValueError):
        load_plain(pickle.dumps(value, protocol=protocol))


def test_array_that_lies_about_its_length() -> None:
    good = b"\x80\x02" + py2_array(b"abcd") + b"."
    np.testing.assert_array_equal(load_plain(good), np.frombuffer(b"abcd", np.uint8))
    with pytest.raises(ValueError, match=r"shape \(1000,\) in 4 bytes"):
        load_plain(good.replace(struct.pack("<i", 4) + b"\x85", struct.pack("<i", 1000) + b"\x85"))


def test_list_that_holds_itself() -> None:
    value: list[object] = []
    value.append(value)
    with pytest.raises(ValueError):
        load_plain(pickle.dumps(value))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([IMAGES, SAME, []], "unexpected contents"),
        (b"bytes", "unexpected contents"),
        ((b"bytes", SAME), "unexpected contents"),
        ((IMAGES[:3], SAME), "3 images and 2 pairs"),
        (([], []), "0 images and 0 pairs"),
        ((IMAGES, [1, 2]), "other than booleans"),
        ((IMAGES, b"\1\0"), "other than booleans"),
        (([*IMAGES[:3], "text"], SAME), "image 0000003: a str, not bytes"),
        (([*IMAGES[:3], np.zeros(4)], SAME), "image 0000003: a ndarray, not bytes"),
    ],
)
def test_other_contents_are_refused(tmp_path: Path, value: object, said: str) -> None:
    (tmp_path / "x.bin").write_bytes(pickle.dumps(value))
    with pytest.raises(DataError, match=r"x\.bin.*" + said):
        BinPairs(tmp_path / "x.bin")


def test_cut_file_and_missing_file(tmp_path: Path) -> None:
    data = py2_pickle([py2_string(image) for image in IMAGES], SAME)
    for length in (0, 1, 100, len(data) // 2, len(data) - 1):
        (tmp_path / "x.bin").write_bytes(data[:length])
        with pytest.raises(DataError, match="this pickle is not read") as error:
            BinPairs(tmp_path / "x.bin")
        assert "download the file again" in error.value.fix
    with pytest.raises(UserError, match=r"y\.bin, which does not exist") as missing:
        BinPairs(tmp_path / "y.bin")
    assert "KDFACE_DATA" in missing.value.fix


def test_broken_image_and_other_size_name_the_image(tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(pickle.dumps(([png(0), png(1)[:-20], png(2, 96), b""], SAME)))
    faces = BinPairs(tmp_path / "x.bin")
    np.testing.assert_array_equal(faces[0].image, picture(0))
    for index, said in ((1, "the PNG is cut short"), (2, "the crop is 96 high"), (3, "empty")):
        with pytest.raises(DataError, match=rf"x\.bin, image 000000{index}: .*{said}"):
            faces[index]
    assert BinPairs(tmp_path / "x.bin", size=(96, 96))[2].image.shape == (96, 96, 3)


@pytest.mark.skipif("KDFACE_DATA" not in os.environ, reason="needs KDFACE_DATA")
def test_lfw600() -> None:
    faces = BinPairs(Path(os.environ["KDFACE_DATA"]) / "insightface" / "lfw600.bin")
    assert len(faces.same) == 600
    assert int(faces.same.sum()) == 300
    assert faces.same.reshape(10, 2, 30).all(axis=2).tolist() == [[True, False]] * 10  # 30 of each in every fold
    assert faces[1199].image.shape == (112, 112, 3)


def test_small_files_that_ask_for_much_are_refused_at_once() -> None:
    """Lists that double take 90 times as many bytes as they are deep, and 2^90 entries when they are copied; a memo
    entry of a high number makes the reader allocate all below it."""
    nested: list[object] = []
    for _ in range(90):
        nested = [nested, nested]
    wide = [[[True] * 2000] * 2000] * 2000
    for data in (pickle.dumps(nested), pickle.dumps(wide), b"\x80\x02]r\xff\xff\xff\xff.", b"]p4000000000\n."):
        assert len(data) < 12_000
        with pytest.raises(ValueError, match=r"it holds over|it asks for more"):
            load_plain(data)


def test_a_copy_is_compared_with_what_its_publisher_states(
    kdface: Kdface, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "agedb_30.bin").write_bytes(pickle.dumps((IMAGES, SAME)))
    words = ["data", "verify", "agedb_30", "dataset.path=agedb_30.bin"]
    said = kdface(*words)
    assert said.code == 2 and "does not match the published dataset: 2 pairs instead of 6,000" in said.err
    assert kdface(*words, "dataset.name=mine").code == 0
    from kdface.datasets import checks

    monkeypatch.setattr(checks, "published", lambda name: checks.Published({"pairs": 2}, "here", name))
    said = kdface(*words)
    assert said.code == 0 and "as published       2 pairs" in said.out
