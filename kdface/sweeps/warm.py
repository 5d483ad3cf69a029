"""Run commands in processes forked from a preloaded server (see `server`), which start instantly.

One server serves all sweeps of this process in turn and ends with it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Pipe
from pathlib import Path

from kdface.sweeps.lifeline import die_with_parent, own_command
from kdface.sweeps.server import Order
from kdface.sweeps.slots import RANK_VARIABLES, Slot

_PATIENCE = 10.0  # seconds for a server to stop
_spare: list[Server] = []  # at most one idle server
os.register_at_fork(after_in_child=_spare.clear)  # it belongs to the process that started it


class Server:
    """A server, started with the first command, and anew after it was killed. Its commands then count as ended by
    SIGKILL; on Linux, the kernel kills them."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._running: set[int] = set()

    def start(self, number: int, words: Sequence[str], log: Path, slot: Slot, devices: int = 1) -> None:
        """Fork `kdface WORDS` on a slot, with this process's current folder and environment, under an id, `number`."""
        if not self._running and (self._process is None or self._process.poll() is not None):
            self._launch()
        own = {name: value for name, value in os.environ.items() if name not in RANK_VARIABLES}
        environment = {**own, **slot.environment(devices)}
        self._running.add(number)  # before it is sent: interrupted in between, this server is not idle
        self._say(Order(number, words, str(log.absolute()), os.getcwd(), slot.cores, environment))

    def stop(self, number: int) -> None:
        """Send SIGTERM to a command."""
        self._say(number)

    def ended(self, seconds: float) -> list[tuple[int, int]]:
        """(number, exit code; negative: a signal) of ended commands, waiting up to `seconds` for the first."""
        if not self._running:
            time.sleep(seconds)
            return []
        try:
            found = [self._connection.recv()] if self._connection.poll(seconds) else []
        except (EOFError, OSError):
            self._end()
            found = [(number, -int(signal.SIGKILL)) for number in sorted(self._running)]
        self._running -= {number for number, _ in found}
        return found

    def close(self) -> None:
        """Keep it for later use by `take` if it is idle; else end it, which kills its commands."""
        if not self._running and not _spare:
            _spare.append(self)
        else:
            self._end()

    def _end(self) -> None:
        if self._process is None:
            return
        self._connection.close()
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()  # the kernel then kills its jobs
            self._process.wait()
        self._process = None

    def _launch(self) -> None:
        mine = os.getpid()
        self._connection, theirs = Pipe()
        with theirs:
            self._process = subprocess.Popen(
                own_command("run", "-"),
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,  # what libraries print during import
                start_new_session=True,  # Ctrl-C is handled by this process
                preexec_fn=lambda: die_with_parent(mine),
            )

    def _say(self, message: Order | int) -> None:
        with contextlib.suppress(OSError):  # `ended` reports that it was killed
            self._connection.send(message)


def take() -> Server:
    """This process's idle server, or a new one."""
    return _spare.pop() if _spare else Server()


@dataclass(frozen=True)
class Call:
    """A command: its words without `kdface`, and the file its output is appended to."""

    words: tuple[str, ...]
    log: Path


def called(groups: Sequence[Sequence[Call]], slots: Sequence[Slot]) -> Iterator[tuple[Call, int]]:
    """Run commands, sequentially within a group and groups in parallel on slots.

    Yields each with its exit code as it ends. Commands still running when the caller stops are killed.
    """
    waiting, free = deque(deque(group) for group in groups if group), list(slots)
    running: dict[int, tuple[Call, deque[Call], Slot]] = {}
    server, number = take(), 0
    try:
        while waiting or running:
            while waiting and free:
                group, slot = waiting.popleft(), free.pop(0)
                call, number = group.popleft(), number + 1
                running[number] = (call, group, slot)
                server.start(number, call.words, call.log, slot)
            for finished, code in server.ended(0.2):
                call, group, slot = running.pop(finished)
                free.append(slot)
                if group:
                    waiting.appendleft(group)
                yield call, code
    finally:
        server.close()
