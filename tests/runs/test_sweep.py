"""A sweep: Hydra's -m, one process a job, the same command again runs only what is missing."""

from __future__ import annotations

import fcntl
import json
import signal
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from tests.conftest import TINY, Kdface, command, teach_otherwise
from tests.forked import Forked


def test_a_sweep_runs_each_job_once_and_overlaps_reuse_them(kdface: Kdface, tmp_path: Path) -> None:
    words = ["train", "-m", *TINY, "trainer.max_steps=2", f"paths.runs={tmp_path}/runs", "hydra.launcher.n_jobs=2"]
    said = kdface(*words, "seed=0,1")
    assert said.code == 0, said.err + said.out
    assert "2 jobs, 0 already finished" in said.out
    found = {yaml.safe_load(file.read_text())["seed"]: file.parent for file in (tmp_path / "runs").rglob("config.yaml")}
    assert set(found) == {0, 1}
    assert all((folder / "DONE").is_file() for folder in found.values())
    results = [json.loads((folder / "results.json").read_text())["metrics"] for folder in found.values()]
    assert results[0] != results[1]

    again = kdface(*words, "seed=1,2")
    assert again.code == 0, again.err + again.out
    assert "2 jobs, 1 already finished" in again.out
    assert len(list((tmp_path / "runs").rglob("config.yaml"))) == 3


def test_a_job_that_fails_is_listed_and_stops_no_other(kdface: Kdface, tmp_path: Path) -> None:
    for name in ("bad", "good"):
        for index in range(16):
            path = tmp_path / name / f"person_{index // 4}" / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), np.random.default_rng(index).integers(0, 256, (32, 32, 3), dtype=np.uint8))
    (tmp_path / "bad" / "person_0" / "0.png").write_bytes(b"not an image")
    words = [word for word in TINY if not word.startswith(("dataset", "evaluation"))]
    words += ["dataset=image_folder", "dataset.size=[32,32]", "evaluation=none", "trainer.max_epochs=1"]
    said = kdface("train", "-m", *words, "dataset.root=bad,good", f"paths.runs={tmp_path}/runs")
    assert said.code == 1
    assert "Traceback" not in said.err
    assert said.err.count("failed: ") == 1 and "dataset.root=bad" in said.err
    assert len(list((tmp_path / "runs").rglob("DONE"))) == 1
    (log,) = [file for file in (tmp_path / "runs").rglob("output.log") if "person_0/0.png" in file.read_text()]
    assert "error: " in log.read_text() and "Traceback" not in log.read_text()


def test_a_mistake_in_any_job_is_told_before_the_first_one_starts(kdface: Kdface, tmp_path: Path) -> None:
    said = kdface("train", "-m", *TINY, "head.margin=1.4,0.5", f"paths.runs={tmp_path}/runs")
    assert said.code == 2
    assert "head.margin = 0.5" in said.err
    assert not list((tmp_path / "runs").rglob("DONE"))


def test_what_failed_runs_again_on_request_alone(kdface: Kdface, tmp_path: Path) -> None:
    words = [word for word in TINY if not word.startswith(("dataset", "evaluation"))]
    words += ["dataset=image_folder", "dataset.size=[32,32]", "evaluation=none", "trainer.max_steps=1"]
    words = ["train", "-m", *words, "dataset.root=later", "seed=0,1", f"paths.runs={tmp_path}/runs"]
    first = kdface(*words)
    assert first.code == 1 and first.err.count("failed: ") == 2
    assert "later" in first.out  # the end of the log says what is missing
    (ledger,) = (tmp_path / "runs" / "sweeps").iterdir()
    for index in range(16):
        path = tmp_path / "later" / f"person_{index // 4}" / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.random.default_rng(index).integers(0, 256, (32, 32, 3), dtype=np.uint8))
    again = kdface(*words)
    assert again.code == 1 and again.out.count("failed already") == 2
    assert not list((tmp_path / "runs").rglob("DONE"))
    assert "2 jobs: 2 failed" in kdface("sweep", "status", str(ledger)).out
    retried = kdface("sweep", "retry", str(ledger), "hydra.launcher.n_jobs=2")
    assert retried.code == 0, retried.out + retried.err
    assert len(list((tmp_path / "runs").rglob("DONE"))) == 2
    assert "2 jobs: 2 done" in kdface("sweep", "status", str(ledger)).out
    assert "no job of this sweep failed" in kdface("sweep", "retry", str(ledger)).out


@pytest.mark.slow
def test_a_changed_configuration_is_shown_beside_the_earlier_one(kdface: Kdface, tmp_path: Path) -> None:
    words = ["train", "-m", *TINY, "trainer.max_steps=1", "seed=0,1", f"paths.runs={tmp_path}/runs"]
    first = kdface(*words)
    assert first.code == 0, first.err
    assert "differs" not in first.out
    again = kdface(*words, "optimizer.lr=0.02")
    assert again.code == 0, again.err
    assert "  optimizer.lr\n    - 0.01\n    + 0.02\n" in again.out
    assert again.out.count("optimizer.lr") == 1
    (ledger,) = (tmp_path / "runs" / "sweeps").iterdir()
    rows = [line.split(",") for line in (ledger / "results.csv").read_text().splitlines()]
    assert rows[0][:4] == ["run", "base", "seed", "state"]
    assert len(rows) == 5 and len({row[1] for row in rows[1:]}) == 2
    assert {row[3] for row in rows[1:]} == {"done"}


@pytest.mark.slow
def test_two_parents_at_once_share_the_jobs(tmp_path: Path) -> None:
    words = ["train", "-m", *TINY, "seed=0,1,2,3", "trainer.max_epochs=4", f"paths.runs={tmp_path}/runs"]
    for parent in [Forked(*words, cwd=tmp_path) for _ in range(2)]:
        assert parent.wait(300) == 0, parent.stdout
    logs = [file.read_text() for file in (tmp_path / "runs").rglob("output.log")]
    assert len(logs) == 4
    assert all(log.count("run folder: ") == 1 for log in logs)  # each job was trained once
    assert len(list((tmp_path / "runs").rglob("DONE"))) == 4


@pytest.mark.parametrize("how", ["Ctrl-C", "stop"])
def test_a_stopped_sweep_leaves_nothing_running_and_goes_on(tmp_path: Path, how: str) -> None:
    words = ["train", "-m", *TINY, "seed=0,1", "trainer.max_epochs=10000", f"paths.runs={tmp_path}/runs"]
    parent = Forked(*words, cwd=tmp_path)
    while parent.poll() is None and not list(tmp_path.rglob("metrics.jsonl")):
        time.sleep(0.05)
    (ledger,) = (tmp_path / "runs" / "sweeps").iterdir()
    if how == "stop":
        stopped = command("sweep", "stop", str(ledger), cwd=tmp_path)
        assert stopped.returncode == 0, stopped.stderr
        assert "1 process(es) were asked to stop" in stopped.stdout and "still running" not in stopped.stdout
    else:
        parent.send_signal(signal.SIGINT)
    assert parent.wait(60) == 130
    assert "rerun the same command" in parent.stderr and "Traceback" not in parent.stderr
    for lock in (tmp_path / "runs").rglob(".lock"):
        with open(lock) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises where a job still runs
    assert "1 interrupted, 1 waiting" in command("sweep", "status", str(ledger), cwd=tmp_path).stdout


@pytest.mark.slow
def test_students_of_a_teacher_that_has_changed_are_not_called_done(kdface: Kdface, tmp_path: Path) -> None:
    tiny = [*TINY, "trainer.max_steps=1", f"paths.runs={tmp_path}/runs"]
    assert kdface("train", *tiny, "name=teacher").code == 0
    words = ["train", "-m", *tiny, "name=student", "method=distillation", "teacher.run=runs/teacher", "seed=0,1"]
    first = kdface(*words)
    assert first.code == 0, first.out + first.err
    teach_otherwise(next((tmp_path / "runs").glob("teacher/*")))
    again = kdface(*words)
    assert again.code == 2 and "its teacher has changed since" in again.err
    assert "student/seed0-" in again.err and "student/seed1-" in again.err  # both are named at once
    assert "done already" not in again.out


def test_a_sweep_over_runs_of_several_machines_is_refused(kdface: Kdface, tmp_path: Path) -> None:
    said = kdface("train", "-m", *TINY, "trainer.num_nodes=1,2", f"paths.runs={tmp_path}/runs")
    assert said.code == 2 and "trainer.num_nodes = 2 in a sweep" in said.err
    assert not (tmp_path / "runs").exists()
