"""Run jobs as processes on this machine, forked from a preloaded server (see `warm`)."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator, Sequence

from kdface.sweeps.engine import Ended, Job
from kdface.sweeps.slots import Slot, divide
from kdface.sweeps.warm import LostError, Server, give_back, take

_PATIENCE = 10.0  # seconds for a job to stop after SIGTERM; killed runs also resume bit-identically


class Processes:
    """Runs each job as a process on its own slot of the machine.

    Args:
        n_jobs: parallel jobs; None: one per GPU, or one.
        devices: largest number of ranks of a job.
    """

    def __init__(self, n_jobs: int | None, devices: int = 1) -> None:
        self.free: list[Slot] = divide(n_jobs, devices)
        self.capacity = self.at_once = len(self.free)
        self.running: dict[int, tuple[Job, Slot]] = {}
        self._server: Server | None = None
        self._lost: list[Ended] = []  # jobs lost with a killed server

    def start(self, jobs: Sequence[Job]) -> None:
        """Fork a process for each job, on a free slot."""
        for job in jobs:
            slot = self.free.pop(0)
            self.running[job.number] = (job, slot)
            with self._losing() as server:
                log = job.folder.root / "output.log"
                server.start(job.number, ["run", str(job.folder.root.absolute())], log, slot, job.devices)

    def ended(self, seconds: float) -> list[Ended]:
        """Ended jobs, waiting up to `seconds` for the first."""
        found, self._lost = self._lost, []
        if found:
            return found
        if self._server is None:
            time.sleep(seconds)
            return found
        try:
            answers = self._server.ended(seconds)
        except LostError:
            return self._all_lost()
        return [self._settle(number, code) for number, code in answers if number in self.running]

    def adopt(self, job: Job) -> bool:
        """False: jobs of earlier commands died with their parent."""
        return False

    def waiting(self) -> dict[int, str]:
        """Empty: jobs start immediately."""
        return {}

    def stop(self, job: Job) -> None:
        """Send SIGTERM to a job."""
        with self._losing() as server:
            server.stop(job.number)

    def close(self) -> None:
        """Stop running jobs with SIGTERM, then SIGKILL. Returns when none runs."""
        try:
            for job, _ in list(self.running.values()):
                if job.number in self.running:  # a killed server takes all of them with it
                    self.stop(job)
            deadline = time.monotonic() + _PATIENCE
            while self.running and time.monotonic() < deadline:
                self.ended(0.2)
        finally:
            server, self._server = self._server, None
            if server is not None and self.running:
                server.end()
            elif server is not None:
                give_back(server)

    @contextlib.contextmanager
    def _losing(self) -> Iterator[Server]:
        """Yield the server. If it was killed, all its jobs, including the current one, have ended."""
        self._server = self._server or take()
        try:
            yield self._server
        except LostError:
            self._lost += self._all_lost()

    def _all_lost(self) -> list[Ended]:
        server, self._server = self._server, None
        if server is not None:
            server.end()
        return [self._settle(number, -signal.SIGKILL) for number in list(self.running)]

    def _settle(self, number: int, code: int) -> Ended:
        job, slot = self.running.pop(number)
        self.free.append(slot)
        return job, code
