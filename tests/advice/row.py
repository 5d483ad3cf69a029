"""A mistake, as a row of a table."""

from __future__ import annotations

import functools
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdface.cli import main
from tests.conftest import TINY, UNTESTED, only_run


@dataclass(frozen=True)
class Row:
    """One mistake.

    Attributes:
        words: the command line, `kdface` left out; or `python` and an expression, whose arguments are its overrides;
            or `sweep-check` and the words of a sweep, which is prepared up to its first job.
        told: text that the message must hold, so that it is this mistake that is fixed.
        set_up: prepares the current folder, an empty one.
        fill: placeholder -> value, or values with spaces between.
        build: `train` does what it does before it trains; by itself it is composed and checked only.
        run: the fixed command is run whole.
        apply: False where the fixed command cannot be tried here (it needs another machine); say why in a comment.
    """

    words: tuple[str, ...]
    told: str
    set_up: Callable[[Path], None] | None = None
    fill: Mapping[str, str] = field(default_factory=dict)
    build: bool = False
    run: bool = False
    apply: bool = True

    @property
    def name(self) -> str:
        return " ".join(word for word in self.words if word not in TINY)[:80]


def tiny(*words: str, told: str, **more: Any) -> Row:
    """A row of `kdface train` on the smallest run that there is."""
    return Row(("train", *TINY, *words), told, **more)


@functools.cache
def trained() -> Path:
    """A run of one step, made once for all rows."""
    runs = Path(tempfile.mkdtemp(prefix="kdface-advice-"))
    assert main(["train", *UNTESTED, "trainer.max_steps=1", f"paths.runs={runs}"]) == 0
    return only_run(runs)


def copied(folder: Path) -> None:
    """The run in run/."""
    shutil.copytree(trained(), folder / "run")
