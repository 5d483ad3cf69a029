"""Run jobs as processes on this machine, forked from a preloaded server (see `warm`)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Annotated

from annotated_types import Ge

from kdface.sweeps.engine import Backend, Ended, Job
from kdface.sweeps.slots import Slot, divide
from kdface.sweeps.warm import take

_PATIENCE = 10.0  # seconds for a job to stop after SIGTERM; killed runs also resume bit-identically


class Processes(Backend):
    """Runs each job as a process on its own slot of the machine. The jobs end with this process.

    Args:
        n_jobs: parallel jobs; None: one per GPU, or one.
        devices: largest number of ranks of a job.
    """

    def __init__(self, n_jobs: Annotated[int, Ge(1)] | None = None, devices: int = 1) -> None:
        self.free: list[Slot] = divide(n_jobs, devices)
        self.capacity = self.at_once = len(self.free)
        self.running: dict[int, tuple[Job, Slot]] = {}
        self._server = take()

    def start(self, jobs: Sequence[Job]) -> None:
        """Fork a process for each job, on a free slot."""
        for job in jobs:
            slot = self.free.pop(0)
            self.running[job.number] = (job, slot)
            log = job.folder.root / "output.log"
            self._server.start(job.number, ["run", str(job.folder.root.absolute())], log, slot, job.devices)

    def ended(self, seconds: float) -> list[Ended]:
        """Ended jobs, waiting up to `seconds` for the first."""
        found: list[Ended] = []
        for number, code in self._server.ended(seconds):
            job, slot = self.running.pop(number)
            self.free.append(slot)
            found.append((job, code))
        return found

    def stop(self, job: Job) -> None:
        """Send SIGTERM to a job."""
        self._server.stop(job.number)

    def close(self) -> None:
        """Stop running jobs with SIGTERM, then SIGKILL. Returns when none runs."""
        try:
            for number in self.running:
                self._server.stop(number)
            deadline = time.monotonic() + _PATIENCE
            while self.running and time.monotonic() < deadline:
                self.ended(0.2)
        finally:
            self._server.close()
