"""Tiny runs that several tests of the recogniser share."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest

from kdface.cli import main
from kdface.datasets import ToyFaces
from tests.conftest import TINY, UNTESTED, only_run

SIZE = (32, 32)
# Tested on enough pairs to resolve a FAR of 1e-2.
TESTED = [
    *TINY,
    "evaluation.toy_pairs.dataset.people=12",
    "evaluation.toy_pairs.dataset.images_per_person=6",
    "evaluation.toy_pairs.pairs_per_fold=120",
]


def write_faces(root: Path, people: int = 3, images: int = 4, size: tuple[int, int] = SIZE) -> Path:
    """Generated crops, one folder a person."""
    faces = ToyFaces(people=people, images_per_person=images, size=size, seed=5)
    for index in range(len(faces)):
        sample = faces[index]
        path = root / faces.people[sample.label] / f"{index:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), sample.image[..., ::-1])
    return root


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps that grades (head=magface), tested on 240 pairs."""
    runs = tmp_path_factory.mktemp("recogniser")
    assert main(["train", *TESTED, "head=magface", "trainer.max_steps=2", f"paths.runs={runs}"]) == 0
    return only_run(runs)


@pytest.fixture(scope="session")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_faces(tmp_path_factory.mktemp("crops"))


def trained(runs: Path, *words: str) -> Path:
    """A run of one step, tested on nothing."""
    assert main(["train", *UNTESTED, *words, "trainer.max_steps=1", f"paths.runs={runs}"]) == 0
    return only_run(runs)
