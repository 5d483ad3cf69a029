"""Figures of runs that are alike are drawn once. Drawing takes two thirds of the time of a run that takes a second."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.text import Text


def drawn_once(drawn: Path) -> Callable[..., None]:
    """A `Figure.savefig` that draws the first figure of each kind of a run and copies its file for the others.

    All figures are still made, each of its own data. Of one kind are those of one name whose axes hold equally many
    lines and images, and whose texts are the same. What figures show, and that equal data give equal files, is tested
    in tests/reports, where each is drawn.

    Args:
        drawn: keeps what was drawn, for all processes that are given it.
    """
    draw = Figure.savefig

    def savefig(self: Figure, fname: Path, **options: Any) -> None:
        if fname.parent.name != "figures":  # those of a run, or of an evaluation of it
            draw(self, fname, **options)
            return
        artists = [Counter(type(artist).__name__ for artist in axes.get_children()) for axes in self.axes]
        said = sorted({text.get_text() for text in self.findobj(Text)})
        kind = f"{self.get_size_inches()} {[sorted(counts.items()) for counts in artists]} {said}"
        known = drawn / hashlib.sha256(kind.encode()).hexdigest() / fname.name
        if known.is_file():
            shutil.copyfile(known, fname)
            return
        draw(self, fname, **options)
        known.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=known.parent, delete=False) as copy:
            copy.write(fname.read_bytes())
        os.replace(copy.name, known)

    return savefig
