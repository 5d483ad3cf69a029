"""What every part measures with: two sides interleaved, processes of their own, peaks of memory, and one table."""

from __future__ import annotations

import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple


class Row(NamedTuple):
    """A line of the table: seconds (or a rate, as `unit` says), of which the ratio says how much better ours is.

    Attributes:
        what, peer: what is measured, and beside what.
        ours, theirs: medians.
        unit: of both: "s" (of a processor), "images/s", "MiB" and the like.
        ratios: one for each repeat.
        wanted: the ratio that is wanted.
        memory: peaks, ours and theirs.
        limit: what the machine allows, and how near that is.
    """

    what: str
    peer: str
    ours: float
    theirs: float
    unit: str
    ratios: Sequence[float]
    wanted: float
    memory: str = ""
    limit: str = ""


class Bound(NamedTuple):
    """A line without a peer.

    Attributes:
        what: what is measured.
        found: one for each repeat.
        unit: of it.
        most: what it may be at most.
        beside: what else there is to say.
    """

    what: str
    found: Sequence[float]
    unit: str
    most: float
    beside: str = ""


class LeftOut(NamedTuple):
    """A line that was not measured, and why."""

    what: str
    why: str


Line = Row | Bound | LeftOut


def table(rows: Sequence[Line]) -> str:
    """Markdown of the rows."""
    lines = [
        "| what | peer | ours | peer's | ratio (spread) | wanted | memory | limit |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if isinstance(row, LeftOut):
            lines.append(f"| {row.what} | left out: {row.why} | | | | | | |")
            continue
        if isinstance(row, Bound):
            middle, spread = statistics.median(row.found), f"{min(row.found):.2g} to {max(row.found):.2g}"
            lines.append(
                f"| {row.what} | | {middle:.3g} {row.unit} ({spread}) | | | at most {row.most:g} {row.unit} | | "
                f"{row.beside} |"
            )
            continue
        spread = f"{min(row.ratios):.2g} to {max(row.ratios):.2g}"
        lines.append(
            f"| {row.what} | {row.peer} | {row.ours:.3g} {row.unit} | {row.theirs:.3g} {row.unit} | "
            f"{statistics.median(row.ratios):.3g} x ({spread}) | {row.wanted:g} x | {row.memory} | {row.limit} |"
        )
    return "\n".join(lines)


def seconds(work: Callable[[], Any]) -> float:
    """Processor seconds of this process."""
    start = time.process_time()
    work()
    return time.process_time() - start


def side_by_side(
    ours: Callable[[], Any], theirs: Callable[[], Any], repeats: int, inner: int = 1
) -> tuple[list[float], list[float]]:
    """Processor seconds of both, a first pass not counted; each goes first as often as the other. Ours, being short, is
    the mean of `inner` passes."""
    ours()
    found: tuple[list[float], list[float]] = ([], [])
    for repeat in range(repeats):
        for place in (0, 1) if repeat % 2 else (1, 0):
            if place:
                found[1].append(seconds(theirs))
            else:
                found[0].append(seconds(lambda: [ours() for _ in range(inner)]) / inner)
    return found


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """How many times as long theirs takes, repeat by repeat."""
    return [other / mine for mine, other in zip(ours, theirs, strict=True)]


def apart(work: Callable[..., Any], *given: Any) -> Any:
    """What `work` gives in a process of its own, so that peaks of memory do not mix."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_answer, args=(theirs, work, given))
    child.start()
    theirs.close()
    found = ours.recv()
    child.join()
    return found


def _answer(pipe: Connection, work: Callable[..., Any], given: tuple[Any, ...]) -> None:
    pipe.send(work(*given))


def start_peak() -> float:
    """Forget the peak so far and return what is held now, in MiB (Linux). `ru_maxrss` would start at the parent's."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak()


def peak() -> float:
    """The most memory this process has held since `start_peak`, in MiB."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM:")).split()[1]) / 1024


@contextmanager
def importable(code: Path) -> Iterator[None]:
    """The modules of a peer's folder by their own names, which other peers have too: they are forgotten after.

    What its modules import is looked for in the folder `site` beside it, too.
    """
    before, added = set(sys.modules), [str(code), str(code.parent / "site")]
    sys.path[:0] = added
    try:
        yield
    finally:
        for folder in added:
            sys.path.remove(folder)
        for name in set(sys.modules) - before:
            if str(getattr(sys.modules[name], "__file__", None) or "").startswith(f"{code}{os.sep}"):
                del sys.modules[name]


def peer(name: str) -> Path | None:
    """The folder of a peer's code below KDFACE_PEERS, if it is there."""
    folder = Path(os.environ.get("KDFACE_PEERS", "")) / name
    return folder if "KDFACE_PEERS" in os.environ and folder.is_dir() else None
