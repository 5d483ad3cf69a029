"""kdface data: verify, card and preview through the command line."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

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
