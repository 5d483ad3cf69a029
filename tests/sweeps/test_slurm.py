"""A queue that does not answer says nothing about the jobs in it."""

from __future__ import annotations

import pickle
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kdface.errors import UserError
from kdface.runs.folder import RunFolder
from kdface.sweeps import child, marks, slurm
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
    made._asked, made._heard, made._queue = 0.0, None, {}
    return made


def _job(queue: slurm.Slurm) -> Job:
    entry = Entry(run="m/seed0-0", ticket="17_0")
    queue.ledger.write(entry)
    return Job(0, entry, RunFolder(queue.ledger.runs / entry.run), lambda: None)


def test_a_silent_queue_has_lost_nothing(queue: slurm.Slurm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("subprocess.run", Squeue("17_0 R None\n", 1, None, "17_0 R None\n", ""))
    job = _job(queue)
    assert queue.adopt(job)
    for _ in range(3):  # refused, timed out, there again
        assert queue.ended(0.0) == []
    assert queue.ended(0.0) == [(job, -15)]  # the queue says that it is gone


def test_why_a_job_waits(queue: slurm.Slurm, monkeypatch: pytest.MonkeyPatch) -> None:
    reasons = ["Resources", "PartitionConfig", "(Nodes required for job are DOWN)"]
    monkeypatch.setattr("subprocess.run", Squeue(*(f"17_0 PD {reason}\n" for reason in reasons), "17_0 R None\n"))
    job = _job(queue)
    assert queue.adopt(job)  # asks once
    told = [queue.waiting().get(0, "")]
    for _ in range(3):
        queue.ended(0.0)
        told.append(queue.waiting().get(0, ""))
    assert told[0] == reasons[0] and told[2:] == [reasons[2], ""]
    assert told[1].startswith("PartitionConfig: ") and "hydra.launcher.cores" in told[1]


def test_a_queue_that_never_answered_is_an_error(queue: slurm.Slurm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("subprocess.run", Squeue(1, None))
    job = _job(queue)
    for told in ("Unable to contact", "did not answer"):
        with pytest.raises(UserError, match=told):
            queue.adopt(job)


def test_a_job_that_runs_out_of_time_without_progress_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit", reason='pip install "kdface[slurm]"')
    folder = RunFolder(tmp_path / "runs" / "m" / "seed0-0")
    folder.last.parent.mkdir(parents=True)
    folder.config.touch()
    progress = [True, False, False, False]
    tries = []
    task = slurm.Task(str(folder.root), saving=0.0)

    def out_of_time(path: str) -> int:
        tries.append(path)
        if progress.pop(0):
            folder.last.write_text("weights")
        raise SystemExit  # as SLURM's signal ends it

    monkeypatch.setattr(slurm, "run_child", out_of_time)
    while len(tries) < 4:
        with pytest.raises(SystemExit):
            task()
        task = pickle.loads(pickle.dumps(task.checkpoint().function))
    assert task() == 1 and len(tries) == 4  # the fifth time nothing is started
    assert "3 times without a newer checkpoint" in str(marks.failure(folder))


def test_a_child_is_asked_to_save_before_its_worker_goes_into_the_queue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The handler of the cluster's signal waits for the child, while the worker waits for it too."""
    says = tmp_path / "python"
    says.write_text(
        f"#!{sys.executable}\nimport os, pathlib, signal, time\n"
        f"def save(*_): time.sleep(0.5); pathlib.Path({str(tmp_path / 'saved')!r}).touch(); os._exit(130)\n"
        "signal.signal(signal.SIGTERM, save)\nos.kill(os.getppid(), signal.SIGUSR2)\ntime.sleep(60)\n"
    )
    says.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(says))
    saved = []

    def handler(number: int, frame: object) -> None:
        child.stop_running(30.0)
        saved.append((tmp_path / "saved").is_file())

    before = signal.signal(signal.SIGUSR2, handler)
    try:
        assert child.run_child(str(tmp_path)) == 130
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert saved == [True]
