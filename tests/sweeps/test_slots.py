"""A machine divided among jobs: every core belongs to one slot, GPUs in groups as large as a job's ranks."""

from __future__ import annotations

import pytest

from kdface.sweeps import slots
from kdface.sweeps.lifeline import said, was_stopped
from kdface.sweeps.slots import Slot, divide, shared_out


@pytest.mark.parametrize(("cores", "count"), [(8, 1), (8, 2), (8, 3), (7, 4), (2, 2)])
def test_cores_are_divided_evenly_and_completely(cores: int, count: int) -> None:
    shares = shared_out(list(range(cores)), count)
    assert sorted(core for share in shares for core in share) == list(range(cores))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_more_jobs_than_cores_get_one_core_each() -> None:
    assert shared_out([4, 5], 5) == [(4,), (5,), (4,), (5,), (4,)]


def test_one_slot_for_each_group_of_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,3,GPU-a,6")
    assert [each.gpus for each in divide(None, 1)] == [("1",), ("3",), ("GPU-a",), ("6",)]
    assert [each.gpus for each in divide(None, 2)] == [("1", "3"), ("GPU-a", "6")]
    assert [each.gpus for each in divide(3, 2)] == [("1", "3"), ("GPU-a", "6"), ("1", "3")]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert [each.gpus for each in divide(None, 1)] == [()]


def test_a_jobs_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "free_port", lambda: 4321)
    found = Slot((0, 1, 2, 3), ("2", "5")).environment(devices=2)
    assert found == {"OMP_NUM_THREADS": "2", "MASTER_PORT": "4321", "CUDA_VISIBLE_DEVICES": "2,5"}


def test_what_stopped_a_job_is_told_from_what_failed_it() -> None:
    assert all(was_stopped(code) for code in (-9, -15, -2, 130, 143))
    assert not any(was_stopped(code) for code in (0, 1, 2, -11, -6, 75))
    assert said(-11) == "SIGSEGV" and said(3) == "exit code 3" and said(-9).startswith("SIGKILL")
