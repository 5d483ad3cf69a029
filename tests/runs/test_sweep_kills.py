"""A sweep whose parent, server or jobs get SIGKILL at random moments ends with the bytes of an undisturbed one."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import TINY, command
from tests.forked import Forked

KILLS = 20
# Twelve jobs. Checkpoints are rare, so kills fall before the first one, between two, and into the writing of one.
WORDS = [
    "train",
    "-m",
    *TINY,
    "seed=0,1,2",
    "head.margin=1.2,1.4",
    "optimizer.lr=0.01,0.02",
    "trainer.max_epochs=20",
    "resume.every_n_train_steps=7",
    "hydra.launcher.n_jobs=2",
]


def children(pid: int) -> list[int]:
    """The processes that a process started."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append(int(stat.parent.name))
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for_jobs(parent: Forked, seconds: float = 120) -> list[int]:
    """The job processes of a sweep, as soon as there are any; none where it ended before."""
    deadline = time.monotonic() + seconds
    while parent.poll() is None and time.monotonic() < deadline:
        jobs = [job for server in children(parent.pid) for job in children(server)]
        if jobs:
            return jobs
        time.sleep(0.01)
    return []


def test_no_job_outlives_a_parent_that_is_killed(tmp_path: Path) -> None:
    parent = Forked(*WORDS, "trainer.max_epochs=10000", f"paths.runs={tmp_path}/runs", cwd=tmp_path)
    jobs = wait_for_jobs(parent)
    servers = children(parent.pid)
    assert jobs and servers
    parent.send_signal(signal.SIGKILL)
    parent.wait(60)
    deadline = time.monotonic() + 10
    while any(map(alive, [*jobs, *servers])) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(alive, [*jobs, *servers]))


@pytest.mark.slow
def test_a_sweep_that_is_killed_twenty_times_ends_with_the_same_table(tmp_path: Path) -> None:
    for name in ("calm", "killed"):
        (tmp_path / name).mkdir()
    calm = command(*WORDS, f"paths.runs={tmp_path}/calm/runs", cwd=tmp_path / "calm")
    assert calm.returncode == 0, calm.stdout + calm.stderr

    words, cwd = [*WORDS, f"paths.runs={tmp_path}/killed/runs"], tmp_path / "killed"
    rng = random.Random(7)
    for seconds in (0.5, 2, 4):  # one with its whole start, while it imports; a fork has imported everything
        starting = subprocess.Popen([sys.executable, "-m", "kdface", *words], cwd=cwd)
        time.sleep(seconds)
        starting.kill()
        assert starting.wait(60) == -signal.SIGKILL
    kills: list[str] = []
    parent = Forked(*words, cwd=cwd)
    while len(kills) < KILLS:
        if rng.random() < 0.15:
            time.sleep(rng.uniform(0, 6))  # while it composes and starts its server
        elif wait_for_jobs(parent):
            time.sleep(rng.uniform(0, 1.5))
        if parent.poll() is not None:  # it ran all that no kill had interrupted: the same command again
            assert parent.returncode != 0, f"the sweep ended after {len(kills)} kills: its jobs are too short"
            parent = Forked(*words, cwd=cwd)
            continue
        servers = children(parent.pid)
        jobs = [job for server in servers for job in children(server)]
        victims = {"parent": [parent.pid], "server": servers, "job": jobs}
        kind = rng.choice([name for name, pids in victims.items() if pids])
        done = len(list((cwd / "runs").rglob("DONE")))
        try:
            os.kill(rng.choice(victims[kind]), signal.SIGKILL)
        except ProcessLookupError:
            continue  # it ended by itself just now
        kills.append(kind)
        print(f"kill {len(kills)}: {kind}, {done} jobs done")
        if kind == "parent" or parent.poll() is not None:
            parent.wait(60)
            parent = Forked(*words, cwd=cwd)
    parent.wait(300)
    final = command(*words, cwd=cwd)
    assert final.returncode == 0, final.stdout + final.stderr
    for name in ("results.csv", "results.json"):
        tables = [next((tmp_path / side / "runs" / "sweeps").glob(f"*/{name}")) for side in ("calm", "killed")]
        assert tables[0].read_bytes() == tables[1].read_bytes(), name
        print(f"{name}: {len(tables[0].read_bytes())} bytes, identical after {KILLS} kills")
    assert len(tables[0].read_text().splitlines()) > 12
