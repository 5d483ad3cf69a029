"""The loop of a sweep: start missing jobs, watch running ones, report finished ones. Single-threaded, any backend."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Protocol

from kdface.runs.folder import HeldError, RunFolder
from kdface.sweeps import marks
from kdface.sweeps.ledger import Entry, Ledger, State
from kdface.sweeps.lifeline import said, was_stopped

BUSY = 75  # exit code of a job whose run folder is locked by another process (EX_TEMPFAIL)
_TICK = 0.2  # seconds
_LOOK_AGAIN = 1.0  # seconds between checks of jobs run by another sweep


@dataclass(frozen=True)
class Job:
    """One job to run.

    Attributes:
        number: its place in this command.
        entry: its entry in the ledger.
        folder: its run folder.
        prepare: writes the run folder; raises `UserError` if another process holds it.
        devices: number of ranks it starts.
        retry: run it although it failed; the failure mark remains until the job itself has started.
    """

    number: int
    entry: Entry
    folder: RunFolder
    prepare: Callable[[], object] = field(compare=False)
    devices: int = 1
    retry: bool = False


Ended = tuple[Job, int]  # a job and its exit code


class Backend(Protocol):
    """Where jobs run. By default they start at once, and end with this process."""

    capacity: int  # number of jobs it accepts
    at_once: int  # number of jobs it runs at a time

    def start(self, jobs: Sequence[Job]) -> None:
        """Start jobs, within the capacity."""

    def ended(self, seconds: float) -> list[Ended]:
        """Ended jobs, waiting up to `seconds` for the first."""

    def adopt(self, job: Job) -> bool:
        """Whether a job started by an earlier command still runs; if so, watch it."""
        del job
        return False

    def waiting(self) -> dict[int, str]:
        """Number of a submitted job that has not started -> reason."""
        return {}

    def stop(self, job: Job) -> None:
        """Ask a job to stop."""

    def close(self) -> None:
        """Stop jobs that must not outlive this process."""


class Source(Protocol):
    """Chooses the next job. `adaptive`: depends on earlier results, so jobs are requested only when needed."""

    adaptive: bool = False

    def next(self) -> Job | None:
        """The next job to start; None if there is none at the moment."""

    def give_up(self, job: Job) -> bool:
        """Whether to stop a running job early."""
        del job
        return False

    def ended(self, job: Job, state: State) -> None:
        """Receive the final state of a job."""


class SweepObserver(Protocol):
    """Receives the events of a sweep: the terminal, or a test."""

    def started(self, job: Job) -> None:
        """A job was started."""

    def ended(self, job: Job, state: State, text: str, seconds: float) -> None:
        """A job ended after `seconds`; `text` describes how."""

    def tick(self, running: Sequence[Job], elsewhere: Sequence[Job], waiting: Callable[[], dict[int, str]]) -> None:
        """Called several times per second with the jobs running here, running elsewhere, and waiting (with reasons)."""


class Listed(Source):
    """A grid: all jobs are known in advance and none is stopped early.

    Args:
        jobs: the jobs in starting order.
        awaited: number of a job -> numbers of jobs that must end first, such as its teacher.
    """

    def __init__(self, jobs: Sequence[Job], awaited: Mapping[int, Set[int]] | None = None) -> None:
        self.jobs = list(jobs)
        self.awaited = dict(awaited or {})
        self.states: dict[int, State] = {}

    def next(self) -> Job | None:
        """The next job; also None while all remaining jobs wait for a running one."""
        for place, job in enumerate(self.jobs):
            if not self.awaited.get(job.number, set()) - self.states.keys():
                return self.jobs.pop(place)
        return None

    def ended(self, job: Job, state: State) -> None:
        """Release the jobs that waited for this one."""
        self.states[job.number] = state


def drive(source: Source, backend: Backend, ledger: Ledger, view: SweepObserver) -> None:
    """Run jobs until the source has no more. On Ctrl-C, SIGTERM or an error, running jobs are stopped first."""
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
        self.running: dict[RunFolder, tuple[Job, float]] = {}  # with the time of its start
        self.elsewhere: list[Job] = []  # run by another process, or the same run as a running one
        self.again: list[Job] = []  # to be checked again
        self.given_up: set[int] = set()
        self.retried: set[int] = set()
        self._looked = 0.0

    def run(self) -> None:
        while not self._fill() or self.running or self.elsewhere or self.again:
            for job, code in self.backend.ended(_TICK):
                self._settle(job, code)
            running = [job for job, _ in self.running.values()]
            for job in running:
                if job.number not in self.given_up and self.source.give_up(job):
                    self.given_up.add(job.number)
                    self.ledger.write(replace(self._entry(job), pruned=True))
                    self.backend.stop(job)
            if time.monotonic() - self._looked > _LOOK_AGAIN:
                self._looked = time.monotonic()
                waiting, self.elsewhere = self.elsewhere, []
                for job in waiting:
                    busy = job.folder in self.running or marks.held(job.folder)
                    (self.elsewhere if busy else self.again).append(job)
            self.view.tick(running, self.elsewhere, self.backend.waiting)

    def _fill(self) -> bool:
        """Start jobs on the free capacity at once. Returns whether the source is exhausted."""
        starting: dict[RunFolder, Job] = {}
        exhausted = False
        while self._has_room(len(starting)):
            job = self.again.pop(0) if self.again else self.source.next()
            if job is None:
                exhausted = True
                break
            state = self.ledger.state(self._entry(job))
            if job.folder in self.running or job.folder in starting:
                self.elsewhere.append(job)
            elif self.backend.adopt(job):
                self._watch(job)
            elif state is State.RUNNING:
                self.elsewhere.append(job)
            elif not self._wanted(job, state):
                self._tell(job, state, f"{state} already", 0.0)
            else:
                try:
                    job.prepare()
                except HeldError:
                    self.elsewhere.append(job)
                    continue
                if state is State.PRUNED:
                    self.ledger.write(replace(self._entry(job), pruned=False))
                self.retried.add(job.number)
                starting[job.folder] = job
        if starting:
            self.backend.start(list(starting.values()))
            for job in starting.values():
                self._watch(job)
        return exhausted

    def _has_room(self, starting: int) -> bool:
        if not self.source.adaptive:
            return len(self.running) + starting < self.backend.capacity
        # Jobs elsewhere count, since the search would otherwise propose endlessly.
        return len(self.running) + starting + len(self.elsewhere) < self.backend.at_once

    def _wanted(self, job: Job, state: State) -> bool:
        """Whether to run a job that no process runs. A grid also completes jobs pruned by a search."""
        if state is State.FAILED:
            return job.retry and job.number not in self.retried
        return state is not State.DONE and (state is not State.PRUNED or not self.source.adaptive)

    def _watch(self, job: Job) -> None:
        self.running[job.folder] = (job, time.monotonic())
        self.view.started(job)

    def _settle(self, job: Job, code: int) -> None:
        _, began = self.running.pop(job.folder)
        entry = self._entry(job)
        if not job.folder.done and code == BUSY:
            self.elsewhere.append(job)
            return
        if not job.folder.done and not entry.pruned and not was_stopped(code):
            marks.note_failure(job.folder, said(code))  # in case the job could not do so itself
        state = self.ledger.state_of_ended(entry)
        text = str(state) if state in (State.DONE, State.PRUNED) else f"{state} ({said(code)})"
        self._tell(job, state, text, time.monotonic() - began)

    def _tell(self, job: Job, state: State, text: str, seconds: float) -> None:
        self.source.ended(job, state)
        self.view.ended(job, state, text, seconds)

    def _entry(self, job: Job) -> Entry:
        """The current entry, including changes written since the job was composed."""
        return self.ledger.find(job.entry.run) or job.entry


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP are handled like Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, signal.default_int_handler) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
