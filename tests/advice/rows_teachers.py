"""Mistakes with teachers of which only embeddings are there."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from tests.advice.harness import Row
from tests.conftest import UNTESTED


def _embeddings(folder: Path) -> None:
    import numpy as np

    from kdface.datasets import ToyFaces

    faces = [ToyFaces(people, each, size=(32, 32), split=split) for split, people, each in SETS]
    keys = [key for each in faces for key in each.keys]
    np.savez(folder / "e.npz", keys=keys, embeddings=np.random.default_rng(0).normal(size=(len(keys), 8)))


SETS: tuple[tuple[Literal["train", "test"], int, int], ...] = (("train", 6, 6), ("test", 60, 12))
STORED = ("train", *UNTESTED, "trainer.max_steps=1", "teacher=embeddings", "teacher.file=e.npz")


def _row(*words: str, told: str) -> Row:
    return Row((*STORED, *words), told, set_up=_embeddings, run=True)


ROWS = [
    _row("method=maskinv", "method.views.teacher=masked", told="are of the faces as they are"),
    _row("method=aikd", "method.quality_weight=0", told="have no weights"),
    _row("method=distillation", "method.transfer={_target_:kdface.losses.SimilarityTransfer}", told="has none"),
    _row(
        *("method=aikd", "method.start=scratch", "method.check_direction=false"),
        "teacher.quality={_target_:kdface.teachers.quality.FROQ}",
        told="asks a network about images",
    ),
    _row("method=distillation", "head=magface", "evaluation=toy_quality", told="they are of the aligned images"),
    Row(
        ("evaluate", "embeddings=e.npz", "evaluation=toy_pairs", "evaluation.toy_pairs.dataset.people=61"),
        told="have no embedding",
        set_up=_embeddings,
    ),
]
