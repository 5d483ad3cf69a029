"""If a rank of this machine dies or freezes, one message names it and the cause, and all of them end."""

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

_FROZEN = 60.0  # seconds that a rank may be stopped (SIGSTOP)
_POLL = 0.3
_ASKED = 130  # the exit code of a rank that was asked to end, as all ranks then do
_GRACE = 3.0  # seconds in which the end of a rank is seen after its connection broke
_BROKEN = ("Connection closed by peer", "Connection reset by peer", "Timed out waiting", "NCCL", "Broken pipe")


class Rank:
    """A process that Lightning's launcher has started, in the place of its `Popen` in the launcher's list.

    To Lightning it runs for ever: its observer would kill all ranks, this process among them and without a word, once
    it sees one that has ended. What else Lightning asks of it, a signal, reaches the process.
    """

    returncode = None

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process

    def poll(self) -> None:
        """Still running, whatever it does."""

    def send_signal(self, number: int) -> None:
        """Hand a signal on."""
        self.process.send_signal(number)


def taken_over(processes: list[Any]) -> dict[int, subprocess.Popen[bytes]]:
    """Rank -> process, of a launcher's list, in which each is a `Rank` from now on."""
    for place, process in enumerate(processes):
        if not isinstance(process, Rank):
            processes[place] = Rank(process)
    return {place + 1: watched_rank.process for place, watched_rank in enumerate(processes)}


def ended(process: subprocess.Popen[bytes]) -> str:
    """How a process ended, if not well. "" if it runs or ended well."""
    code = process.poll()
    if code in (None, 0, _ASKED):
        return ""
    if code > 0:
        return f"ended with exit code {code}; its message stands above"
    return f"was ended by a signal ({signal.Signals(-code).name})"


def lost(
    ranks: dict[int, subprocess.Popen[bytes]], since: dict[int, float], frozen: float = _FROZEN
) -> UserError | None:
    """The first rank that died, or has been stopped for `frozen` seconds; `since` remembers when each was stopped."""
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
                fix="see why, by its message or dmesg; the same command goes on from the last checkpoint",
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
    """Watch the ranks that this process starts. One that dies or freezes ends this process: Lightning alone would kill
    it without a word, or wait for good. A connection that broke is one message too, on every rank.

    Args:
        rank, world: this rank, and how many there are.
        started: the launcher's list of processes, as it is at the moment.
        leaving: whether the ranks were asked to end.
        note: receives why this process is about to end.
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
            time.sleep(_GRACE)  # the watch ends the process, if it is a rank of this machine that was lost
        raise UserError(
            f"rank {rank} lost its connection to another rank ({str(error).strip().splitlines()[-1][:160]}).",
            fix="see what that rank says; the same command goes on from the last checkpoint",
        ) from None
    finally:
        over.set()


def _end(error: UserError, ranks: dict[int, subprocess.Popen[bytes]], note: Callable[[str], object]) -> None:
    note(str(error))
    print(f"error: {error}", file=sys.stderr, flush=True)
    for process in ranks.values():
        process.kill()
    os._exit(1)
