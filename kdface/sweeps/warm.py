"""Run commands in processes forked from a preloaded server (see `server`), which start instantly.

One server serves all sweeps of this process in turn and ends with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdface.sweeps.lifeline import die_with_parent, own_command
from kdface.sweeps.slots import RANK_VARIABLES, Slot

_PATIENCE = 10.0  # seconds for a server to stop
_spare: list[Server] = []  # at most one idle server


class Server:
    """A running server. If it is killed, its commands count as ended by SIGKILL; on Linux, the kernel kills them."""

    def __init__(self) -> None:
        self._owner = mine = os.getpid()
        self._process = subprocess.Popen(
            own_command("run", "-"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is handled by this process
            preexec_fn=lambda: die_with_parent(mine),
        )
        self._unread = b""
        self._running: set[int] = set()
        self._lost = False

    @property
    def alive(self) -> bool:
        """Whether it runs and belongs to this process rather than to the process this was forked from."""
        return self._owner == os.getpid() and not self._lost and self._process.poll() is None

    @property
    def idle(self) -> bool:
        """Whether it is alive and all its commands have ended."""
        return self.alive and not self._running

    def start(self, number: int, words: Sequence[str], log: Path, slot: Slot, devices: int = 1) -> None:
        """Fork `kdface WORDS` on a slot, with this process's current folder and environment, under an id, `number`."""
        own = {name: value for name, value in os.environ.items() if name not in RANK_VARIABLES}
        self._running.add(number)  # before it is sent: interrupted in between, this server is not idle
        self._say(
            {
                "id": number,
                "words": list(words),
                "log": str(log.absolute()),
                "cwd": os.getcwd(),
                "cores": slot.cores,
                "environment": {**own, **slot.environment(devices)},
            }
        )

    def stop(self, number: int) -> None:
        """Send SIGTERM to a command."""
        self._say({"stop": number})

    def ended(self, seconds: float) -> list[tuple[int, int]]:
        """(number, exit code; negative: a signal) of ended commands, waiting up to `seconds` for the first."""
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], seconds)[0]:
            return []
        given = os.read(self._process.stdout.fileno(), 1 << 16)
        *lines, self._unread = (self._unread + given).split(b"\n")
        found = [(answer["id"], answer["code"]) for answer in map(json.loads, lines)]
        if not given:
            self._lost = True
            found = [(number, -int(signal.SIGKILL)) for number in sorted(self._running)]
        self._running -= {number for number, _ in found}
        return found

    def end(self) -> None:
        """Close its input, which makes it kill its commands and exit."""
        for stream in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                assert stream is not None
                stream.close()
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()  # the kernel then kills its jobs
            self._process.wait()

    def _say(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # `ended` reports that it was killed
            self._process.stdin.write((json.dumps(message) + "\n").encode())
            self._process.stdin.flush()


def take() -> Server:
    """This process's idle server, or a new one."""
    server = _spare.pop() if _spare else None
    return server if server is not None and server.alive else Server()


def give_back(server: Server) -> None:
    """Keep an idle server for later use; end any other, with its commands."""
    if server.idle and not _spare:
        _spare.append(server)
    else:
        server.end()


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
        give_back(server)
