"""Mistakes with teachers of which only embeddings are there."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from tests.advice.fixtures import SMALL
from tests.advice.row import Row
from tests.conftest import UNTESTED


def _embeddings(folder: Path) -> None:
    import numpy as np

    from kdface.datasets import ToyFaces

    faces = [ToyFaces(people, each, size=(32, 32), split=split) for split, people, each in SETS]
    keys = [key for part in faces for key in part.keys]
    np.savez(folder / "e.npz", keys=keys, embeddings=np.random.default_rng(0).normal(size=(len(keys), 8)))


SETS: tuple[tuple[Literal["train", "test"], int, int], ...] = (("train", 6, 6), ("test", 60, 12))
FACENET = (
    "method=facenet",
    "head=none",
    "method.people_per_batch=2",
    "method.images_per_person=4",
    "trainer.max_steps=1",
)
STORED = ("train", *UNTESTED, "trainer.max_steps=1", "teacher=embeddings", "teacher.file=e.npz")


def _row(*words: str, told: str) -> Row:
    return Row((*STORED, *words), told, set_up=_embeddings, run=True)


def _weights(folder: Path) -> None:
    import torch

    from kdface.backbones import iresnet_nano

    _embeddings(folder)
    network = iresnet_nano(8, image_size=(32, 32), channels=(8, 8, 8, 8), blocks=(1, 1, 1, 1))
    torch.save(network.state_dict(), folder / "network.pt")


ROWS = [
    Row(("train", *UNTESTED, "trainer.max_steps=1", "freeze=[backbone.layr1]"), told="freeze names", run=True),
    Row(
        ("train", *UNTESTED, *FACENET, "freeze=[backbone]"),
        told="leaves nothing to train",
        run=True,
    ),
    Row(
        (*STORED, "method=aikd", "method.quality_weight=0", "weights=file", "weights.file=network.pt"),
        told="and weights both initialise",
        set_up=_weights,
        run=True,
    ),
    _row("method=maskinv", "method.views.teacher=masked", told="belong to the unchanged faces"),
    _row("method=aikd", "method.quality_weight=0", told="have no weights"),
    _row("method=distillation", "method.transfer={_target_:kdface.losses.SimilarityTransfer}", told="has none"),
    _row(
        *("method=aikd", "method.start=scratch", "method.check_direction=false"),
        "teacher.quality={_target_:kdface.teachers.quality.FROQ}",
        told="needs a network, but",
    ),
    _row("method=distillation", "head=magface", "evaluation=toy_quality", told="which are of the aligned images"),
    Row(
        ("evaluate", "embeddings=e.npz", "evaluation=none"),
        "no evaluation is selected",
        set_up=_embeddings,
        fill={"CHOICE": SMALL},
    ),
    Row(
        ("evaluate", "embeddings=e.npz", *f"evaluation={SMALL}".split(), "evaluation.toy_pairs.dataset.people=600"),
        told="have no embedding",
        set_up=_embeddings,
    ),
]
