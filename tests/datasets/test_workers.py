"""Loader processes that are killed, frozen or without shared memory: one message, and the same command goes on."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from kdface.augmentations import Standard
from kdface.config.fingerprint import fingerprint
from kdface.datasets import workers
from kdface.datasets.loading import BatchOrder, ResumableLoader, TrainingSet, collate
from kdface.errors import UserError, of_memory
from kdface.faces import Sample
from tests.conftest import UNTESTED, Kdface, only_run
from tests.teachers.quality.stand_ins import Faces, random_faces


class Doomed(Faces):
    """Its loader process sends itself a signal at the third image."""

    number: int

    def __getitem__(self, index: int) -> Sample:
        if index == 2 and multiprocessing.parent_process() is not None:
            os.kill(os.getpid(), self.number)
        return super().__getitem__(index)


def _loader(number: int, timeout: int) -> ResumableLoader:
    images = random_faces(4, 1, (32, 32)).images
    faces = Doomed(images, list("abcd"))
    faces.number = number
    order: NDArray[np.int64] = np.arange(4).reshape(4, 1)
    training = TrainingSet(faces, Standard(), seed=0)
    return ResumableLoader(training, BatchOrder(lambda epoch: order), workers=1, timeout=timeout)


def test_a_killed_process_is_named() -> None:
    with pytest.raises(UserError, match=r"^(a loader process|loader process \d+) was killed") as error:
        list(_loader(signal.SIGKILL, 60))
    assert "loader.num_workers=0" in error.value.fix and "rerun the same command" in error.value.fix


def test_a_frozen_process_is_named_and_ended() -> None:
    """It would stay for good, and so would a command that waits for its processes at its end."""
    began = time.monotonic()
    with pytest.raises(UserError, match=r"delivered no batch for 2 s \(loader process (\d+) is stopped\)") as error:
        list(_loader(signal.SIGSTOP, 2))
    assert "loader.timeout=4" in error.value.fix
    assert time.monotonic() - began < 60
    assert not any(workers.is_stopped(child.pid or 0) for child in multiprocessing.active_children())


_WORDS = {
    "unable to allocate shared memory(shm) for file </torch_1_2>: No space left on device (28)": "/dev/shm",
    "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's workers are out of "
    "shared memory. Please try to raise your shared memory limit.": "/dev/shm",
    "DataLoader worker (pid 7) is killed by signal: Killed. ": "loader process 7 was killed by a signal (Killed)",
    "DataLoader worker (pid(s) 7, 8) exited unexpectedly": "loader process 7, 8 was killed",
    "DataLoader timed out after 5 seconds": "delivered no batch for 5 s (no loader process is stopped)",
}


@pytest.mark.parametrize("text", _WORDS)
def test_what_torch_says(text: str) -> None:
    told = workers.lost_worker(RuntimeError(text))
    assert told is not None and _WORDS[text] in told.problem and "loader.num_workers=0" in told.fix


def test_other_errors_are_left_alone() -> None:
    assert workers.lost_worker(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None
    assert workers.lost_worker(ValueError("DataLoader timed out after 5 seconds")) is None
    assert of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None


def test_full_shared_memory_is_found_in_the_process_that_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch itself finds it in a thread, whose traceback leaves the run waiting."""

    def full(self: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("unable to write to file </torch_9_1>: No space left on device (28)")

    items: list[Any] = [({"image": np.zeros((2, 2, 3), np.uint8)}, 0, "a")]
    monkeypatch.setattr(torch.Tensor, "share_memory_", full)
    assert not isinstance(collate(items), UserError)  # not in a loader process
    monkeypatch.setattr(workers, "get_worker_info", lambda: object())
    found = collate(items)
    assert isinstance(found, UserError) and "/dev/shm" in found.problem and "--shm-size" in found.fix


def test_the_timeout_names_no_run() -> None:
    from kdface.config.compose import compose

    trees = [compose([*UNTESTED, f"loader.timeout={seconds}"]).tree for seconds in (0, 60)]
    before = compose(UNTESTED).tree
    del before["loader"]["timeout"]
    assert len({fingerprint(tree) for tree in (*trees, before)}) == 1


@pytest.mark.parametrize(
    ("kind", "text", "told"),
    [
        (
            RuntimeError,
            "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to "
            "allocate 5120000 bytes. Error code 12 (Cannot allocate memory)",
            "out of memory: 5120000 bytes were requested",
        ),
        (
            torch.OutOfMemoryError,
            "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 139.00 GiB of which 1.00 "
            "GiB is free.",
            "out of memory of the GPU: 2.00 GiB were requested",
        ),
        (MemoryError, "", "out of memory."),
    ],
)
def test_memory_that_runs_out_is_one_message(
    kdface: Kdface, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Exception], text: str, told: str
) -> None:
    from kdface.methods import SphereFaceR

    def full(*_: object) -> None:
        raise kind(text)

    words = ("train", *UNTESTED, "trainer.max_steps=1")
    with monkeypatch.context() as patch:
        patch.setattr(SphereFaceR, "terms", full)
        said = kdface(*words)
    assert said.code == 1 and f"error: {told}" in said.err and "rerun the same command" in " ".join(said.err.split())
    assert "Traceback" not in said.err
    assert kdface(*words).code == 0 and (only_run(tmp_path / "runs") / "DONE").is_file()


def test_a_signal_while_the_cause_is_sought_does_not_hide_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch raises wherever the signal of a killed process happens to arrive, also in the search for the cause."""

    def interrupted(error: BaseException) -> BaseException:
        raise RuntimeError("DataLoader worker (pid 4711) is killed by signal: Killed. ")

    monkeypatch.setattr(workers, "cause_of", interrupted)
    found = workers.worker_error(ConnectionResetError(), [4711], 2.0)
    assert found is not None and "delivered no batch for 2 s (loader process 4711 is stopped)" in found.problem


def test_a_frozen_process_that_the_timer_ends_just_now_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch's timeout and ours are equally long: the process may be gone when it is looked at."""
    frozen: list[int] = []

    def looked_at(pid: int) -> bool:
        frozen.append(pid)  # by the other thread, which kills it
        return False

    monkeypatch.setattr(multiprocessing, "active_children", lambda: [SimpleNamespace(pid=4711)])
    monkeypatch.setattr(workers, "is_stopped", looked_at)
    monkeypatch.setattr(workers, "cause_of", lambda error: error)
    found = workers.lost_worker(RuntimeError("DataLoader timed out after 2 seconds"), frozen, 2.0)
    assert found is not None and "(loader process 4711 is stopped)" in found.problem
