"""kdface data align: crops by landmarks or a detector, and what is said of photographs elsewhere."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from kdface.datasets import RawFolder
from kdface.datasets import detector as room
from kdface.datasets.detector import Face
from kdface.faces import ARCFACE_112, Image
from tests.conftest import UNTESTED, Kdface


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Noise of several sizes; the first pixel says how many faces the detector below finds."""
    for number, key in enumerate(["ann/1.png", "ann/2.png", "bob/1.png", "bob/1.jpg"]):
        path = tmp_path / "photos" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(number).integers(0, 256, (150, 160 + 20 * number, 3), dtype=np.uint8)
        noise[:8, :8] = (0, 80, 160, 240)[number]
        assert cv2.imwrite(str(path), noise)
    (tmp_path / "photos" / "bob" / "cut.png").write_bytes(b"")
    return tmp_path / "photos"


def _points(rows: dict[str, float], path: Path) -> Path:
    """Landmarks: the template, shifted."""
    parts = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
    lines = [",".join(["file", *(f"{part}_{axis}" for part in parts for axis in "xy")])]
    lines += [",".join([key, *(f"{value:.4f}" for value in (ARCFACE_112 + by).ravel())]) for key, by in rows.items()]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_crops_by_landmarks_are_those_of_raw_folder(kdface: Kdface, photographs: Path, tmp_path: Path) -> None:
    points = _points({"ann/1.png": 8.25, "bob/1.png": 20.5, "bob/1.jpg": 3}, tmp_path / "points.csv")
    said = kdface("data", "align", "photos", "-o", "crops", f"landmarks={points}")
    assert said.code == 0, said.err
    crops = tmp_path / "crops"
    assert sorted(file.relative_to(crops).as_posix() for file in crops.rglob("*.png")) == [
        "ann/1.png",
        "bob/1.jpg.png",
        "bob/1.png.png",
        "contact_sheet.png",
    ]
    expected = RawFolder(photographs, points, keys=["ann/1.png"])[0].image
    found = cv2.imread(str(crops / "ann" / "1.png"))
    assert found is not None
    np.testing.assert_array_equal(found[..., ::-1], expected)
    with open(crops / "left_out.csv", encoding="utf-8", newline="") as file:
        reasons = {row["file"]: row["reason"] for row in csv.DictReader(file)}
    assert reasons.keys() == {"ann/2.png", "bob/cut.png"} and "no landmark row" in reasons["ann/2.png"]
    # the landmarks that are written are read again, and cut the same crops
    again = RawFolder(photographs, crops / "landmarks.csv", keys=["bob/1.jpg"])[0].image
    assert np.abs(again.astype(int) - RawFolder(photographs, points, keys=["bob/1.jpg"])[0].image).max() <= 1
    assert "3 crops of 112x112" in said.out and "2 photographs without a crop" in said.out
    said = kdface("data", "align", "photos", "-o", "crops", f"landmarks={points}")
    assert said.code == 2 and "not empty" in said.err


def test_a_detector_takes_the_largest_face(
    kdface: Kdface, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Fake:
        """Finds as many faces as the first pixel says, the largest first, shifted by a pixel each."""

        def __init__(self, model: Path) -> None:
            assert model == Path("yunet.onnx")

        def __call__(self, image: Image) -> list[Face]:
            count = round(float(image[2, 2, 0]) / 80)
            return [Face((ARCFACE_112 + 5 + number).astype(np.float32), 100.0 - number, 0.9) for number in range(count)]

    monkeypatch.setattr(room, "YuNet", Fake)
    said = kdface("data", "align", "photos", "-o", "crops", "detector=yunet.onnx", "size=[56,56]")
    assert said.code == 0, said.err
    crop = cv2.imread(str(tmp_path / "crops" / "ann" / "2.png"))
    assert crop is not None and crop.shape == (56, 56, 3)
    with open(tmp_path / "crops" / "left_out.csv", encoding="utf-8", newline="") as file:
        rows = {row["file"]: (row["faces"], row["reason"]) for row in csv.DictReader(file)}
    assert rows["ann/1.png"] == ("", "ann/1.png: no face was found.")
    assert {key: rows[key][0] for key in ("bob/1.png", "bob/1.jpg")} == {"bob/1.png": "2", "bob/1.jpg": "3"}
    with open(tmp_path / "crops" / "landmarks.csv", encoding="utf-8", newline="") as file:
        assert [row["file"] for row in csv.DictReader(file)] == ["ann/2.png", "bob/1.jpg", "bob/1.png"]
    assert "2 with several faces" in said.out


def test_rows_of_yunet_become_landmarks_as_seen() -> None:
    """OpenCV's order: box, right eye, left eye, nose, right and left mouth corner of the person, score."""
    seen = ARCFACE_112 / 2
    row = np.array([1, 2, 30, 40, *seen.ravel(), 0.9], dtype=np.float32)
    face = room._face(row, 2.0, 2.0)
    np.testing.assert_allclose(face.points, ARCFACE_112, rtol=1e-6)
    assert face.area == 30 * 2 * 40 * 2 and face.score == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["photos", "-o", "crops"], "give one source of landmarks"),
        (["photos", "landmarks=a.csv"], "no output folder given"),
        (["photos", "-o", "crops", "detector=gone.onnx"], "no such file"),
        (["photos", "-o", "crops", "detector=photos/ann/1.png"], "is not a YuNet"),
        (["photos", "-o", "crops", "detector=a", "size=[0,112]"], "size"),
    ],
)
def test_mistakes(kdface: Kdface, photographs: Path, words: list[str], told: str) -> None:
    said = kdface("data", "align", *words)
    assert said.code == 2 and told in said.err, said.err
    assert not (photographs.parent / "crops").exists()


def test_training_on_photographs_names_the_command_before_a_folder_is_made(
    kdface: Kdface, photographs: Path, tmp_path: Path
) -> None:
    words = [word for word in UNTESTED if not word.startswith("dataset")]
    for skip in ([], ["dataset.on_error=skip"]):
        said = kdface(
            *("train", *words, "loader.batch_size=2", "dataset=image_folder", f"dataset.root={photographs}", *skip)
        )
        assert said.code == 2 and "not aligned crops" in said.err and "kdface data align" in said.err, said.err
    assert not (tmp_path / "runs").exists()
    for action in ("verify", "preview"):
        said = kdface("data", action, "image_folder", f"dataset.root={photographs}")
        assert said.code == 2 and "kdface data align" in said.err
