"""Report loader processes that die, freeze or run out of shared memory, with the process and the cause."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import re
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from torch import Tensor
from torch.utils.data import get_worker_info

from kdface.errors import UserError


class WorkerError(UserError):
    """A loader process was killed, timed out, or ran out of shared memory."""


_PROCESS = re.compile(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]*)\)")
_LATE = re.compile(r"DataLoader timed out after (\S+) seconds")
_SHARED = re.compile(r"Bus error|shared memory|unable to write to file </torch", re.IGNORECASE)


# Errors raised when reading a batch from a process that just died, before torch notices.
BROKEN_OFF = (ConnectionError, EOFError, FileNotFoundError)


def cause_of(error: BaseException) -> BaseException:
    """Torch's error for the process that died, which a signal may deliver a moment later; else the given error."""
    if isinstance(error, BROKEN_OFF) and "in DataLoader worker process" not in str(error):  # raised by the dataset
        try:
            time.sleep(2)
        except RuntimeError as said:
            return said
        return RuntimeError("DataLoader worker (pid ) exited")
    return error


@contextlib.contextmanager
def frozen_ended(seconds: float) -> Iterator[list[int]]:
    """Kill loader processes that are stopped after `seconds` (0: never); yields the list of their ids. Torch has a
    timeout for the batch queue but none for the tensors of a batch, for which it would wait forever."""
    frozen: list[int] = []
    timer = threading.Timer(seconds, _end_frozen, [frozen])
    timer.daemon = True
    if seconds:
        timer.start()
    try:
        yield frozen
    finally:
        timer.cancel()


def lost_worker(error: BaseException, frozen: list[int] | None = None, seconds: float = 0) -> WorkerError | None:
    """Convert torch's error about a loader process to one message; None if the error is unrelated.

    Frozen processes are killed: they would not exit, and their parent waits for them. `frozen` is the list to which
    `frozen_ended` may be adding in its own thread.
    """
    text = str(error)
    process, late = _PROCESS.search(text), _LATE.search(text)
    ended = [] if frozen is None else frozen
    if late and isinstance(error, RuntimeError):
        _end_frozen(ended)
    if ended or (late and isinstance(error, RuntimeError)):
        if ended and not process:
            cause_of(ConnectionResetError())  # consume torch's report of the processes killed here
        return _late(float(late[1]) if late else seconds, ended)
    if not isinstance(error, RuntimeError) or not (process or ("torch" in text and _SHARED.search(text))):
        return None
    fix = "loader.num_workers=0, or free memory (dmesg says what the system killed)"
    if _SHARED.search(text):
        what = "the loader's processes ran out of shared memory, /dev/shm"
        fix = "loader.num_workers=0, or a larger one (docker run --shm-size=8g; mount -o remount,size=8g /dev/shm)"
    else:
        assert process is not None
        cause = re.search(r"by signal: ([^.]+?)\s*\.", text)
        which = f"loader process {process[1]}" if process[1] else "a loader process"
        what = f"{which} was killed{f' by a signal ({cause[1]})' if cause else ''}"
    return WorkerError(f"{what}.", fix=f"{fix}; rerun the same command to resume from the last checkpoint")


def worker_error(error: BaseException, frozen: list[int], seconds: float) -> WorkerError | None:
    """`lost_worker` of the cause; torch's signal of a process that was killed here may arrive while it is sought."""
    try:
        return lost_worker(cause_of(error), frozen, seconds)
    except RuntimeError as said:
        return lost_worker(said, frozen, seconds)


def _late(seconds: float, frozen: Sequence[int]) -> WorkerError:
    which = f"loader process {', '.join(map(str, frozen))} is stopped" if frozen else "no loader process is stopped"
    return WorkerError(
        f"the loader's processes delivered no batch for {seconds:g} s ({which}).",
        fix=f"loader.timeout={2 * seconds:g} if reading is that slow, or loader.num_workers=0; rerun the same command "
        "to resume from the last checkpoint",
    )


def shared(tensor: Tensor) -> Tensor:
    """In a loader process: move the tensor to shared memory, so that a full one is detected here.

    Raises `UserError` if it is full; torch would detect it in a thread, print a traceback and hang.
    """
    if get_worker_info() is None:
        return tensor
    try:
        tensor.share_memory_()  # type: ignore[no-untyped-call]
        return tensor
    except RuntimeError as error:
        raise lost_worker(error) or error from None


def _end_frozen(found: list[int]) -> None:
    """Kill this process's stopped children, and add their ids first: two threads may find them at the same time, and
    the second sees a process that is no longer stopped."""
    for pid in [child.pid for child in multiprocessing.active_children() if child.pid and is_stopped(child.pid)]:
        if pid not in found:
            found.append(pid)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def is_stopped(pid: int) -> bool:
    """Whether a process was stopped by a signal; false if the system does not report it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in ("T", "t")
    except (OSError, IndexError):
        return False
