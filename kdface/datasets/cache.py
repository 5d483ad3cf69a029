"""Cache for rows that are expensive pure functions of their number: computed once on all cores, then read from a file.

The folder is $KDFACE_CACHE, else $XDG_CACHE_HOME/kdface, else ~/.cache/kdface. It can be deleted safely.
"""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
from collections.abc import Callable, Sequence
from multiprocessing import current_process, get_context
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from kdface.atomic import write_binary
from kdface.hardware import cores
from kdface.progress import Meter

_FEW = 200  # rows that are computed faster than processes start


def cache_folder() -> Path:
    """$KDFACE_CACHE, else kdface below $XDG_CACHE_HOME or ~/.cache."""
    given = os.environ.get("KDFACE_CACHE")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kdface"


def drawn_once(
    about: tuple[Any, ...],
    rows: int,
    dtype: np.dtype[Any],
    draw: Callable[[int], NDArray[Any]],
    code: Sequence[ModuleType],
) -> NDArray[Any]:
    """(rows,) of `dtype`, row i being draw(i); memory-mapped read-only if cached.

    Args:
        about: what the rows depend on besides the code; part of the file's name.
        rows, dtype: number and type.
        draw: row number -> row; a pure function.
        code: modules whose sources the rows depend on (for a package, all its files).
    """
    name = hashlib.sha256(repr((about, rows, dtype.descr, cv2.__version__, _sources(code))).encode()).hexdigest()[:24]
    path = cache_folder() / f"{about[0]}-{name}.npy"
    try:
        found: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        if found.shape == (rows,) and found.dtype == dtype:
            return found
    except (OSError, ValueError):
        pass  # missing or truncated: draw again
    drawn = _draw_all(about[0], rows, dtype, draw)
    with contextlib.suppress(OSError):  # read-only home or full disk: keep the rows in memory
        write_binary(path, lambda file: np.save(file, drawn))
    return drawn


def _sources(code: Sequence[ModuleType]) -> str:
    files: set[Path] = set()
    for module in code:
        source = Path(str(module.__file__))
        files |= set(source.parent.glob("*.py")) if source.name == "__init__.py" else {source}
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _draw_all(what: str, rows: int, dtype: np.dtype[Any], draw: Callable[[int], NDArray[Any]]) -> NDArray[Any]:
    """Compute in forked processes that fill a shared anonymous map."""
    whole = np.frombuffer(mmap.mmap(-1, max(1, rows) * (dtype.itemsize + 1)), dtype=np.uint8)
    filled = whole[: rows * dtype.itemsize].view(dtype)
    done = whole[rows * dtype.itemsize : rows * (dtype.itemsize + 1)]
    alone = rows < _FEW or current_process().daemon  # a loader's worker may not start processes
    workers = 1 if alone else cores()

    def fill(first: int) -> None:
        for row in range(first, rows, workers):
            filled[row] = draw(row)
            done[row] = 1

    if workers == 1:
        fill(0)
        return filled

    def fill_forked(first: int) -> None:
        cv2.setNumThreads(0)  # its thread pool does not survive the fork
        fill(first)

    fork = get_context("fork")
    processes = [fork.Process(target=fill_forked, args=(first,), daemon=True) for first in range(workers)]
    meter = Meter(f"drawing {what} (once)", rows)
    for process in processes:
        process.start()
    while any(process.is_alive() for process in processes):
        processes[0].join(0.2)
        meter.advance(int(done.sum()) - meter.done)
    meter.close()
    failed = [process.exitcode for process in processes if process.exitcode]
    if failed or not done.all():
        raise RuntimeError(f"drawing {what} failed: {int(done.sum())} of {rows} rows, exit codes {failed}")
    return filled
