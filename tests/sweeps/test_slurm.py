"""A queue that does not answer says nothing about the jobs in it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from kdface.errors import UserError
from kdface.runs.folder import RunFolder
from kdface.sweeps import slurm
from kdface.sweeps.engine import Job
from kdface.sweeps.ledger import Entry, Ledger


class Squeue:
    """In the place of `subprocess.run`: answers, refuses or hangs, in turn."""

    def __init__(self, *answers: str | int | None) -> None:
        self.answers = list(answers)

    def __call__(self, words: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        answer = self.answers.pop(0)
        if answer is None:
            raise subprocess.TimeoutExpired(words, 60.0)
        if isinstance(answer, int):
            return subprocess.CompletedProcess(words, answer, "", "Unable to contact slurm controller")
        return subprocess.CompletedProcess(words, 0, answer, "")


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> slurm.Slurm:
    monkeypatch.setattr(slurm, "_ASK", -1.0)
    ledger = Ledger.of(tmp_path / "runs", ["m"], ["seed"])
    made = object.__new__(slurm.Slurm)  # there need be no SLURM here
    made.ledger, made.running = ledger, {}
    made._asked, made._heard, made._queue = 0.0, None, set()
    return made


def _job(queue: slurm.Slurm) -> Job:
    entry = Entry(run="m/seed0-0", ticket="17_0")
    queue.ledger.write(entry)
    return Job(0, entry, RunFolder(queue.ledger.runs / entry.run), lambda: None)


def test_a_silent_queue_has_lost_nothing(queue: slurm.Slurm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("subprocess.run", Squeue("17_0\n", 1, None, "17_0\n", ""))
    job = _job(queue)
    assert queue.adopt(job)
    for _ in range(3):  # refused, timed out, there again
        assert queue.ended(0.0) == []
    assert queue.ended(0.0) == [(job, -15)]  # the queue says that it is gone


def test_a_queue_that_never_answered_is_an_error(queue: slurm.Slurm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("subprocess.run", Squeue(1, None))
    job = _job(queue)
    for told in ("Unable to contact", "has not answered"):
        with pytest.raises(UserError, match=told):
            queue.adopt(job)
