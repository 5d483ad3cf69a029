"""Mistakes about where a run lies and what it was made of."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch

from kdface.cli import main
from tests.advice.harness import Row, tiny
from tests.conftest import UNTESTED

_WORDS = [word for word in UNTESTED if not word.startswith("dataset")]
FOLDER = ["train", *_WORDS, "dataset=image_folder", "dataset.root=faces", "dataset.size=[32,32]", "trainer.max_steps=1"]


def _picture(folder: Path, name: str) -> None:
    path = folder / "faces" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.random.default_rng(len(name)).integers(0, 256, (32, 32, 3), dtype=np.uint8))


def _other_data(folder: Path) -> None:
    """A finished run, and one person more than it was trained on."""
    for place in range(16):
        _picture(folder, f"p{place % 4}/{'x' * (place + 1)}.png")
    assert main(FOLDER) == 0
    _picture(folder, "new/x.png")


def _edited(folder: Path) -> None:
    _other_data(folder)
    (config,) = (folder / "runs").rglob("config.yaml")
    config.write_text(config.read_text().replace("lr: 0.01", "lr: 0.5"))


def _teachers(folder: Path) -> None:
    """Weights of a published network: a broken file and a good one."""
    from kdface.backbones import iresnet_nano

    network = iresnet_nano(8, image_size=(32, 32))
    torch.save(network.state_dict(), folder / "good.pt")
    network.state_dict()["bn1.running_var"][0] = -1.0  # its root is NaN
    torch.save(network.state_dict(), folder / "broken.pt")


PUBLISHED = [
    "teacher.backbone._target_=kdface.backbones.iresnet_nano",
    "+teacher.backbone.embedding_size=8",
    "teacher.backbone.image_size=[32,32]",
]
ROWS = [
    tiny("method=distillation", "teacher.run=nowhere", told="there is no run there", run=True),
    Row(
        (
            "train",
            *UNTESTED,
            "trainer.max_steps=1",
            "method=distillation",
            "teacher=weights",
            *PUBLISHED,
            "teacher.weights=broken.pt",
        ),
        "its embeddings hold 8 values of 8 that are not finite",
        set_up=_teachers,
        fill={"FILE": "good.pt"},
        run=True,
    ),
    tiny("name=/abs", told="leads out of paths.runs"),
    tiny("name=../..", told="leads out of paths.runs"),
    Row(tuple(FOLDER), "its data has changed since", set_up=_other_data, run=True),
    Row(tuple(FOLDER), "was edited since it gave the run its name", set_up=_edited, run=True),
]
