"""If a rank of this machine dies or freezes, report it and the cause once and stop all ranks."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from kdface.datasets.workers import is_stopped
from kdface.errors import UserError

_FROZEN = 60.0  # seconds a rank may be stopped (SIGSTOP)
_POLL = 0.3
_ASKED = 130  # exit code of ranks that were asked to stop
_GRACE = 3.0  # seconds to notice the end of a rank after its connection broke
_BROKEN = ("Connection closed by peer", "Connection reset by peer", "Timed out waiting", "NCCL", "Broken pipe")


class Rank:
    """A process started by Lightning's launcher, replacing its `Popen` in the launcher's list.

    Lightning always sees it as running, since its observer would otherwise silently kill all ranks, including this
    process, when one has ended. Signals are forwarded to the process.
    """

    returncode = None

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process

    def poll(self) -> None:
        """Always report the process as running."""

    def send_signal(self, number: int) -> None:
        """Forward a signal."""
        self.process.send_signal(number)


def taken_over(processes: list[Any]) -> dict[int, subprocess.Popen[bytes]]:
    """Rank -> process of a launcher's list; replaces the list's entries by `Rank`s."""
    for place, process in enumerate(processes):
        if not isinstance(process, Rank):
            processes[place] = Rank(process)
    return {place + 1: watched_rank.process for place, watched_rank in enumerate(processes)}


def ended(process: subprocess.Popen[bytes]) -> str:
    """How a process failed; "" if it runs or has succeeded."""
    code = process.poll()
    if code in (None, 0, _ASKED):
        return ""
    if code > 0:
        return f"exited with code {code}; see its message above"
    return f"was killed by a signal ({signal.Signals(-code).name})"


def lost(
    ranks: dict[int, subprocess.Popen[bytes]], since: dict[int, float], frozen: float = _FROZEN
) -> UserError | None:
    """The first rank that died or has been stopped for `frozen` seconds; `since` stores when each was stopped."""
    for rank, process in sorted(ranks.items()):
        how, pid = ended(process), process.pid
        if is_stopped(pid):
            if time.monotonic() - since.setdefault(pid, time.monotonic()) >= frozen:
                how = f"has been stopped for {frozen:g} s"
        else:
            since.pop(pid, None)
        if how:
            return UserError(
                f"rank {rank} (process {pid}) {how}.",
                fix="find the cause in its message or dmesg; rerun the same command to resume from the last checkpoint",
            )
    return None


@contextlib.contextmanager
def watched(
    rank: int,
    world: int,
    started: Callable[[], list[Any]] = list,
    leaving: Callable[[], bool] = lambda: False,
    note: Callable[[str], object] = lambda _: None,
) -> Iterator[None]:
    """Watch the ranks started by this process, and stop it if one dies or freezes; Lightning would kill it silently or
    wait forever. A broken connection is also reported, on every rank.

    Args:
        rank, world: this rank, and the number of ranks.
        started: returns the launcher's current list of processes.
        leaving: whether the ranks were asked to stop.
        note: receives the reason before this process exits.
    """
    over = threading.Event()

    def watch() -> None:
        since: dict[int, float] = {}
        while not over.wait(_POLL):
            ranks = taken_over(started())
            if (error := lost(ranks, since)) is not None and not leaving():
                _end(error, ranks, note)

    if world > 1 and rank == 0:
        threading.Thread(target=watch, name="ranks", daemon=True).start()
    try:
        yield
    except RuntimeError as error:
        if world == 1 or leaving() or not any(text in str(error) for text in _BROKEN):
            raise
        if rank == 0:
            time.sleep(_GRACE)  # the watcher exits if a rank of this machine was lost
        raise UserError(
            f"rank {rank} lost its connection to another rank ({str(error).strip().splitlines()[-1][:160]}).",
            fix="see that rank's message; rerun the same command to resume from the last checkpoint",
        ) from None
    finally:
        over.set()


def _end(error: UserError, ranks: dict[int, subprocess.Popen[bytes]], note: Callable[[str], object]) -> None:
    note(str(error))
    print(f"error: {error}", file=sys.stderr, flush=True)
    for process in ranks.values():
        process.kill()
    os._exit(1)
