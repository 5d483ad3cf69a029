"""A machine divided among jobs: every core belongs to one slot, GPUs in groups as large as a job's ranks."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import kdface
from kdface.errors import UserError
from kdface.hardware import cores
from kdface.sweeps import child, slots
from kdface.sweeps.lifeline import said, was_stopped
from kdface.sweeps.slots import Slot, divide, share, shared_out


@pytest.mark.parametrize(("cores", "count"), [(8, 1), (8, 2), (8, 3), (7, 4), (2, 2)])
def test_cores_are_divided_evenly_and_completely(cores: int, count: int) -> None:
    shares = shared_out(list(range(cores)), count)
    assert sorted(core for share in shares for core in share) == list(range(cores))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_more_jobs_than_cores_get_one_core_each() -> None:
    assert shared_out([4, 5], 5) == [(4,), (5,), (4,), (5,), (4,)]


def test_one_slot_for_each_group_of_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,3,GPU-a,6")
    assert [slot.gpus for slot in divide(None, 1)] == [("1",), ("3",), ("GPU-a",), ("6",)]
    assert [slot.gpus for slot in divide(None, 2)] == [("1", "3"), ("GPU-a", "6")]
    assert [slot.gpus for slot in divide(3, 2)] == [("1", "3"), ("GPU-a", "6"), ("1", "3")]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert [slot.gpus for slot in divide(None, 1)] == [()]


def test_more_ranks_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with pytest.raises(UserError, match=r"trainer.devices = 3, but this machine has 2"):
        divide(None, 3)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert len(divide(None, 3)) == 1


def test_a_job_asks_a_cluster_for_what_its_ranks_need() -> None:
    assert share(None, 2, 4, "hydra.launcher.cores") == 8
    assert share(0.25, 1, 1, "hydra.launcher.gpus") == 0.25
    assert share(0, 2, 1, "hydra.launcher.gpus") == 0  # ranks without GPUs
    with pytest.raises(UserError, match=r"hydra.launcher.gpus = 1, but trainer.devices = 2"):
        share(1, 2, 1, "hydra.launcher.gpus")


def test_a_jobs_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "free_port", lambda: 4321)
    found = Slot((0, 1, 2, 3), ("2", "5")).environment(devices=2)
    assert found == {"OMP_NUM_THREADS": "2", "MASTER_PORT": "4321", "CUDA_VISIBLE_DEVICES": "2,5"}


def test_what_stopped_a_job_is_told_from_what_failed_it() -> None:
    assert all(was_stopped(code) for code in (-9, -15, -2, 130, 143))
    assert not any(was_stopped(code) for code in (0, 1, 2, -11, -6, 75))
    assert said(-11) == "SIGSEGV" and said(3) == "exit code 3" and said(-9).startswith("SIGKILL")


def test_a_child_uses_as_many_processors_as_it_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    for name, given in (("one", 1), ("too many", 10**6)):
        says = tmp_path / name
        says.write_text(
            f"#!{sys.executable}\nimport os, sys\nsys.path.insert(0, {str(Path(kdface.__file__).parents[1])!r})\n"
            "from kdface.hardware import cores\nprint(cores(), os.environ['OMP_NUM_THREADS'])"
        )
        says.chmod(0o755)
        monkeypatch.setattr("sys.executable", str(says))
        (tmp_path / "output.log").unlink(missing_ok=True)
        assert child.run_child(str(tmp_path), given) == 0
        expected = min(given, cores())
        assert (tmp_path / "output.log").read_text() == f"{expected} {expected}\n"
