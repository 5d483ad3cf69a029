"""Sweeps on a real one-node SLURM (see tests/slurm/start.sh) and on a Ray of this machine."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import TINY, command


def _slurm_answers() -> bool:
    if shutil.which("sinfo") is None:
        return False
    return subprocess.run(["sinfo", "--noheader"], capture_output=True).returncode == 0


slurm = pytest.mark.skipif(
    not _slurm_answers() or importlib.util.find_spec("submitit") is None,
    reason='no SLURM: sh tests/slurm/start.sh, and pip install "kdface[slurm]"',
)
ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason='no Ray: pip install "kdface[ray]"')


def _all_done(runs: Path, count: int) -> None:
    assert len(list(runs.rglob("DONE"))) == count
    (table,) = (runs / "sweeps").glob("*/results.json")
    assert [job["state"] for job in json.loads(table.read_text())["jobs"]] == ["done"] * count


@slurm
def test_a_sweep_runs_as_a_slurm_array(tmp_path: Path) -> None:
    words = ["train", "-m", *TINY, "trainer.max_steps=2", "seed=0,1,2", f"paths.runs={tmp_path}/runs"]
    words += ["hydra/launcher=slurm", "hydra.launcher.cores=1", "hydra.launcher.minutes=10"]
    said = command(*words, cwd=tmp_path)
    assert said.returncode == 0, said.stdout + said.stderr
    _all_done(tmp_path / "runs", 3)
    tickets = {json.loads(file.read_text())["ticket"] for file in (tmp_path / "runs").glob("sweeps/*/jobs/*.json")}
    assert len({ticket.partition("_")[0] for ticket in tickets}) == 1  # one array
    again = command(*words, cwd=tmp_path)
    assert again.returncode == 0 and "3 already finished" in again.stdout


@slurm
def test_jobs_in_the_queue_outlive_their_parent_and_are_found_again(tmp_path: Path) -> None:
    words = ["train", "-m", *TINY, "trainer.max_epochs=40", "seed=0,1", f"paths.runs={tmp_path}/runs"]
    words += ["hydra/launcher=slurm", "hydra.launcher.cores=1", "hydra.launcher.minutes=10"]
    parent = subprocess.Popen([sys.executable, "-m", "kdface", *words], cwd=tmp_path)
    deadline = time.monotonic() + 120
    while not list(tmp_path.rglob("metrics.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.1)
    parent.kill()
    parent.wait()
    again = command(*words, cwd=tmp_path)
    assert again.returncode == 0, again.stdout + again.stderr
    _all_done(tmp_path / "runs", 2)
    logs = [file.read_text() for file in (tmp_path / "runs").rglob("output.log")]
    assert [log.count("run folder: ") for log in logs] == [1, 1]


@slurm
def test_a_preempted_job_goes_into_the_queue_again_and_resumes(tmp_path: Path) -> None:
    words = ["train", "-m", *TINY, "trainer.max_epochs=100", "resume.every_n_train_steps=1", "seed=0"]
    words += [f"paths.runs={tmp_path}/runs", "hydra/launcher=slurm", "hydra.launcher.cores=1"]
    parent = subprocess.Popen(
        [sys.executable, "-m", "kdface", *words],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not list(tmp_path.rglob("last.ckpt")) and time.monotonic() < deadline:
        time.sleep(0.05)
    (file,) = (tmp_path / "runs").glob("sweeps/*/jobs/*.json")
    subprocess.run(["scontrol", "requeue", json.loads(file.read_text())["ticket"]], check=True)
    said, _ = parent.communicate(timeout=400)
    assert parent.returncode == 0, said
    _all_done(tmp_path / "runs", 1)
    (log,) = (tmp_path / "runs").rglob("output.log")
    assert "resuming at step" in log.read_text()


@ray
def test_a_sweep_runs_on_a_local_ray(tmp_path: Path) -> None:
    words = ["train", "-m", *TINY, "trainer.max_steps=2", "seed=0,1,2", f"paths.runs={tmp_path}/runs"]
    said = command(*words, "hydra/launcher=ray", cwd=tmp_path)
    assert said.returncode == 0, said.stdout + said.stderr
    _all_done(tmp_path / "runs", 3)


def test_a_launcher_that_is_not_installed_is_told_of(tmp_path: Path) -> None:
    if shutil.which("sbatch") is not None:
        pytest.skip("there is a SLURM")
    words = ["train", "-m", *TINY, "seed=0,1", f"paths.runs={tmp_path}/runs", "hydra/launcher=slurm"]
    said = command(*words, cwd=tmp_path)
    assert said.returncode == 2 and "hydra/launcher=slurm" in said.stderr and "Traceback" not in said.stderr
    assert not list(tmp_path.rglob("DONE"))
