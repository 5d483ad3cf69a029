"""The loop of a sweep: start what is missing, look after what runs, say what ended. One thread, any backend."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from types import FrameType
from typing import Protocol

from kdface.runs.folder import HeldError, RunFolder
from kdface.sweeps import marks
from kdface.sweeps.ledger import Entry, Ledger, State
from kdface.sweeps.lifeline import said, was_stopped

BUSY = 75  # exit code of a job whose run folder another process holds (EX_TEMPFAIL)
_TICK = 0.2  # seconds
_LOOK_AGAIN = 1.0  # seconds between looks at jobs that another sweep runs


@dataclass(frozen=True)
class Job:
    """One job to run.

    Attributes:
        number: its place in this command.
        entry: what the ledger knows of it.
        folder: its run folder.
        prepare: writes the run folder; raises `UserError` if another process holds it.
        devices: how many ranks it starts.
        retry: run it although it failed; the mark of the failure stays until the job itself has begun.
    """

    number: int
    entry: Entry
    folder: RunFolder
    prepare: Callable[[], object] = field(compare=False)
    devices: int = 1
    retry: bool = False


Ended = tuple[Job, int]  # a job and its exit code


class Backend(Protocol):
    """Where jobs run."""

    capacity: int  # jobs that it takes
    at_once: int  # jobs that run at a time

    def start(self, jobs: Sequence[Job]) -> None:
        """Start jobs, for which there is room."""

    def ended(self, seconds: float) -> list[Ended]:
        """The jobs that have ended, waiting up to `seconds` for the first."""

    def adopt(self, job: Job) -> bool:
        """Whether a job still runs that an earlier command started; it is then looked after."""

    def waiting(self) -> dict[int, str]:
        """Of jobs that were started and have not begun, by their number: why."""

    def stop(self, job: Job) -> None:
        """Ask a job to end."""

    def close(self) -> None:
        """End what must not outlive this process."""


class Source(Protocol):
    """Which job is next. `adaptive`: by what came out of those before, so that none is asked for too early."""

    adaptive: bool

    def next(self) -> Job | None:
        """The next job to start; None if there is none now."""

    def give_up(self, job: Job) -> bool:
        """Whether a running job is hopeless."""

    def ended(self, job: Job, state: State) -> None:
        """Learn how a job ended."""


class SweepObserver(Protocol):
    """Hears what happens in a sweep: the terminal, or a test."""

    def started(self, job: Job) -> None:
        """A job was started."""

    def ended(self, job: Job, state: State, text: str, seconds: float) -> None:
        """A job ended after `seconds`; `text` says how."""

    def tick(self, running: Sequence[Job], elsewhere: Sequence[Job], waiting: Callable[[], dict[int, str]]) -> None:
        """Called several times a second: what runs here, what runs elsewhere, what waits and why."""


class Listed:
    """A grid: the jobs are known beforehand and none is given up.

    Args:
        jobs: in the order in which they are started.
        awaited: number of a job -> numbers of those that end before it starts: its teacher's, for one.
    """

    adaptive = False

    def __init__(self, jobs: Sequence[Job], awaited: Mapping[int, Set[int]] | None = None) -> None:
        self.jobs = list(jobs)
        self.awaited = dict(awaited or {})
        self.states: dict[int, State] = {}

    def next(self) -> Job | None:
        """None too while all that is left waits for a running job; it is asked again when that has ended."""
        for place, job in enumerate(self.jobs):
            if not self.awaited.get(job.number, set()) - self.states.keys():
                return self.jobs.pop(place)
        return None

    def give_up(self, job: Job) -> bool:
        """Never."""
        return False

    def ended(self, job: Job, state: State) -> None:
        """Those that waited for this job may start."""
        self.states[job.number] = state


class Stopped(KeyboardInterrupt):
    """SIGTERM or SIGHUP asked this process to end: it ends as after Ctrl-C."""


def drive(source: Source, backend: Backend, ledger: Ledger, view: SweepObserver) -> None:
    """Run jobs until the source has no more. On Ctrl-C, SIGTERM or an error what runs is stopped first."""
    with ledger.attended(), _ended_by_signals():
        try:
            _Drive(source, backend, ledger, view).run()
        finally:
            backend.close()


class _Drive:
    def __init__(self, source: Source, backend: Backend, ledger: Ledger, view: SweepObserver) -> None:
        self.source = source
        self.backend = backend
        self.ledger = ledger
        self.view = view
        self.running: dict[int, tuple[Job, float]] = {}
        self.elsewhere: list[Job] = []  # run by another process
        self.again: list[Job] = []  # to be looked at once more
        self.given_up: set[int] = set()
        self.retried: set[int] = set()
        self._looked = 0.0

    def run(self) -> None:
        while True:
            exhausted = self._fill()
            if exhausted and not self.running and not self.elsewhere and not self.again:
                return
            for job, code in self.backend.ended(_TICK):
                self._settle(job, code)
            for job, _ in list(self.running.values()):
                if job.number not in self.given_up and self.source.give_up(job):
                    self.given_up.add(job.number)
                    self.ledger.write(replace(self._entry(job), pruned=True))
                    self.backend.stop(job)
            if time.monotonic() - self._looked > _LOOK_AGAIN:
                self._looked = time.monotonic()
                waiting, self.elsewhere = self.elsewhere, []
                for job in waiting:
                    (self.elsewhere if self._busy(job) else self.again).append(job)
            self.view.tick([job for job, _ in self.running.values()], self.elsewhere, self.backend.waiting)

    def _fill(self) -> bool:
        """Start jobs on what is free, all at once. Whether the source has no more."""
        starting: list[Job] = []
        exhausted = False
        most = self.backend.at_once if self.source.adaptive else self.backend.capacity
        while len(self.running) + len(starting) + self._asked_for() < most:
            job = self.again.pop(0) if self.again else self.source.next()
            if job is None:
                exhausted = True
                break
            state = self.ledger.state(self._entry(job))
            if any(job.folder == other.folder for other in (*starting, *(other for other, _ in self.running.values()))):
                self.elsewhere.append(job)  # the same configuration twice in one sweep
            elif self.backend.adopt(job):
                self.running[job.number] = (job, time.monotonic())
                self.view.started(job)
            elif state is State.RUNNING:
                self.elsewhere.append(job)
            elif not self._wanted(job, state):
                self._tell(job, state, f"{state} already", 0.0)
            else:
                try:
                    job.prepare()
                except HeldError:
                    self.elsewhere.append(job)
                else:
                    if state is State.PRUNED:
                        self.ledger.write(replace(self._entry(job), pruned=False))
                    self.retried.add(job.number)
                    starting.append(job)
        if starting:
            self.backend.start(starting)
            for job in starting:
                self.running[job.number] = (job, time.monotonic())
                self.view.started(job)
        return exhausted

    def _asked_for(self) -> int:
        """Jobs of a search that somebody else runs: they count, or it would be asked for points without an end."""
        return len(self.elsewhere) if self.source.adaptive else 0

    def _wanted(self, job: Job, state: State) -> bool:
        """Whether a job that nobody runs is to be run. A grid runs to the end what only a search has given up."""
        if state is State.FAILED:
            return job.retry and job.number not in self.retried
        return state is not State.DONE and (state is not State.PRUNED or not self.source.adaptive)

    def _settle(self, job: Job, code: int) -> None:
        _, began = self.running.pop(job.number)
        entry = self._entry(job)
        if not job.folder.done and code == BUSY:
            self.elsewhere.append(job)
            return
        if not job.folder.done and not entry.pruned and not was_stopped(code):
            marks.note_failure(job.folder, said(code))  # where the job could not do so itself
        state = self.ledger.state(entry)
        if state is State.RUNNING:  # our own job is over: what holds the lock are loader processes that it left
            failed = marks.failure(job.folder) is not None
            state = State.PRUNED if entry.pruned else State.FAILED if failed else State.INTERRUPTED
        text = str(state) if state in (State.DONE, State.PRUNED) else f"{state} ({said(code)})"
        self._tell(job, state, text, time.monotonic() - began)

    def _tell(self, job: Job, state: State, text: str, seconds: float) -> None:
        self.source.ended(job, state)
        self.view.ended(job, state, text, seconds)

    def _entry(self, job: Job) -> Entry:
        """With what other processes, and this one, have written since the job was composed."""
        return self.ledger.find(job.entry.run) or job.entry

    def _busy(self, job: Job) -> bool:
        return any(job.folder == other.folder for other, _ in self.running.values()) or marks.held(job.folder)


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped

    numbers = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
