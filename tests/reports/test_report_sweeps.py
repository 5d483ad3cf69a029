"""The report tells of jobs that have no run."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path

import pytest

from kdface.reports.html.page import Reader, report
from kdface.reports.html.sweeps import read_sweeps
from kdface.runs.folder import RunFolder
from kdface.sweeps.ledger import Entry, Ledger
from tests.reports.folders import config, fail, make_run


def _job(ledger: Ledger, run: str, *overrides: str) -> RunFolder:
    entry = Entry(run=run, overrides=list(overrides))
    ledger.write(entry)
    return ledger.folder(entry)


def test_jobs_are_counted_and_those_that_failed_or_never_began_are_named(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    ledger = Ledger.of(runs, ["demo"], ["lr", "seed"])
    done = make_run(runs, config(runs), {"lfw/accuracy": 0.9})
    _job(ledger, done.relative_to(runs).as_posix(), "lr=0.1", "seed=0")
    _job(ledger, "demo/seed2-b", "lr=0.3", f"teacher.run={runs}/teacher/seed0")
    _job(ledger, "demo/seed1-a", "lr=0.2", "seed=1")
    fail(_job(ledger, "demo/seed3-c", "lr=9", "seed=3"), "UserError: too high\n  fix: lr=1")
    running = _job(ledger, "demo/seed4-d", "lr=0.4")
    running.root.mkdir(parents=True)
    with open(running.root / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        (found,) = read_sweeps(runs)
    assert found["name"] == ledger.root.name and found["problem"] == ""
    assert found["counts"] == {"done": 1, "running": 1, "failed": 1, "waiting": 2}
    assert found["jobs"] == [
        {"state": "failed", "overrides": "lr=9 seed=3", "why": "UserError: too high"},
        {"state": "waiting", "overrides": "lr=0.2 seed=1", "why": ""},
        {"state": "waiting", "overrides": "lr=0.3 teacher.run=<runs>/teacher/seed0", "why": ""},
    ]
    assert read_sweeps(tmp_path)[0]["counts"] == {"done": 1, "failed": 1, "waiting": 3}


def test_a_broken_job_hides_no_other_sweep(tmp_path: Path) -> None:
    broken, whole = (Ledger.of(tmp_path, [name], ["lr"]) for name in ("a", "b"))
    for ledger in (broken, whole):
        _job(ledger, "demo/seed0-a", "lr=1")
    next((broken.root / "jobs").iterdir()).write_text(json.dumps({"run": "../../etc"}))
    first, second = read_sweeps(tmp_path)
    assert "is not a job of a sweep" in first["problem"] and first["jobs"] == []
    assert second["problem"] == "" and second["counts"] == {"waiting": 1}


def test_the_report_of_a_sweep_whose_jobs_all_wait(tmp_path: Path) -> None:
    pytest.importorskip("plotly", reason='the charting library: pip install "kdface[report]"')
    _job(Ledger.of(tmp_path, ["demo"], ["lr"]), "demo/seed0-a", "lr=1")
    page = report([], "t", sweeps=read_sweeps(tmp_path))
    assert "1 failed or not started" in page and "<details open>" not in page


def test_a_job_that_fails_changes_the_report(tmp_path: Path) -> None:
    make_run(tmp_path, config(tmp_path), None)
    ledger = Ledger.of(tmp_path, ["demo"], ["lr"])
    reader = Reader(tmp_path)
    without = reader.state()
    folder = _job(ledger, "demo/seed1-a", "lr=1")
    waiting = reader.state()
    fail(folder, "no")
    assert without != waiting != reader.state() and reader.state() == reader.state()
    assert [sweep["counts"] for sweep in reader.sweeps()] == [{"failed": 1}]
