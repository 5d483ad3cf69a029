"""A sweep: Hydra's -m, one process a job, the same command again runs only what is missing."""

from __future__ import annotations

import fcntl
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from tests.conftest import TINY, Kdface, command, teach_otherwise


def test_a_sweep_runs_each_job_once_and_overlaps_reuse_them(tmp_path: Path) -> None:
    words = ["train", "-m", *TINY, "trainer.max_steps=2", f"paths.runs={tmp_path}/runs", "hydra.launcher.n_jobs=2"]
    said = command(*words, "seed=0,1", cwd=tmp_path)
    assert said.returncode == 0, said.stderr + said.stdout
    assert "2 jobs, 0 already finished" in said.stdout
    found = {yaml.safe_load(file.read_text())["seed"]: file.parent for file in (tmp_path / "runs").rglob("config.yaml")}
    assert set(found) == {0, 1}
    assert all((folder / "DONE").is_file() for folder in found.values())
    results = [json.loads((folder / "results.json").read_text())["metrics"] for folder in found.values()]
    assert results[0] != results[1]

    again = command(*words, "seed=1,2", cwd=tmp_path)
    assert again.returncode == 0, again.stderr + again.stdout
    assert "2 jobs, 1 already finished" in again.stdout
    assert len(list((tmp_path / "runs").rglob("config.yaml"))) == 3


def test_a_job_that_fails_is_listed_and_stops_no_other(tmp_path: Path) -> None:
    for name in ("bad", "good"):
        for index in range(16):
            path = tmp_path / name / f"person_{index // 4}" / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), np.random.default_rng(index).integers(0, 256, (32, 32, 3), dtype=np.uint8))
    (tmp_path / "bad" / "person_0" / "0.png").write_bytes(b"not an image")
    words = [word for word in TINY if not word.startswith(("dataset", "evaluation"))]
    words += ["dataset=image_folder", "dataset.size=[32,32]", "evaluation=none", "trainer.max_epochs=1"]
    said = command("train", "-m", *words, "dataset.root=bad,good", f"paths.runs={tmp_path}/runs", cwd=tmp_path)
    assert said.returncode == 1
    assert "Traceback" not in said.stderr
    assert said.stderr.count("failed: ") == 1 and "dataset.root=bad" in said.stderr
    assert len(list((tmp_path / "runs").rglob("DONE"))) == 1
    (log,) = [file for file in (tmp_path / "runs").rglob("output.log") if "person_0/0.png" in file.read_text()]
    assert "error: " in log.read_text() and "Traceback" not in log.read_text()


def test_a_mistake_in_any_job_is_told_before_the_first_one_starts(kdface: Kdface, tmp_path: Path) -> None:
    said = kdface("train", "-m", *TINY, "head.margin=1.4,0.5", f"paths.runs={tmp_path}/runs")
    assert said.code == 2
    assert "head.margin = 0.5" in said.err
    assert not list((tmp_path / "runs").rglob("DONE"))


def test_what_failed_runs_again_on_request_alone(tmp_path: Path) -> None:
    words = [word for word in TINY if not word.startswith(("dataset", "evaluation"))]
    words += ["dataset=image_folder", "dataset.size=[32,32]", "evaluation=none", "trainer.max_steps=1"]
    words = ["train", "-m", *words, "dataset.root=later", "seed=0,1", f"paths.runs={tmp_path}/runs"]
    first = command(*words, cwd=tmp_path)
    assert first.returncode == 1 and first.stderr.count("failed: ") == 2
    assert "later" in first.stdout  # the end of the log says what is missing
    (ledger,) = (tmp_path / "runs" / "sweeps").iterdir()
    for index in range(16):
        path = tmp_path / "later" / f"person_{index // 4}" / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.random.default_rng(index).integers(0, 256, (32, 32, 3), dtype=np.uint8))
    again = command(*words, cwd=tmp_path)
    assert again.returncode == 1 and again.stdout.count("failed already") == 2
    assert not list((tmp_path / "runs").rglob("DONE"))
    assert "2 jobs: 2 failed" in command("sweep", "status", str(ledger), cwd=tmp_path).stdout
    retried = command("sweep", "retry", str(ledger), "hydra.launcher.n_jobs=2", cwd=tmp_path)
    assert retried.returncode == 0, retried.stdout + retried.stderr
    assert len(list((tmp_path / "runs").rglob("DONE"))) == 2
    assert "2 jobs: 2 done" in command("sweep", "status", str(ledger), cwd=tmp_path).stdout
    assert "no job of this sweep failed" in command("sweep", "retry", str(ledger), cwd=tmp_path).stdout


@pytest.mark.slow
def test_a_changed_configuration_is_shown_beside_the_earlier_one(tmp_path: Path) -> None:
    words = ["train", "-m", *TINY, "trainer.max_steps=1", "seed=0,1", f"paths.runs={tmp_path}/runs"]
    first = command(*words, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "differs" not in first.stdout
    again = command(*words, "optimizer.lr=0.02", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "  optimizer.lr\n    - 0.01\n    + 0.02\n" in again.stdout
    assert again.stdout.count("optimizer.lr") == 1
    (ledger,) = (tmp_path / "runs" / "sweeps").iterdir()
    rows = [line.split(",") for line in (ledger / "results.csv").read_text().splitlines()]
    assert rows[0][:4] == ["run", "base", "seed", "state"]
    assert len(rows) == 5 and len({row[1] for row in rows[1:]}) == 2
    assert {row[3] for row in rows[1:]} == {"done"}


@pytest.mark.slow
def test_two_parents_at_once_share_the_jobs(tmp_path: Path) -> None:
    words = ["train", "-m", *TINY, "seed=0,1,2,3", "trainer.max_epochs=4", f"paths.runs={tmp_path}/runs"]
    both = [
        subprocess.Popen([sys.executable, "-m", "kdface", *words], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for parent in both:
        said, _ = parent.communicate(timeout=300)
        assert parent.returncode == 0, said
    logs = [file.read_text() for file in (tmp_path / "runs").rglob("output.log")]
    assert len(logs) == 4
    assert all(log.count("run folder: ") == 1 for log in logs)  # each job was trained once
    assert len(list((tmp_path / "runs").rglob("DONE"))) == 4


@pytest.mark.parametrize("how", ["Ctrl-C", "stop"])
def test_a_stopped_sweep_leaves_nothing_running_and_goes_on(tmp_path: Path, how: str) -> None:
    words = ["train", "-m", *TINY, "seed=0,1", "trainer.max_epochs=10000", f"paths.runs={tmp_path}/runs"]
    parent = subprocess.Popen(
        [sys.executable, "-m", "kdface", *words],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    while parent.poll() is None and not list(tmp_path.rglob("metrics.jsonl")):
        time.sleep(0.05)
    (ledger,) = (tmp_path / "runs" / "sweeps").iterdir()
    if how == "stop":
        stopped = command("sweep", "stop", str(ledger), cwd=tmp_path)
        assert stopped.returncode == 0, stopped.stderr
        assert "1 process(es) were asked to stop" in stopped.stdout and "still running" not in stopped.stdout
    else:
        parent.send_signal(signal.SIGINT)
    _, said = parent.communicate(timeout=60)
    assert parent.returncode == 130
    assert "rerun the same command" in said and "Traceback" not in said
    for lock in (tmp_path / "runs").rglob(".lock"):
        with open(lock) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises where a job still runs
    assert "1 interrupted, 1 waiting" in command("sweep", "status", str(ledger), cwd=tmp_path).stdout


@pytest.mark.slow
def test_students_of_a_teacher_that_has_changed_are_not_called_done(tmp_path: Path) -> None:
    tiny = [*TINY, "trainer.max_steps=1", f"paths.runs={tmp_path}/runs"]
    assert command("train", *tiny, "name=teacher", cwd=tmp_path).returncode == 0
    words = ["train", "-m", *tiny, "name=student", "method=distillation", "teacher.run=runs/teacher", "seed=0,1"]
    first = command(*words, cwd=tmp_path)
    assert first.returncode == 0, first.stdout + first.stderr
    teach_otherwise(next((tmp_path / "runs").glob("teacher/*")))
    again = command(*words, cwd=tmp_path)
    assert again.returncode == 2 and "its teacher has changed since" in again.stderr
    assert "student/seed0-" in again.stderr and "student/seed1-" in again.stderr  # both are named at once
    assert "done already" not in again.stdout


def test_a_sweep_over_runs_of_several_machines_is_refused(kdface: Kdface, tmp_path: Path) -> None:
    said = kdface("train", "-m", *TINY, "trainer.num_nodes=1,2", f"paths.runs={tmp_path}/runs")
    assert said.code == 2 and "trainer.num_nodes = 2 in a sweep" in said.err
    assert not (tmp_path / "runs").exists()
