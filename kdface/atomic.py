"""Write files whole: to a temporary name, flushed, then renamed. A kill leaves either the old or the new file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO


def write_atomic(path: Path, write: Callable[[Path], object]) -> None:
    """Write to a temporary file in the same folder, flush it, rename it, and flush the folder.

    The temporary name is random: processes of several machines may write to one folder. It ends in `.tmp`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.urandom(8).hex()}.tmp")
    try:
        temporary.touch()  # raises the system's own error, whatever writer follows
        write(temporary)
        flush(temporary)
        os.replace(temporary, path)
        flush(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Flush a file's content, or a folder's entries, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    write_atomic(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write sorted, indented JSON; NaN and infinity raise an error, since other programs could not read them."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def write_binary(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a binary file atomically, by a function of the open file."""

    def write_open(temporary: Path) -> None:
        with open(temporary, "wb") as file:
            write(file)

    write_atomic(path, write_open)
