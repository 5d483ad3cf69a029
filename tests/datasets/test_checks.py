import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pytest

from kdface.datasets import duplicates, images
from kdface.datasets.checks import Broken, Duplicate, Spread, broken, card, fingerprint, overlap, verify
from kdface.datasets.image_folder import ImageFolder
from kdface.datasets.images import decode, require_whole
from kdface.datasets.raw_folder import RawFolder
from kdface.datasets.recordio import RecordIO
from kdface.datasets.resized import Resized
from kdface.datasets.subset import Subset
from kdface.errors import DataError
from kdface.evaluation import Clustering, PairList, QualityEDC, Quantised, Verification
from kdface.evaluation.protocol import EvaluationProtocol, images_read
from kdface.faces import Preprocessing, Sample, template_points


def picture(seed: int, size: int = 112) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (size, size, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), size / 30)
    return cv2.normalize(smooth, np.empty_like(smooth), 0, 255, cv2.NORM_MINMAX).astype(np.uint8)


Row = tuple[str, np.ndarray | DataError]


@dataclass
class InMemory:
    """(person, image) rows as a set of faces; an error in place of an image is raised on access."""

    rows: Sequence[Row]
    name: str = "memory"
    preprocessing: Preprocessing = field(default_factory=Preprocessing)

    def __post_init__(self) -> None:
        self.people = sorted({person for person, _ in self.rows})
        self.labels = np.array([self.people.index(person) for person, _ in self.rows], dtype=np.int64)
        self.keys = [f"{index}" for index in range(len(self.rows))]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Sample:
        image = self.rows[index][1]
        if isinstance(image, DataError):
            raise image
        return Sample(image, int(self.labels[index]), self.keys[index])


def moved(image: np.ndarray, x: int, y: int) -> np.ndarray:
    return cv2.warpAffine(
        image, np.array([[1, 0, x], [0, 1, y]], np.float32), image.shape[1::-1], borderMode=cv2.BORDER_REPLICATE
    )


def recoded(image: np.ndarray, quality: int) -> np.ndarray:
    data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert decoded is not None
    return decoded


COPIES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "re-encoded": lambda image: recoded(image, 30),
    "brighter": lambda image: np.clip(image * 0.8 + 40, 0, 255).astype(np.uint8),
    "halved": lambda image: cv2.resize(cv2.resize(image, (56, 56), interpolation=cv2.INTER_AREA), (112, 112)),
    "shifted": lambda image: moved(image, 2, -1),
    "all": lambda image: recoded(np.clip(moved(image, -1, 1) * 0.9 + 10, 0, 255).astype(np.uint8), 60),
}


def test_broken_images_are_listed_and_the_rest_is_counted() -> None:
    rows: list[Row] = [
        ("ada", picture(0)),
        ("ada", DataError("a.jpg: cut short.")),
        ("bo", picture(1)),
        ("ada", picture(2, 96)),
    ]
    rows += [("bo", picture(3)[..., 0]), ("bo", picture(4).astype(np.float32)), ("cy", picture(5))]
    told: list[tuple[int, int]] = []
    found = verify(InMemory(rows), progress=lambda done, total: told.append((done, total)))
    assert [broken.key for broken in found.broken] == ["1", "3", "4", "5"]
    assert found.broken[0].reason == "a.jpg: cut short."
    assert "(96, 96, 3)" in found.broken[1].reason
    assert not found.usable
    assert (found.name, found.images, found.people) == ("memory", 7, 3)
    assert found.images_per_person == Spread(1, 3.0, 3)
    assert found.duplicates == ()
    assert told == [(done, 7) for done in range(1, 8)]


def test_whole_set_is_usable(tmp_path: Path) -> None:
    for person in ("ada", "bo"):
        (tmp_path / person).mkdir()
        cv2.imwrite(str(tmp_path / person / "1.png"), picture(ord(person[0])))
    (tmp_path / "bo" / "list.txt").write_text("")
    found = verify(ImageFolder(tmp_path))
    assert found.usable
    assert found.passed_over == ("bo/list.txt",)


def test_equal_pixels_are_exact_duplicates_and_listed_once_each() -> None:
    rows = [
        ("ada", picture(0)),
        ("bo", picture(1)),
        ("ada", picture(0)),
        ("bo", picture(0)),
        ("bo", picture(1)),
    ]
    found = verify(InMemory(rows)).duplicates
    assert found == (
        Duplicate("0", "3", "ada", "bo", 1.0, True),  # across people first
        Duplicate("0", "2", "ada", "ada", 1.0, True),
        Duplicate("1", "4", "bo", "bo", 1.0, True),
    )
    assert [pair.across_people for pair in found] == [True, False, False]


@pytest.mark.parametrize("copy", COPIES)
def test_changed_copies_are_near_duplicates_and_others_are_not(copy: str) -> None:
    rows = [(f"person {seed % 5}", picture(seed)) for seed in range(30)]
    rows.append(("someone", COPIES[copy](picture(17))))
    found = verify(InMemory(rows)).duplicates
    assert [(pair.first, pair.second) for pair in found] == [("17", "30")]
    assert not found[0].exact
    assert found[0].across_people
    assert 0.85 <= found[0].correlation <= 1


def test_more_images_than_one_block_of_the_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "_BLOCK", 4)
    rows = [("p", picture(seed)) for seed in range(10)] + [
        ("q", COPIES["shifted"](picture(seed))) for seed in (9, 0, 5)
    ]
    pairs = {(pair.first, pair.second) for pair in verify(InMemory(rows)).duplicates}
    assert pairs == {("9", "10"), ("0", "11"), ("5", "12")}
    shared = overlap(InMemory(rows[:10]), InMemory(rows[10:])).images
    assert {(pair.first, pair.second) for pair in shared} == {("9", "0"), ("0", "1"), ("5", "2")}


def test_correlation_against_a_slow_one() -> None:
    first, second = (duplicates.thumbnail(picture(seed)) for seed in (1, 2))
    second = (0.7 * first + 0.3 * second).astype(np.uint8)

    def high(thumbnail: np.ndarray) -> np.ndarray:
        return thumbnail.astype(np.float64) - cv2.GaussianBlur(thumbnail.astype(np.float64), (0, 0), 4.0)

    side, shift = duplicates.SIDE, duplicates.SHIFT
    middle = high(second)[shift : side - shift, shift : side - shift].ravel()
    best = max(
        np.corrcoef(high(first)[y : y + side - 2 * shift, x : x + side - 2 * shift].ravel(), middle)[0, 1]
        for y in range(2 * shift + 1)
        for x in range(2 * shift + 1)
    )
    assert duplicates.correlation(first, second) == pytest.approx(best, abs=1e-4)


def test_copies_cut_five_thumbnail_pixels_apart_are_alike() -> None:
    wide = picture(3, 74)[..., 0]
    first, second = wide[5:69, 5:69], wide[0:64, 10:74]
    assert duplicates.correlation(first, second) > 0.95
    assert duplicates.correlation(first, wide[10:74, 0:64]) > 0.95
    assert duplicates.correlation(first, picture(4, 74)[5:69, 5:69, 0]) < 0.5


def test_flat_images_are_like_nothing() -> None:
    rows = [("ada", np.full((112, 112, 3), value, np.uint8)) for value in (10, 11, 200)]
    assert verify(InMemory(rows)).duplicates == ()
    flat = np.full((duplicates.SIDE, duplicates.SIDE), 7, np.uint8)
    assert duplicates.correlation(duplicates.thumbnail(picture(0)), flat) == 0


def test_splits_and_people_in_two_of_them() -> None:
    rows = [(person, picture(seed)) for seed, person in enumerate(["ada", "ada", "bo", "cy", "cy", "cy"])]
    found = verify(InMemory(rows), splits={"train": [0, 1, 2], "validation": [3, 4], "test": []})
    assert [(split.name, split.images, split.people) for split in found.splits] == [
        ("train", 3, 2),
        ("validation", 2, 1),
        ("test", 0, 0),
    ]
    assert found.people_in_two_splits == ()
    assert found.usable
    mixed = verify(InMemory(rows), splits={"train": [0, 2, 3], "validation": [1, 4]})
    assert mixed.people_in_two_splits == ("ada", "cy")
    assert not mixed.usable


def test_keys_and_labels_must_be_right() -> None:
    faces = InMemory([("ada", picture(0)), ("bo", picture(1))])
    faces.keys = ["0", "0"]
    with pytest.raises(DataError, match="2 images have 1 different keys"):
        verify(faces)
    for labels in ([0, 2], [-1, 0], [0]):
        faces = InMemory([("ada", picture(0)), ("bo", picture(1))])
        faces.labels = np.array(labels)
        with pytest.raises(DataError, match="one index into 2 people"):
            verify(faces)


def test_overlap_by_name_and_by_photograph() -> None:
    training = [
        ("Aaron_Eckhart", picture(0)),
        ("zoë kravitz", picture(1)),
        ("17", picture(2)),
        ("Bo", picture(3)),
    ]
    test = [
        ("aaron eckhart", picture(4)),
        ("Zoe-Kravitz", COPIES["all"](picture(3))),
        ("17", picture(2)),
        ("?", picture(5)),
    ]
    told: list[tuple[int, int]] = []
    found = overlap(InMemory(training, "train"), InMemory(test, "test"), lambda done, total: told.append((done, total)))
    assert (found.first, found.second) == ("train", "test")
    assert found.people == (("Aaron_Eckhart", "aaron eckhart"), ("zoë kravitz", "Zoe-Kravitz"))
    assert found.unnamed == 3  # "17" twice and "?"
    exact, near = found.images
    assert exact == Duplicate("2", "2", "17", "17", 1.0, True)
    assert (near.first, near.second, near.exact) == ("3", "1", False)
    assert (near.first_person, near.second_person) == ("Bo", "Zoe-Kravitz")
    assert told == [(done, 8) for done in range(1, 9)]


def test_overlap_goes_on_past_broken_images() -> None:
    broken = DataError("x: broken.")
    found = overlap(
        InMemory([("ada", broken), ("ada", picture(0))]),
        InMemory([("bo", picture(0)), ("bo", broken), ("bo", broken)]),
    )
    assert [(pair.first, pair.second) for pair in found.images] == [("1", "0")]
    assert [image.key for image in found.broken] == ["0", "1", "2"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for person, seeds in (("ada", (0, 1)), ("bo", (2,))):
        (tmp_path / "faces" / person).mkdir(parents=True)
        for seed in seeds:
            cv2.imwrite(str(tmp_path / "faces" / person / f"{seed}.png"), picture(seed))
    return tmp_path / "faces"


def test_fingerprint_against_its_definition(folder: Path) -> None:
    rows = []
    for path in folder.glob("*/*.png"):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        rows.append(f"{path.parent.name}/{path.name}\0{path.parent.name}\0{digest}\n")
    expected = hashlib.sha256("".join(sorted(rows)).encode()).hexdigest()
    assert fingerprint(ImageFolder(folder)) == expected
    elsewhere = folder.rename(folder.with_name("moved"))
    assert fingerprint(ImageFolder(elsewhere, terms="other")) == expected


def test_fingerprint_changes_with_a_byte_a_label_and_a_key(folder: Path) -> None:
    seen = {fingerprint(ImageFolder(folder))}
    path = folder / "ada" / "0.png"
    path.write_bytes(path.read_bytes() + b"\0")  # pixels are the same
    seen.add(fingerprint(ImageFolder(folder)))
    path.rename(folder / "bo" / "0.png")
    seen.add(fingerprint(ImageFolder(folder)))
    (folder / "bo" / "0.png").rename(folder / "bo" / "3.png")
    faces = ImageFolder(folder)
    seen.add(fingerprint(faces))
    (folder / "bo" / "3.png").unlink()  # gone since the set was opened
    seen.add(fingerprint(faces))
    assert len(seen) == 5


def test_fingerprint_without_files() -> None:
    rows = [("ada", picture(0)), ("bo", picture(1))]
    first = fingerprint(InMemory(rows))
    assert fingerprint(InMemory(rows, name="other")) == first
    turned = InMemory(rows[::-1])
    turned.keys = ["1", "0"]
    assert fingerprint(turned) == first
    swapped = InMemory(rows)
    swapped.labels = np.array([1, 0])
    changed = picture(0)
    changed[50, 50, 1] ^= 1
    flat = InMemory([("ada", picture(0).reshape(56, 224, 3)), rows[1]])
    others = [swapped, InMemory([("ada", changed), rows[1]]), flat]
    assert len({first, *map(fingerprint, others)}) == 4


def test_fingerprint_covers_landmarks(folder: Path) -> None:
    parts = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
    header = ",".join(["file", *(f"{part}_{axis}" for part in parts for axis in "xy")])
    csv = folder.with_name("points.csv")
    found = set()
    for nudge in (0, 0.25):
        points = template_points((112, 112)).ravel() + np.eye(10)[3] * nudge
        rows = [
            f"{key}," + ",".join(f"{value:.3f}" for value in points) for key in ("ada/0.png", "ada/1.png", "bo/2.png")
        ]
        csv.write_text("\n".join([header, *rows]))
        found.add(fingerprint(RawFolder(folder, csv)))
    assert len(found) == 2


def test_card(folder: Path) -> None:
    faces = ImageFolder(folder, name="mini", terms="research only")
    told = json.loads(json.dumps(card(faces)))
    assert told == {
        "name": "mini",
        "images": 3,
        "people": 2,
        "images_per_person": {"minimum": 1, "median": 1.5, "maximum": 2},
        "preprocessing": {
            "template": "arcface",
            "size": [112, 112],
            "color": "rgb",
            "mean": 127.5,
            "std": 127.5,
        },
        "terms": "research only",
        "fingerprint": fingerprint(faces),
    }


def test_card_of_unknown_people() -> None:
    told = card(InMemory([("?", picture(0)), ("?", picture(1))]))
    assert (told["images"], told["people"], told["terms"]) == (2, 0, "")
    assert told["images_per_person"] == {"minimum": 0, "median": 0.0, "maximum": 0}


@pytest.mark.skipif("KDFACE_DATA" not in os.environ, reason="needs KDFACE_DATA")
def test_real_faces_of_different_people_are_no_duplicates_and_shared_images_are_found() -> None:
    data = Path(os.environ["KDFACE_DATA"])
    records = RecordIO(data / "insightface")
    folder = ImageFolder(data / "pins90", people=list(records.people)[:4])
    assert not any(pair.across_people for pair in verify(folder).duplicates)
    shared = overlap(folder, records)
    assert len(shared.people) == 4
    assert sum(pair.exact for pair in shared.images) == 40  # ten images of each are in the record file
    assert not any(pair.across_people for pair in shared.images)


@pytest.mark.skipif("KDFACE_DATA" not in os.environ, reason="needs KDFACE_DATA")
def test_a_known_label_error_of_lfw_is_found() -> None:
    """Emmy_Rossum_0001 and Eva_Amurri_0001 are one photograph (LFW's errata)."""
    data = Path(os.environ["KDFACE_DATA"])
    keys = [f"{name}/{name}_0001.jpg" for name in ("Emmy_Rossum", "Eva_Amurri", "AJ_Cook", "Abel_Pacheco")]
    found = verify(RawFolder(data / "lfw", data / "lfw_landmarks.csv", keys=keys)).duplicates
    assert [(pair.first_person, pair.second_person) for pair in found] == [("Emmy_Rossum", "Eva_Amurri")]


@pytest.fixture
def damaged(tmp_path: Path) -> ImageFolder:
    """Seven crops of two people: three whole ones, and one of each kind of damage."""
    for person in ("ada", "bo"):
        (tmp_path / person).mkdir()
    whole = cv2.imencode(".jpg", picture(0))[1].tobytes()
    for name, content in {
        "ada/1.jpg": whole,
        "ada/2.png": cv2.imencode(".png", picture(1))[1].tobytes(),
        "ada/gone.jpg": whole,
        "ada/short.jpg": whole[:-50],
        "bo/1.webp": cv2.imencode(".webp", picture(2))[1].tobytes(),
        "bo/inside.jpg": whole[:-400] + bytes(398) + whole[-2:],
        "bo/large.bmp": cv2.imencode(".bmp", picture(3, 96))[1].tobytes(),
    }.items():
        (tmp_path / name).write_bytes(content)
    faces = ImageFolder(tmp_path)
    (tmp_path / "ada/gone.jpg").unlink()
    return faces


def test_files_are_checked_before_they_are_decoded(damaged: ImageFolder) -> None:
    told: list[tuple[int, int]] = []
    found = broken(damaged, progress=lambda done, of: told.append((done, of)))
    assert [image.key for image in found] == ["ada/gone.jpg", "ada/short.jpg", "bo/large.bmp"]
    assert told == [(position, 7) for position in range(1, 8)]
    assert "96 high, 96 wide" in found[2].reason
    assert broken(damaged, ["bo/1.webp", "ada/short.jpg", "ada/short.jpg", "cy/1.jpg"]) == (
        found[1],
        Broken("cy/1.jpg", f"{damaged.name} has no image cy/1.jpg."),
    )
    for beneath in (Resized(damaged, (56, 56)), Subset(damaged, 2)):
        assert broken(beneath) == found


def test_a_full_check_decodes(damaged: ImageFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    monkeypatch.setattr(ImageFolder, "__getitem__", lambda faces, index: read.append(faces.keys[index]))
    assert broken(damaged) and not read
    assert not broken(damaged, full=True)
    assert read == list(damaged.keys)
    rows: list[Row] = [("ada", picture(0)), ("ada", DataError("a.jpg: cut short."))]
    assert broken(InMemory(rows)) == ()
    assert broken(InMemory(rows), full=True) == (Broken("1", "a.jpg: cut short."),)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp"])
def test_a_header_says_the_size_before_anything_is_decoded(suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = cv2.imencode(suffix, picture(0)[:, :80])[1].tobytes()
    monkeypatch.setattr(cv2, "imdecode", None)
    require_whole(data, "a", (112, 80))
    with pytest.raises(DataError, match="112 high, 80 wide"):
        require_whole(data, "a", (112, 112))
    monkeypatch.setattr(images, "MOST_PIXELS", 112 * 80 - 1)
    with pytest.raises(DataError, match="claims 112 x 80 pixels"):
        decode(data, "a")


def test_lossless_webp_and_webp_with_alpha_say_their_size() -> None:
    lossless = cv2.imencode(".webp", picture(0)[:, :80], [cv2.IMWRITE_WEBP_QUALITY, 101])[1].tobytes()
    alpha = cv2.imencode(
        ".webp", np.dstack([picture(0)[:, :80], np.tri(112, 80, dtype=np.uint8) * 9]), [cv2.IMWRITE_WEBP_QUALITY, 80]
    )[1].tobytes()
    assert {lossless[12:16], alpha[12:16]} == {b"VP8L", b"VP8X"}
    for data in (lossless, alpha):
        with pytest.raises(DataError, match="112 high, 80 wide"):
            require_whole(data, "a", (9, 9))


def test_a_pipe_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "ada").mkdir()
    os.mkfifo(tmp_path / "ada" / "1.jpg")
    with pytest.raises(DataError, match="not a file"):
        ImageFolder(tmp_path)[0]


def test_only_the_images_that_a_test_reads_are_checked(damaged: ImageFolder) -> None:
    pairs = PairList(("ada/1.jpg", "ada/1.jpg"), ("ada/2.png", "bo/1.webp"), np.array([True, False]), None)
    test = Verification(damaged, pairs)
    edges: list[EvaluationProtocol] = [
        test,
        Verification(damaged, pairs, probes=Resized(damaged, (112, 112))),
        QualityEDC(test),
        Quantised(test),
    ]
    for protocol in edges:
        read = images_read(protocol)
        assert [len(keys) for _, keys in read] == ([3] if len(protocol.datasets) == 1 else [1, 2])
        assert not any(broken(faces, keys) for faces, keys in read)
    assert [keys for _, keys in images_read(Clustering(damaged))] == [sorted(damaged.keys)]
