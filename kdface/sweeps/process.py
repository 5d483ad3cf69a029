"""Jobs as processes of this machine, forked from a server that has imported everything (see `server`)."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Sequence
from typing import Any

from kdface.sweeps.engine import Ended, Job
from kdface.sweeps.lifeline import die_with_parent, own_command
from kdface.sweeps.slots import Slot, divide

_PATIENCE = 10.0  # seconds that a job has to end after SIGTERM; a run that is killed resumes exactly all the same


class Processes:
    """Each job is a process on its own slot of the machine.

    Args:
        n_jobs: jobs at a time; None: one for each GPU, or one.
        devices: the most ranks that one job has.
    """

    def __init__(self, n_jobs: int | None, devices: int = 1) -> None:
        self.free: list[Slot] = divide(n_jobs, devices)
        self.capacity = self.at_once = len(self.free)
        self.running: dict[int, tuple[Job, Slot]] = {}
        self._server: subprocess.Popen[bytes] | None = None
        self._unread = b""
        self._lost: list[Ended] = []  # jobs that a killed server took with it

    def start(self, jobs: Sequence[Job]) -> None:
        """Fork a process for every job, each on a free slot."""
        for job in jobs:
            slot = self.free.pop(0)
            self.running[job.number] = (job, slot)
            order = {
                "id": job.number,
                "folder": str(job.folder.root),
                "cores": slot.cores,
                "environment": slot.environment(job.devices),
            }
            self._tell_server(order)

    def ended(self, seconds: float) -> list[Ended]:
        """The jobs that ended, waiting so long for the first of them."""
        found, self._lost = self._lost, []
        if found:
            return found
        server = self._server
        if server is None or server.stdout is None:
            time.sleep(seconds)
            return found
        if select.select([server.stdout], [], [], seconds)[0]:
            given = os.read(server.stdout.fileno(), 1 << 16)
            if not given:  # the server was killed, and its jobs with it
                self._close_server()
                return [self._settle(number, -signal.SIGKILL) for number in list(self.running)]
            *lines, self._unread = (self._unread + given).split(b"\n")
            for line in lines:
                message: dict[str, Any] = json.loads(line)
                if message.get("id") in self.running:
                    found.append(self._settle(message["id"], int(message["code"])))
        return found

    def adopt(self, job: Job) -> bool:
        """Whether a job still runs that an earlier command started: none does, they die with their parent."""
        return False

    def waiting(self) -> dict[int, str]:
        """None: what is started begins."""
        return {}

    def stop(self, job: Job) -> None:
        """Send SIGTERM to a job."""
        self._tell_server({"stop": job.number, "signal": int(signal.SIGTERM)})

    def close(self) -> None:
        """Stop what still runs: politely, then not. Returns when nothing runs any more."""
        try:
            if self.running and self._server is not None:
                with contextlib.suppress(OSError):
                    for job, _ in list(self.running.values()):
                        self.stop(job)
                deadline = time.monotonic() + _PATIENCE
                while self.running and time.monotonic() < deadline:
                    self.ended(0.2)
        finally:
            self._close_server()

    def _tell_server(self, message: dict[str, Any]) -> None:
        """Where the server was killed since it was last heard of, its jobs are over, that of this message too."""
        try:
            self._say(message)
        except BrokenPipeError:
            self._close_server()
            self._lost += [self._settle(number, -signal.SIGKILL) for number in list(self.running)]

    def _settle(self, number: int, code: int) -> Ended:
        job, slot = self.running.pop(number)
        self.free.append(slot)
        return job, code

    def _say(self, message: dict[str, Any]) -> None:
        if self._server is None:
            mine = os.getpid()
            self._server = subprocess.Popen(
                own_command("run", "-"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is this process's to handle
                preexec_fn=lambda: die_with_parent(mine),
            )
            self._unread = b""
        assert self._server.stdin is not None
        self._server.stdin.write((json.dumps(message) + "\n").encode())
        self._server.stdin.flush()

    def _close_server(self) -> None:
        """The end of its input makes the server kill what it started, and end."""
        server, self._server = self._server, None
        if server is None:
            return
        for stream in (server.stdin, server.stdout):
            with contextlib.suppress(OSError):
                assert stream is not None
                stream.close()
        try:
            server.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            server.kill()  # the kernel then kills its jobs
            server.wait()
