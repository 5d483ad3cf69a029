"""The loop of a sweep, over a backend that only pretends: order, skipping, giving up, other processes' jobs."""

from __future__ import annotations

import fcntl
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kdface.runs.folder import RunFolder
from kdface.sweeps import marks
from kdface.sweeps.engine import BUSY, Ended, Job, Listed, drive
from kdface.sweeps.ledger import Entry, Ledger, State


class Pretended:
    """Each job ends at the next look, as `codes` says; what is done is marked so."""

    def __init__(self, capacity: int = 1, codes: dict[int, list[int]] | None = None) -> None:
        self.capacity = self.at_once = capacity
        self.codes = codes or {}
        self.batches: list[list[int]] = []
        self.running: list[Job] = []
        self.stopped: list[int] = []
        self.closed = False

    def start(self, jobs: Sequence[Job]) -> None:
        self.batches.append([job.number for job in jobs])
        self.running += jobs

    def ended(self, seconds: float) -> list[Ended]:
        del seconds
        if not self.running:
            return []
        job = self.running.pop(0)
        code = self.codes.get(job.number, [0]).pop(0) if self.codes.get(job.number) else 0
        if code == 0:
            job.folder.mark_done()
        return [(job, code)]

    def adopt(self, job: Job) -> bool:
        return False

    def waiting(self) -> dict[int, str]:
        return {}

    def stop(self, job: Job) -> None:
        self.stopped.append(job.number)

    def close(self) -> None:
        self.closed = True


class Silent:
    def __init__(self) -> None:
        self.told: list[tuple[int, State]] = []

    def started(self, job: Job) -> None: ...

    def ended(self, job: Job, state: State, text: str, seconds: float) -> None:
        self.told.append((job.number, state))

    def tick(self, running: Sequence[Job], elsewhere: Sequence[Job], waiting: object) -> None: ...


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.of(tmp_path / "runs", ["m"], ["seed"])


def _jobs(ledger: Ledger, count: int) -> list[Job]:
    jobs = []
    for number in range(count):
        entry = Entry(run=f"m/seed{number}-0", point={"seed": str(number)})
        ledger.write(entry)
        folder = RunFolder(ledger.runs / entry.run)

        def prepare(folder: RunFolder = folder) -> None:
            with folder.locked():
                folder.config.touch()

        jobs.append(Job(number, entry, folder, prepare))
    return jobs


def _drive(ledger: Ledger, jobs: list[Job], backend: Any) -> Silent:
    view = Silent()
    drive(Listed(jobs), backend, ledger, view)
    assert backend.closed
    return view


def test_a_job_starts_after_those_that_it_awaits(ledger: Ledger) -> None:
    backend, view = Pretended(capacity=4), Silent()
    drive(Listed(_jobs(ledger, 4), {0: {2}, 2: {3}}), backend, ledger, view)
    assert backend.batches == [[1, 3], [2], [0]]
    assert sorted(view.told) == [(number, State.DONE) for number in range(4)]


def test_a_job_whose_teacher_failed_starts_and_says_so_itself(ledger: Ledger) -> None:
    backend = Pretended(capacity=2, codes={1: [1]})
    drive(Listed(_jobs(ledger, 2), {0: {1}}), backend, ledger, Silent())
    assert backend.batches == [[1], [0]]


def test_free_slots_are_filled_and_jobs_start_in_their_order(ledger: Ledger) -> None:
    backend = Pretended(capacity=2)
    view = _drive(ledger, _jobs(ledger, 5), backend)
    assert backend.batches == [[0, 1], [2], [3], [4]]
    assert view.told == [(number, State.DONE) for number in range(5)]


def test_done_and_failed_jobs_are_not_run_and_interrupted_ones_are(ledger: Ledger) -> None:
    jobs = _jobs(ledger, 3)
    for job in jobs:
        job.prepare()
        (job.folder.root / "environment.json").write_text("{}")
    jobs[0].folder.mark_done()
    marks.note_failure(jobs[1].folder, "broken")
    backend = Pretended()
    view = _drive(ledger, jobs, backend)
    assert backend.batches == [[2]]
    assert dict(view.told) == {0: State.DONE, 1: State.FAILED, 2: State.DONE}


def test_a_job_that_failed_is_marked_and_one_that_was_killed_is_not(ledger: Ledger) -> None:
    jobs = _jobs(ledger, 3)
    view = _drive(ledger, jobs, Pretended(codes={0: [3], 1: [-9], 2: [-11]}))
    assert dict(view.told) == {0: State.FAILED, 1: State.WAITING, 2: State.FAILED}
    assert [marks.failure(job.folder) for job in jobs] == ["exit code 3", None, "SIGSEGV"]


def test_a_job_that_another_process_began_first_is_waited_for(ledger: Ledger) -> None:
    jobs = _jobs(ledger, 2)
    backend = Pretended(codes={0: [BUSY]})
    view = _drive(ledger, jobs, backend)
    assert backend.batches == [[0], [0], [1]]  # started again when the other let go of it unfinished
    assert sorted(view.told) == [(0, State.DONE), (1, State.DONE)]


def test_a_locked_folder_is_left_alone_until_it_is_free(ledger: Ledger) -> None:
    jobs = _jobs(ledger, 2)
    jobs[0].prepare()
    lock = open(jobs[0].folder.root / ".lock", "a")  # noqa: SIM115  # held until the other job has ended
    fcntl.flock(lock, fcntl.LOCK_EX)

    class Other(Pretended):
        def ended(self, seconds: float) -> list[Ended]:
            found = super().ended(seconds)
            if found and not lock.closed:
                jobs[0].folder.mark_done()
                lock.close()
            return found

    backend = Other()
    view = _drive(ledger, jobs, backend)
    assert backend.batches == [[1]]
    assert view.told == [(1, State.DONE), (0, State.DONE)]


def test_the_same_configuration_twice_runs_once(ledger: Ledger) -> None:
    (job,) = _jobs(ledger, 1)
    twin = Job(1, job.entry, job.folder, job.prepare)
    backend = Pretended(capacity=2)
    view = _drive(ledger, [job, twin], backend)
    assert backend.batches == [[0]]
    assert view.told == [(0, State.DONE), (1, State.DONE)]


def test_a_job_that_is_given_up_is_stopped_and_recorded(ledger: Ledger) -> None:
    class Impatient(Listed):
        def give_up(self, job: Job) -> bool:
            return job.number == 0

    class Slow(Pretended):
        looks = 0

        def ended(self, seconds: float) -> list[Ended]:
            self.looks += 1
            if self.looks < 3:
                return []
            return super().ended(seconds)

    jobs = _jobs(ledger, 1)
    backend = Slow(codes={0: [130]})
    view = Silent()
    drive(Impatient(jobs), backend, ledger, view)
    assert backend.stopped == [0]
    assert view.told == [(0, State.PRUNED)]
    found = ledger.find(jobs[0].entry.run)
    assert found is not None and found.pruned and marks.failure(jobs[0].folder) is None


def test_an_error_closes_the_backend(ledger: Ledger) -> None:
    class Broken(Pretended):
        def ended(self, seconds: float) -> list[Ended]:
            raise KeyboardInterrupt

    backend = Broken()
    with pytest.raises(KeyboardInterrupt):
        drive(Listed(_jobs(ledger, 1)), backend, ledger, Silent())
    assert backend.closed
    assert list((ledger.root / "parents").iterdir()) == []


def test_a_retried_job_keeps_its_mark_until_it_runs_and_runs_once(ledger: Ledger) -> None:
    jobs = [replace(job, retry=True) for job in _jobs(ledger, 2)]
    for job in jobs:
        job.prepare()
        marks.note_failure(job.folder, "broken")

    class Watching(Pretended):
        def start(self, jobs: Sequence[Job]) -> None:
            assert all(marks.failure(job.folder) == "broken" for job in jobs)
            super().start(jobs)

    backend = Watching(codes={0: [3], 1: [-9]})
    view = _drive(ledger, jobs, backend)
    assert backend.batches == [[0], [1]]
    assert dict(view.told) == {0: State.FAILED, 1: State.FAILED}  # killed before it had begun: still a failed job


def test_a_grid_runs_what_a_search_gave_up(ledger: Ledger) -> None:
    (job,) = _jobs(ledger, 1)
    ledger.write(replace(job.entry, pruned=True))

    class Choosing(Listed):
        adaptive = True

    idle, view = Pretended(), Silent()
    drive(Choosing([job]), idle, ledger, view)
    assert idle.batches == [] and view.told == [(0, State.PRUNED)]
    backend = Pretended()
    assert _drive(ledger, [job], backend).told == [(0, State.DONE)]
    found = ledger.find(job.entry.run)
    assert backend.batches == [[0]] and found is not None and not found.pruned


def test_a_search_is_asked_for_no_more_than_fits_though_points_repeat(ledger: Ledger) -> None:
    """Four slots, and a source that always gives one point: three wait for the first, and no fifth is asked for."""
    (job,) = _jobs(ledger, 1)
    asked: list[int] = []

    class Repeating(Listed):
        adaptive = True

        def next(self) -> Job | None:
            if len(asked) == 20:
                return None
            asked.append(len(asked))
            return replace(job, number=len(asked))

    class Looking(Pretended):
        def start(self, jobs: Sequence[Job]) -> None:
            super().start(jobs)
            assert len(asked) <= 4

        def ended(self, seconds: float) -> list[Ended]:
            if not job.folder.done:
                assert len(asked) == 4
            return super().ended(seconds)

    backend, view = Looking(capacity=4), Silent()
    drive(Repeating([]), backend, ledger, view)
    assert len(backend.batches) == 1 and len(view.told) == 20
    assert {state for _, state in view.told} == {State.DONE}
