"""What is fuzzed: of each kind valid files, which of them are damaged, and the public reader that gets them."""

from __future__ import annotations

import contextlib
import hashlib
import io
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from kdface.cli import main
from kdface.errors import UserError
from tests.fuzz.damage import spoil


@dataclass(frozen=True)
class Kind:
    """Attributes:
    name: of the kind of input.
    make: writes valid files into an empty folder.
    files: patterns of the files that are damaged.
    read: the folder -> what the readers make of it; raises what they raise.
    sealed: the files carry checksums, so that what is accepted must be what it was.
    spoil: damages a file and says how.
    share: how many inputs there are of this kind beside the others.
    slow: each takes a second or more, and is left out of the fast test.
    """

    name: str
    make: Callable[[Path], None]
    files: tuple[str, ...]
    read: Callable[[Path], object]
    sealed: bool = False
    spoil: Callable[[Path, Random], str] = spoil
    share: int = 1
    slow: bool = False

    def damage(self, folder: Path, rng: Random) -> str:
        """Damage one of the files. Returns which, and how."""
        found = sorted({file for pattern in self.files for file in folder.glob(pattern)})
        file = rng.choice(found)
        return f"{file.relative_to(folder)}: {self.spoil(file, rng)}"


def digest(value: object) -> str:
    """Of anything that readers return: arrays by their bytes, all else by its text."""
    made = hashlib.sha256()
    _add(value, made)
    return made.hexdigest()


def _add(value: object, made: Any) -> None:
    if isinstance(value, np.ndarray):
        made.update(f"{value.dtype} {value.shape}".encode() + np.ascontiguousarray(value).tobytes())
    elif isinstance(value, dict):
        _add(sorted(map(str, value)), made)
        for key in sorted(value, key=str):
            _add(value[key], made)
    elif isinstance(value, list | tuple):
        made.update(b"[")
        for item in value:
            _add(item, made)
        made.update(b"]")
    else:
        made.update(repr(value).encode("utf-8", "surrogatepass"))


class ToldError(UserError):
    """A command ended with an error message."""


def command(*words: str) -> str:
    """What a command prints. Raises `ToldError` if it ends with its one message, and whatever it raises."""
    out, err = io.StringIO(), io.StringIO()
    before = list(sys.argv)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(words)
    finally:
        sys.argv = before
    said = err.getvalue()
    if code:
        assert "error: " in said, f"exit code {code} without a message: {said}"
        assert "out of memory" not in said, said
        raise ToldError(said)
    for letter in "\x1b\x07\x9b":
        assert letter not in out.getvalue() + said, "a terminal escape is printed"
    return out.getvalue()


refusals: list[str] = []  # of parts of the input that is being read


def tried(read: Callable[[], object]) -> object:
    """What a reader returns of a part of the input, or its message, which is noted."""
    try:
        return read()
    except UserError as error:
        refusals.append(str(error))
        return str(error)


def every(faces: Any) -> list[object]:
    """All that a dataset gives: of each image its pixels, or why there are none."""

    def one(index: int) -> object:
        faces.check(index)
        faces.raw_bytes(index)
        sample = faces[index]
        return [sample.image, sample.landmarks]

    known = [list(faces.keys), list(faces.people), faces.labels.tolist()]
    return [*known, *(tried(partial(one, index)) for index in range(len(faces)))]


def by_name(kinds: Sequence[Kind]) -> dict[str, Kind]:
    return {kind.name: kind for kind in kinds}
