"""Display a running sweep: a live table on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from types import TracebackType

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from kdface.progress import clock
from kdface.reports.summary import shown
from kdface.sweeps import marks
from kdface.sweeps.engine import Job
from kdface.sweeps.ledger import State

_QUIET_SECONDS = 30.0  # shortest interval between progress lines in a log
_STEP_SECONDS = 1.0  # shortest interval between updates on a terminal


class Watcher:
    """Reports started and ended jobs, and the progress of the rest.

    Args:
        total: total number of jobs.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.ended_jobs = 0
        self.failed: list[str] = []
        self.unfinished: list[str] = []
        self._seconds: list[float] = []
        self._said = time.monotonic()
        self._live: Live | None = None
        if sys.stdout.isatty():
            self._live = Live(console=Console(), refresh_per_second=4, transient=True)

    def __enter__(self) -> Watcher:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def started(self, job: Job) -> None:
        """Print that a job started."""
        if self._live is None:
            print(f"[{job.number}] {job.entry.title}: started, {shown(job.folder.root)}", flush=True)

    def ended(self, job: Job, state: State, text: str, seconds: float) -> None:
        """Print how a job ended, and the end of its log if it failed."""
        self.ended_jobs += 1
        spent = f" in {clock(seconds)}" if seconds else f", {shown(job.folder.root)}"
        if seconds:
            self._seconds.append(seconds)
        self._print(f"[{job.number}] {job.entry.title}: {text}{spent}")
        if state is State.FAILED:
            self.failed.append(job.entry.title)
            for line in marks.failed_lines(job.folder):
                self._print(f"    {line}")
        elif state not in (State.DONE, State.PRUNED):
            self.unfinished.append(job.entry.title)

    def tick(self, running: Sequence[Job], elsewhere: Sequence[Job], waiting: Callable[[], dict[int, str]]) -> None:
        """Show the running jobs: a table on a terminal, occasional lines elsewhere."""
        now = time.monotonic()
        if now - self._said < (_QUIET_SECONDS if self._live is None else _STEP_SECONDS):
            return
        self._said = now
        reasons = waiting()
        running = [job for job in running if job.number not in reasons]
        counted = Counter(reasons.values())
        if self._live is not None:
            self._live.update(self._table(running, elsewhere, counted))
            return
        parts = [f"[{job.number}] {_told(marks.progress(job.folder))}" for job in running]
        parts += [f"[{job.number}] run by another process" for job in elsewhere]
        parts += [f"{count} waiting ({why})" for why, count in counted.items()]
        print(f"{self._counted(len(running))}: {'; '.join(parts)}", flush=True)

    def _counted(self, running: int) -> str:
        parts = [f"{self.ended_jobs}/{self.total} ended", f"{running} running"]
        if self._seconds:
            rest = (self.total - self.ended_jobs) * sum(self._seconds) / len(self._seconds) / max(1, running)
            parts.append(f"about {clock(rest)} left")
        return ", ".join(parts)

    def _table(self, running: Sequence[Job], elsewhere: Sequence[Job], waiting: Counter[str]) -> RenderableType:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for name in ("job", "", "steps", "left"):
            table.add_column(name, justify="right" if name in ("steps", "left") else "left")
        for job in running:
            found = marks.progress(job.folder)
            left = "" if found.left is None else clock(found.left)
            table.add_row(Text(f"[{job.number}] {job.entry.title}"), "running", str(found), left)
        for job in elsewhere:
            table.add_row(Text(f"[{job.number}] {job.entry.title}"), "run by another process", "", "")
        for why, count in waiting.items():
            table.add_row(f"{count} more", Text(f"waiting: {why}"), "", "")
        return Group(table, Text(self._counted(len(running))))

    def _print(self, line: str) -> None:
        if self._live is not None:
            self._live.console.print(line, markup=False, highlight=False)
        else:
            print(line, flush=True)


def _told(found: marks.Progress) -> str:
    return f"step {found}" + (f", {clock(found.left)} left" if found.left is not None else "")
