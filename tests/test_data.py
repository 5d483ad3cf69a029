"""kdface data: verify, card and preview through the command line."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from kdface.datasets.landmarks import HEADER
from kdface.faces import ARCFACE_112
from tests.conftest import Kdface


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    """Two folders of three people with four images each; one person is in both."""
    for name, people in {"a": ["ann", "bob", "carl"], "b": ["Carl", "dora", "eve"]}.items():
        for number, person in enumerate(people):
            for index in range(4):
                path = tmp_path / name / person / f"{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                noise = np.random.default_rng(ord(name) * 100 + number * 10 + index)
                cv2.imwrite(str(path), noise.integers(0, 256, (112, 112, 3), dtype=np.uint8))
    return tmp_path


def test_verify_counts_people_and_tells_broken_images_by_name(kdface: Kdface, faces: Path) -> None:
    said = kdface("data", "verify", "image_folder", f"dataset.root={faces}/a")
    assert said.code == 0
    assert "12 images of 3 people" in said.out and "fingerprint" in said.out
    (faces / "a" / "bob" / "2.png").write_bytes(b"not an image")
    said = kdface("data", "verify", "image_folder", f"dataset.root={faces}/a")
    assert said.code == 2
    assert "bob/2.png" in said.out and "1 of 12 images" in said.err


def test_the_name_of_a_run_is_refused_and_a_datasets_own_is_taken(kdface: Kdface, faces: Path) -> None:
    words = ("data", "verify", "image_folder", f"dataset.root={faces}/a")
    said = kdface(*words, "name=mine")
    assert said.code == 2 and "dataset.name=mine" in said.err and not said.out
    said = kdface(*words, "dataset.name=mine")
    assert said.code == 0 and said.out.startswith("mine: 12 images")


def test_verify_of_two_compares_each_with_its_own_overrides(kdface: Kdface, faces: Path) -> None:
    words = ["image_folder", f"dataset.root={faces}/a", "image_folder", f"dataset.root={faces}/b"]
    said = kdface("data", "verify", *words)
    assert said.code == 0
    assert "people in both       1" in said.out and "carl = Carl" in said.out


def test_the_cards_fingerprint_changes_with_any_byte(kdface: Kdface, faces: Path) -> None:
    words = ("data", "card", "image_folder", f"dataset.root={faces}/a")
    before = kdface(*words).out
    assert "images_per_person.median" in before
    assert kdface(*words).out == before
    path = faces / "a" / "ann" / "0.png"
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(bytes(content))
    assert kdface(*words).out != before


def test_preview_writes_a_contact_sheet_of_the_views(kdface: Kdface, faces: Path) -> None:
    said = kdface("data", "preview", "image_folder", f"dataset.root={faces}/a", "augmentation.photometric=1.0")
    assert said.code == 0
    sheet = cv2.imread(str(faces / "preview_a.png"))
    assert sheet is not None and sheet.shape[0] > 3 * 112 and sheet.shape[1] > 8 * 112


@pytest.fixture
def photographs(tmp_path: Path) -> tuple[Path, Path]:
    """Photographs of two people in two sizes, and their landmarks, one row with left and right exchanged."""
    rows = [",".join(HEADER)]
    for number, key in enumerate(["ann/1.png", "ann/2.png", "bob/1.png", "bob/2.png"]):
        path = tmp_path / "photos" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        size = (150, 160 if number else 140)
        noise = np.random.default_rng(number).integers(0, 256, (*size, 3), dtype=np.uint8)
        assert cv2.imwrite(str(path), noise)
        points = ARCFACE_112[[1, 0, 2, 4, 3]] if key == "bob/2.png" else ARCFACE_112
        rows.append(",".join([key, *(f"{value:.2f}" for value in points.ravel())]))
    (tmp_path / "points.csv").write_text("\n".join(rows), encoding="utf-8")
    return tmp_path / "photos", tmp_path / "points.csv"


@pytest.mark.parametrize("action", ["verify", "preview"])
def test_photographs_that_are_no_aligned_crops_are_said_to_be_none(
    kdface: Kdface, photographs: tuple[Path, Path], action: str
) -> None:
    """The advice works: with landmarks the same folder is looked at."""
    words = ["data", action, "image_folder", f"dataset.root={photographs[0]}"]
    said = kdface(*words)
    assert said.code == 2 and "not aligned" in said.err and "restore or remove" not in said.err
    fix = said.err.split("dataset=raw_folder")[1].split()[:2]
    assert fix == ["dataset.root=FOLDER", "dataset.landmarks=FILE"]
    said = kdface(
        *words[:3], "dataset=raw_folder", f"dataset.root={photographs[0]}", f"dataset.landmarks={photographs[1]}"
    )
    assert said.code == (2 if action == "verify" else 0)
    if action == "verify":
        assert "implausible landmarks  1" in said.out and "bob/2.png: left and right are exchanged" in said.out
        assert "1 of 4 images of photos have implausible landmarks" in said.err


def test_crops_of_one_other_size_only_want_their_size(kdface: Kdface, faces: Path) -> None:
    words = ["data", "verify", "image_folder", f"dataset.root={faces}/a"]
    said = kdface(*words, "dataset.size=[96,96]")
    assert said.code == 2 and "12 of 12 images of a are not aligned crops of 96x96: they are 112x112" in said.err
    assert "dataset.size=[112,112]" in said.err
    assert kdface(*words, "dataset.size=[112,112]").code == 0


@pytest.mark.parametrize("words", [["augmentation=periocular"], ["method=maskinv"], ["experiment=maskinv/small_hg"]])
def test_preview_needs_neither_method_nor_teacher(kdface: Kdface, faces: Path, words: list[str]) -> None:
    said = kdface("data", "preview", "image_folder", f"dataset.root={faces}/a", *words)
    assert said.code == 0, said.err
