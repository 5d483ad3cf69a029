"""Run jobs as tasks of a Ray cluster. Ray stops them when the submitting process exits; the next one resumes them."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from typing import Annotated, Any

from annotated_types import Ge, Gt

from kdface.errors import UserError
from kdface.sweeps import marks
from kdface.sweeps.child import run_child
from kdface.sweeps.engine import Backend, Ended, Job
from kdface.sweeps.slots import AT_ONCE, SEARCHED_AT_ONCE, share


class Ray(Backend):
    """See conf/hydra/launcher/ray.yaml for the arguments; `devices` is the largest number of ranks of a job."""

    def __init__(
        self,
        devices: int,
        *,
        n_jobs: Annotated[int, Ge(1)] | None = None,
        address: str | None = None,
        cores: Annotated[float, Gt(0)] | None = None,
        gpus: Annotated[float, Ge(0)] | None = None,
    ) -> None:
        cores = share(cores, devices, 1, "hydra.launcher.cores")
        wanted = share(gpus, devices, 1, "hydra.launcher.gpus")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no telemetry
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        try:
            import ray
        except ImportError:
            raise UserError("hydra/launcher=ray: Ray is not installed.", fix='pip install "kdface[ray]"') from None
        self._ray = ray
        self.capacity, self.at_once = n_jobs or AT_ONCE, n_jobs or SEARCHED_AT_ONCE
        self.running: dict[Any, Job] = {}
        try:
            ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        except Exception as error:
            raise UserError(
                f"hydra.launcher.address = {address}: {str(error).strip().splitlines()[0]}",
                expected="auto, ray://HOST:10001, or null to start Ray on this machine",
                fix="ray start --head",
            ) from None
        resources: Any = ray.cluster_resources  # untyped
        if gpus is None and not resources().get("GPU"):
            wanted = 0
        self._cores = max(1, int(cores))
        self._wanted = f"{cores:g} cores" + (f", {wanted:g} GPUs" if wanted else "")
        self._task: Any = ray.remote(num_cpus=cores, num_gpus=wanted, max_retries=0)(run_child)

    def start(self, jobs: Sequence[Job]) -> None:
        """Submit jobs to the cluster."""
        for job in jobs:
            self.running[self._task.remote(str(job.folder.root), self._cores)] = job

    def ended(self, seconds: float) -> list[Ended]:
        """Ended jobs; those lost by Ray count as killed."""
        if not self.running:
            time.sleep(seconds)
            return []
        ready, _ = self._ray.wait(list(self.running), num_returns=1, timeout=seconds)
        found: list[Ended] = []
        for reference in ready:
            job = self.running.pop(reference)
            try:
                found.append((job, int(self._ray.get(reference))))
            except Exception as error:  # the worker was killed, the machine lost, the task cancelled
                print(f"[{job.number}] lost by Ray: {type(error).__name__}", file=sys.stderr)
                found.append((job, -int(signal.SIGKILL)))
        return found

    def waiting(self) -> dict[int, str]:
        """Jobs that have not locked their run folder yet."""
        why = f"Ray has no room yet for {self._wanted}"
        return {job.number: why for job in self.running.values() if not marks.held(job.folder)}

    def stop(self, job: Job) -> None:
        """Cancel a job."""
        for reference, started in self.running.items():
            if started == job:
                self._ray.cancel(reference, force=True)

    def close(self) -> None:
        """Cancel running jobs and disconnect from the cluster."""
        with contextlib.suppress(Exception):
            for reference in self.running:
                self._ray.cancel(reference, force=True)
        self._ray.shutdown()
