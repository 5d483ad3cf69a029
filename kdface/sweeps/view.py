"""Display a running sweep: live lines on a terminal, occasional ones in a log."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence

from rich.live import Live
from rich.text import Text

from kdface.progress import clock
from kdface.sweeps import marks
from kdface.sweeps.engine import Job
from kdface.sweeps.ledger import State
from kdface.terminal import shown

_QUIET_SECONDS = 30.0  # shortest interval between progress lines in a log
_STEP_SECONDS = 1.0  # shortest interval between updates on a terminal


class Watcher:
    """Reports started and ended jobs, and the progress of the rest.

    Args:
        total: total number of jobs.

    Attributes:
        live: the display of a terminal, to be entered; None elsewhere.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.live = Live(transient=True) if sys.stdout.isatty() else None
        self.failed: list[str] = []
        self.unfinished: list[str] = []
        self._ended = 0
        self._seconds: list[float] = []
        self._said = time.monotonic()

    def started(self, job: Job) -> None:
        """Print that a job started."""
        if self.live is None:
            print(f"{_named(job)}: started, {shown(job.folder.root)}", flush=True)

    def ended(self, job: Job, state: State, text: str, seconds: float) -> None:
        """Print how a job ended, and the end of its log if it failed."""
        self._ended += 1
        spent = f" in {clock(seconds)}" if seconds else f", {shown(job.folder.root)}"
        if seconds:
            self._seconds.append(seconds)
        print(f"{_named(job)}: {text}{spent}", flush=True)
        if state is State.FAILED:
            self.failed.append(job.entry.title)
            for line in marks.failed_lines(job.folder):
                print(f"    {line}", flush=True)
        elif state not in (State.DONE, State.PRUNED):
            self.unfinished.append(job.entry.title)

    def tick(self, running: Sequence[Job], elsewhere: Sequence[Job], waiting: Callable[[], dict[int, str]]) -> None:
        """Show the progress of the running jobs: always on a terminal, from time to time elsewhere."""
        now = time.monotonic()
        if now - self._said < (_QUIET_SECONDS if self.live is None else _STEP_SECONDS):
            return
        self._said = now
        reasons = waiting()
        running = [job for job in running if job.number not in reasons]
        lines = [f"{_named(job)}: {_told(marks.progress(job.folder))}" for job in running]
        lines += [f"{_named(job)}: run by another process" for job in elsewhere]
        lines += [f"{count} waiting ({why})" for why, count in Counter(reasons.values()).items()]
        if self.live is None:
            print(f"{self._counted(len(running))}: {'; '.join(lines)}", flush=True)
        else:
            self.live.update(Text("\n".join([*lines, self._counted(len(running))])))

    def _counted(self, running: int) -> str:
        parts = [f"{self._ended}/{self.total} ended", f"{running} running"]
        if self._seconds:
            rest = (self.total - self._ended) * sum(self._seconds) / len(self._seconds) / max(1, running)
            parts.append(f"about {clock(rest)} left")
        return ", ".join(parts)


def _named(job: Job) -> str:
    return f"[{job.number}] {job.entry.title}"


def _told(found: marks.Progress) -> str:
    return f"step {found}" + (f", {clock(found.left)} left" if found.left is not None else "")
