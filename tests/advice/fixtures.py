"""Small files that rows work on."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from tests.conftest import TINY, UNTESTED

# A training without its data and its test sets.
BARE = [word for word in UNTESTED if not word.startswith("dataset")]
# A small toy_pairs in place of the whole one.
SMALL = "toy_pairs " + " ".join(word for word in TINY if word.startswith("evaluation.toy_pairs."))
# The same on the crops that `faces` writes.
FOLDER = ["train", *BARE, "dataset=image_folder", "dataset.root=faces", "dataset.size=[32,32]", "trainer.max_steps=1"]


def picture(folder: Path, name: str, height: int = 32, width: int = 32) -> None:
    """One image of noise, another one for each name's length."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(len(name)).integers(0, 256, (height, width, 3), dtype=np.uint8)
    cv2.imwrite(str(path), noise)


def faces(folder: Path) -> None:
    """Four people with four crops each in faces/."""
    for place in range(16):
        picture(folder / "faces", f"p{place % 4}/{'x' * (place + 1)}.png")


def broken(folder: Path) -> None:
    """The same, and one file that is no image."""
    faces(folder)
    (folder / "faces" / "p0" / "x.png").write_bytes(b"no image")


def text(name: str, content: str, encoding: str = "utf-8") -> Callable[[Path], None]:
    """A file of text."""

    def write(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding=encoding)

    return write


def environment(**variables: str) -> Callable[[Path], None]:
    """As another program starts kdface; the attempt puts the variables back."""

    def set_up(folder: Path) -> None:
        del folder
        os.environ.update(variables)

    return set_up


def both(*steps: Callable[[Path], None]) -> Callable[[Path], None]:
    """One after the other."""

    def write(folder: Path) -> None:
        for step in steps:
            step(folder)

    return write
