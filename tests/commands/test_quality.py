"""kdface quality: a score for each image that can be read, and nothing held against those that cannot."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from kdface.assembly.load import load_run
from kdface.cli import main
from tests.conftest import TINY, Kdface, only_run

TOY = [word for word in TINY if not word.startswith("dataset")]


@pytest.fixture(scope="module")
def resized_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained on crops of 64x64 that were shrunk to 32x32, with a head that grades."""
    folder = tmp_path_factory.mktemp("resized")
    (folder / "conf" / "dataset").mkdir(parents=True)
    (folder / "conf" / "dataset" / "shrunk.yaml").write_text(
        "# Shrunk toy faces\n"
        "_target_: kdface.datasets.Resized\n"
        "dataset: {_target_: kdface.datasets.ToyFaces, people: 6, images_per_person: 6, size: [64, 64]}\n"
        "size: [32, 32]\n",
        encoding="utf-8",
    )
    words = ["--config-dir", str(folder / "conf"), "dataset=shrunk", "head=magface", *TOY, "evaluation=none"]
    words = [word for word in words if not word.startswith("evaluation.") and word != "evaluation=toy_pairs"]
    assert main(["train", *words, "trainer.max_steps=1", f"paths.runs={folder}/runs"]) == 0
    return only_run(folder / "runs")


def _drawn(folder: Path, name: str, height: int, width: int, brightest: int) -> NDArray[np.uint8]:
    """Noise, RGB, that is written to the folder."""
    image = np.random.default_rng(0).integers(0, brightest + 1, (height, width, 3), dtype=np.uint8)
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image[..., ::-1])
    return image


def _table(path: Path) -> dict[str, float]:
    with open(path, encoding="utf-8", newline="") as file:
        return {row["key"]: float(row["quality"]) for row in csv.DictReader(file)}


def test_crops_are_resized_as_in_training_and_broken_files_are_left_out(
    kdface: Kdface, resized_run: Path, tmp_path: Path
) -> None:
    faces = tmp_path / "faces"
    large = _drawn(faces, "large.png", 64, 64, 255)
    small = _drawn(tmp_path, "elsewhere/small.png", 32, 32, 40)
    (faces / "deep").symlink_to(tmp_path / "elsewhere")
    _drawn(faces, "wide.png", 32, 64, 255)
    _drawn(faces, ".ipynb_checkpoints/large.png", 64, 64, 255)
    (faces / "cut.png").write_bytes((faces / "large.png").read_bytes()[:200])
    said = kdface("quality", str(faces), f"run={resized_run}", "-o", str(tmp_path / "there"))
    assert said.code == 0, said.err
    # 64 -> 32 by areas is the mean of each 2x2 block, halves rounded up
    shrunk = np.floor(large.reshape(32, 2, 32, 2, 3).mean((1, 3)) + 0.5)
    method = load_run(resized_run).method
    pixels = torch.tensor(np.stack([shrunk, small]), dtype=torch.float32).permute(0, 3, 1, 2)
    with torch.no_grad():
        norms = method.embedder((pixels - 127.5) / 127.5).norm(dim=1).tolist()  # MagFace's quality
    found = _table(tmp_path / "there" / "quality_faces.csv")
    expected = {"large.png": norms[0], "deep/small.png": norms[1]}
    assert found == pytest.approx(expected, rel=1e-4)
    assert abs(norms[0] - norms[1]) > 1e-3 * norms[1]  # or a mix-up would not be seen
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert (tmp_path / "there" / "quality_faces.png").stat().st_size > 0
    assert not list(tmp_path.glob("quality_*"))
    assert "resized  1 images to 32x32" in said.out and "left out  2 broken files" in said.out
    assert "skipped  1 entries that are not images: .ipynb_checkpoints/" in said.out
    assert "cut.png: the PNG is cut short" in said.err
    assert "wide.png: the crop is 32 high, 64 wide. (expected: 32 high, 32 wide)" in said.err


def test_a_pack_grades_as_its_run_does(kdface: Kdface, resized_run: Path, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        _drawn(tmp_path / "faces", name, 32, 32, 100 + ord(name[0]))
    assert kdface("pack", str(resized_run), "-o", "run.zip").code == 0
    for place, graded in (("of_run", resized_run), ("of_pack", "run.zip")):
        said = kdface("quality", "faces", f"run={graded}", "-o", place)
        assert said.code == 0, said.err
    tables = [_table(tmp_path / place / "quality_faces.csv") for place in ("of_run", "of_pack")]
    assert tables[0] == tables[1] and len(set(tables[0].values())) == 2


def test_a_folder_of_broken_files_is_an_error(kdface: Kdface, resized_run: Path, tmp_path: Path) -> None:
    (tmp_path / "faces").mkdir()
    (tmp_path / "faces" / "a.jpg").write_bytes(b"")
    said = kdface("quality", str(tmp_path / "faces"), f"run={resized_run}")
    assert said.code == 2 and "a.jpg: the image is empty" in said.err
    assert not list(tmp_path.glob("quality_*"))


@pytest.mark.parametrize("words", [["a"], ["run=x"], ["a", "b", "run=x"], ["a", "run=x", "--big"]])
def test_mistakes_of_the_command_line(kdface: Kdface, words: list[str]) -> None:
    said = kdface("quality", *words)
    assert said.code == 2 and "kdface quality" in said.err
