import os
import unicodedata
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import pytest

from kdface.datasets.bin_pairs import BinPairs
from kdface.datasets.raw_folder import RawFolder
from kdface.errors import DataError, UserError
from kdface.faces import FaceSet, template_points

HEADER = (
    "file,left_eye_x,left_eye_y,right_eye_x,right_eye_y,nose_x,nose_y,"
    "mouth_left_x,mouth_left_y,mouth_right_x,mouth_right_y"
)
POINTS = np.array([[71.5, 82.5], [116.5, 82.0], [95.0, 105.5], [73.5, 127.5], [113.0, 128.5]])


def photograph(seed: int, height: int = 176, width: int = 192) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 4)
    return cv2.normalize(smooth, np.empty_like(smooth), 0, 255, cv2.NORM_MINMAX).astype(np.uint8)


def row(key: str, points: np.ndarray = POINTS) -> str:
    return key + "," + ",".join(f"{value:.4f}" for value in points.ravel())


class Build(Protocol):
    def __call__(self, keys: list[str], rows: list[str], header: str = HEADER) -> tuple[Path, Path]: ...


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """Write photographs for the keys and a landmark file of the rows given; returns the reader's first arguments."""

    def write(keys: list[str], rows: list[str], header: str = HEADER) -> tuple[Path, Path]:
        for seed, key in enumerate(keys):
            (tmp_path / "raw" / key).parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(tmp_path / "raw" / key), photograph(seed)[..., ::-1])
        (tmp_path / "points.csv").write_text("\n".join([header, *rows]) + "\n")
        return tmp_path / "raw", tmp_path / "points.csv"

    return write


def test_alignment_against_a_slow_one(build: Build) -> None:
    # A known similarity from the crop to the photograph: x -> s R x + t. Landmarks are the template's points
    # under it.
    size, scale, angle, shift = (112, 96), 1.3, 0.2, np.array([40.0, 10.0])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * scale
    landmarks = template_points(size) @ turn.T + shift
    faces = RawFolder(*build(["p/1.png"], [row("p/1.png", landmarks)]), size=size)
    assert isinstance(faces, FaceSet)
    assert faces.preprocessing.size == size
    sample = faces[0]
    assert sample.landmarks is not None
    np.testing.assert_allclose(sample.landmarks, template_points(size), atol=2e-3)

    picture = photograph(0).astype(np.float64)
    y, x = np.mgrid[: size[0], : size[1]]
    at = np.stack([x, y], axis=-1) @ turn.T + shift
    left, top = np.floor(at[..., 0]).astype(int), np.floor(at[..., 1]).astype(int)
    inside = (left >= 0) & (top >= 0) & (left < 191) & (top < 175)
    assert inside.mean() > 0.8
    left, top = left.clip(0, 190), top.clip(0, 174)
    fx, fy = (at[..., 0] - left)[..., None], (at[..., 1] - top)[..., None]
    expected = (picture[top, left] * (1 - fx) + picture[top, left + 1] * fx) * (1 - fy)
    expected += (picture[top + 1, left] * (1 - fx) + picture[top + 1, left + 1] * fx) * fy
    difference = np.abs(sample.image - expected)[inside]
    assert difference.max() < 3  # OpenCV rounds positions to 1/32 pixel


def test_landmarks_follow_the_alignment(build: Build) -> None:
    faces = RawFolder(*build(["p/1.png"], [row("p/1.png")]))
    moved = faces[0].landmarks
    assert moved is not None
    # A similarity keeps ratios of distances, and the least-squares one keeps the centre on the template's.
    ratio = [
        np.linalg.norm(points[1] - points[0]) / np.linalg.norm(points[4] - points[3]) for points in (moved, POINTS)
    ]
    assert ratio[0] == pytest.approx(ratio[1], rel=1e-4)
    np.testing.assert_allclose(moved.mean(0), template_points((112, 112)).mean(0), atol=1e-3)
    assert np.abs(moved - template_points((112, 112))).max() > 0.1


def test_people_keys_and_raw(build: Build) -> None:
    keys = ["Bo_B/1.png", "Ann/2.png", "Ann/1.png", "Ann-Lee/1.png"]
    faces = RawFolder(*build(keys, [row(key) for key in keys]), name="lfw", terms="research only")
    assert (faces.name, faces.terms) == ("lfw", "research only")
    assert list(faces.keys) == ["Ann/1.png", "Ann/2.png", "Ann-Lee/1.png", "Bo_B/1.png"]
    assert list(faces.people) == ["Ann", "Ann-Lee", "Bo_B"]
    assert faces.labels.tolist() == [0, 0, 1, 2]
    image, points = faces.raw(3)
    np.testing.assert_array_equal(image, photograph(0))
    np.testing.assert_allclose(points, POINTS)
    points[:] = 0
    np.testing.assert_allclose(faces.raw(3)[1], POINTS)


def test_subset(build: Build) -> None:
    folder, csv = build(["a/1.png", "b/1.png"], [row("a/1.png"), row("b/1.png")])
    faces = RawFolder(folder, csv, keys=["b/1.png"])
    assert (list(faces.keys), list(faces.people), faces.labels.tolist()) == (["b/1.png"], ["b"], [0])
    with pytest.raises(UserError, match=r"has 'b/2\.png'") as error:
        RawFolder(folder, csv, keys=["b/2.png"])
    assert error.value.nearest == "b/1.png"
    with pytest.raises(UserError, match="keys is empty"):
        RawFolder(folder, csv, keys=[])


def changed(index: int, value: float) -> str:
    points = POINTS.ravel().copy()
    points[index] = value
    return row("b/1.png", points)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ("b/1.png,1,2,3", "line 3: 3 numbers after the file name instead of 10"),
        ("b/1.png" + ",7" * 11, "line 3: 11 numbers"),
        ("b/1.png,ab" + ",7" * 9, "line 3: 'ab' is not a number"),
        (changed(4, np.nan), "line 3: a landmark is not a finite number"),
        (changed(4, np.inf), "line 3: a landmark is not a finite number"),
        (row("b/1.png", np.vstack([POINTS[:1], POINTS[:4]])), "line 3: two landmarks coincide"),
        (
            changed(0, -25.0),
            r"line 3: landmark \(-25, 82.5\) lies outside the image, which is 192 wide and 176 high",
        ),
        (changed(9, 200.0), r"line 3: landmark \(113, 200\) lies outside"),
        (row("b/1.png") + "\n" + row("b/1.png"), "line 4: a second row for b/1.png"),
    ],
)
def test_bad_row_names_file_and_line_on_access_of_its_image(build: Build, bad: str, said: str) -> None:
    faces = RawFolder(*build(["a/1.png", "b/1.png"], [row("a/1.png"), bad]))
    assert faces[0].key == "a/1.png"
    with pytest.raises(DataError, match=r"points\.csv, " + said):
        faces[1]


def test_point_a_little_outside_is_kept(build: Build) -> None:
    # 5 pixels under a photograph 176 high: the chin is cut off, and the detector says where the mouth would
    # be.
    faces = RawFolder(*build(["b/1.png"], [changed(9, 181.0)]))
    assert faces[0].image.shape == (112, 112, 3)


def test_row_without_image_and_image_without_row(build: Build) -> None:
    faces = RawFolder(*build(["a/1.png", "b/1.png"], [row("b/1.png"), row("c/1.png")]))
    assert list(faces.keys) == ["a/1.png", "b/1.png", "c/1.png"]
    with pytest.raises(DataError, match=r"a/1\.png: .*points\.csv has no landmark row"):
        faces[0]
    with pytest.raises(DataError, match=r"points\.csv, line 3: the image .*c/1\.png does not exist"):
        faces[2]


def test_names_of_the_list_may_differ_as_those_of_other_systems_do(tmp_path: Path, build: Build) -> None:
    """Windows line ends and mark, tabs, blank lines, other suffix, zeros and Unicode form: the same images."""
    decomposed = unicodedata.normalize("NFD", "Zoé")
    root, csv = build([f"{decomposed}/{decomposed}_0001.JPG", "Bo/Bo_2.png", "Bo/Bo_12.png"], [])
    rows = [row("Zoé/Zoé_1.jpg"), "", row("Bo/Bo_0002.png"), row("Bo/Bo_0012.jpeg"), ",,,", ""]
    text = "\r\n".join([HEADER, *rows]).replace(",", "\t")
    csv.write_bytes(b"\xef\xbb\xbf" + text.encode())
    faces = RawFolder(root, csv)
    assert list(faces.keys) == ["Bo/Bo_12.png", "Bo/Bo_2.png", f"{decomposed}/{decomposed}_0001.JPG"]
    assert [faces[index].image.shape for index in range(3)] == [(112, 112, 3)] * 3
    assert list(RawFolder(root, csv, keys=["Zoé/Zoé_0001.jpg"]).keys) == [f"{decomposed}/{decomposed}_0001.JPG"]
    csv.write_text("\n".join([HEADER, row("Bo/Bo_2.jpg"), row("Bo/Bo_02.jpg")]), encoding="utf-8")
    with pytest.raises(DataError, match=r"line 3: a second row for Bo/Bo_2\.png"):
        RawFolder(root, csv)


@pytest.mark.parametrize(
    ("rows", "header", "said"),
    [
        ([], HEADER, "no landmark rows"),
        ([row("a/1.png")], HEADER.replace("nose", "chin"), "line 1: the header is 'file,left_eye_x"),
        ([row("a/1.png"), row("1.png")], HEADER, "line 3: '1.png' does not name an image"),
        ([row("../1.png")], HEADER, "line 2: '../1.png' does not name"),
        ([row("")], HEADER, "line 2: '' does not name"),
    ],
)
def test_landmark_file_that_cannot_be_read(build: Build, rows: list[str], header: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        RawFolder(*build(["a/1.png"], rows, header))


def test_missing_landmark_file(build: Build, tmp_path: Path) -> None:
    folder, _ = build(["a/1.png"], [row("a/1.png")])
    with pytest.raises(UserError, match=r"nowhere\.csv, which does not exist") as error:
        RawFolder(folder, tmp_path / "nowhere.csv")
    assert "file,left_eye_x" in error.value.expected


def test_raw_bytes_hold_image_and_landmarks(build: Build) -> None:
    folder, csv = build(["b/1.png"], [row("b/1.png")])
    expected = (folder / "b/1.png").read_bytes() + POINTS.astype("<f4").tobytes()
    assert RawFolder(folder, csv).raw_bytes(0) == expected


@pytest.mark.skipif("KDFACE_DATA" not in os.environ, reason="needs KDFACE_DATA")
def test_lfw_aligned_here_is_lfw_aligned_elsewhere() -> None:
    """The 1,200 crops of lfw600.bin are pairs 1-30 and 301-330 of each LFW fold, aligned by another program."""
    data = Path(os.environ["KDFACE_DATA"])
    pairs = BinPairs(data / "insightface" / "lfw600.bin")
    lines = [line.split() for line in (data / "lfw_pairs.txt").read_text().splitlines()[1:]]
    keys = []
    for fold in range(10):
        block = lines[600 * fold : 600 * (fold + 1)]
        for fields in block[:30] + block[300:330]:
            first, second = (fields[:2], fields[::2]) if len(fields) == 3 else (fields[:2], fields[2:])
            keys += [f"{name}/{name}_{int(number):04d}.jpg" for name, number in (first, second)]
    faces = RawFolder(data / "lfw", data / "lfw_landmarks.csv", keys=keys)
    number = {key: index for index, key in enumerate(faces.keys)}
    difference = [
        np.abs(faces[number[key]].image.astype(int) - pairs[index].image).mean()
        for index, key in list(enumerate(keys))[::4]
    ]
    assert np.median(difference) < 3  # of 255; JPEG noise and interpolation
    assert np.quantile(difference, 0.95) < 10  # a few faces were detected differently
