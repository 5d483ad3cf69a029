"""Mistakes in the use of a trained network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from kdface.cli import main
from tests.advice.fixtures import BARE, picture
from tests.advice.row import Row, copied


def _pictures(folder: Path, height: int = 32, width: int = 32) -> None:
    for name in ("a/1.png", "a/2.png", "b/1.png", "b/2.png"):
        picture(folder, name, height, width)


def _ready(*more: Callable[[Path], None]) -> Callable[[Path], None]:
    """The run in run/ and crops in faces/, and what a row needs besides."""

    def set_up(folder: Path) -> None:
        copied(folder)
        _pictures(folder / "faces")
        for step in more:
            step(folder)

    return set_up


def _embedded_otherwise(folder: Path) -> None:
    assert main(["embed", "faces", "run=run", "-o", "out.npz", "mirror=false"]) == 0


def _embedded_earlier(folder: Path) -> None:
    """Written before the bytes of the images were recorded."""
    assert main(["embed", "faces", "run=run", "-o", "out.npz"]) == 0
    with np.load(folder / "out.npz") as made:
        kept = {key: made[key] for key in made.files if key != "digests"}
    np.savez(folder / "out.npz", **kept)


def _embedded_others(folder: Path) -> None:
    picture(folder / "others", "a/1.png", 32, 32)
    (folder / "others" / "a" / "1.png").rename(folder / "others" / "a" / "9.png")
    assert main(["embed", "others", "run=run", "-o", "out.npz"]) == 0


def _landmarks(folder: Path) -> None:
    parts = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
    head = ",".join(["file", *(f"{part}_{axis}" for part in parts for axis in "xy")])
    (folder / "points.csv").write_text(f"{head}\na/1.png,9,9,20,9,15,15,10,20,20,21\n", encoding="utf-8")


def _embed(*more: str, told: str, set_up: Callable[[Path], None]) -> Row:
    return Row(("embed", *more), told, set_up=set_up)


_VERIFY = ("verify", "faces/a/1.png", "faces/b/1.png", "run=run")
_PHOTOS = ("dataset=image_folder", "dataset.root=photos", "loader.batch_size=2", "trainer.max_steps=1")
ROWS = [
    Row((*_VERIFY, "thresold=0.3"), "has no key 'thresold'", set_up=_ready()),
    Row((*_VERIFY, "far=1e-2"), "has no thresholds", set_up=_ready()),
    # kdface COMMAND --help ends the process, as argparse does
    Row(("verify", "faces/a/1.png", "run=run"), "B is missing", apply=False),
    Row((*_VERIFY, "--far"), "unrecognized arguments", apply=False),
    _embed("faces", "run=run", "-o", "out.csv", told="not written in this format", set_up=_ready()),
    _embed("faces", "run=run", "-o", "out.npz", told="another network", set_up=_ready(_embedded_otherwise)),
    _embed("faces", "run=run", "-o", "out.npz", told="by an earlier version", set_up=_ready(_embedded_earlier)),
    _embed("faces", "run=run", "-o", "out.npz", told="and none of them is in", set_up=_ready(_embedded_others)),
    _embed(
        *("faces", "run=run", "-o", "out.npz"),
        told="is no file of kdface embed",
        set_up=_ready(lambda folder: np.savez(folder / "out.npz", keys=np.array(["a"]))),
    ),
    _embed(
        *("photos", "run=run"),
        told="holds no aligned crops",
        set_up=_ready(lambda folder: _pictures(folder / "photos", 60, 80)),
    ),
    Row(
        ("train", *BARE, *_PHOTOS),
        "are not aligned crops",
        set_up=lambda folder: _pictures(folder / "photos", 64, 96),
        run=True,
    ),
    Row(
        ("data", "align", "faces", "-o", "faces", "landmarks=points.csv"),
        "is not empty",
        set_up=_ready(_landmarks),
    ),
    Row(("pack", "run", "-o", "faces"), "is not overwritten", set_up=_ready()),
    Row(("pack", "run"), "is not finished", set_up=_ready(lambda folder: (folder / "run" / "DONE").unlink())),
    Row(("export", "run=run", "x.pt", "--to", "onx"), "unknown format", set_up=_ready()),
]
