"""Hydra finds launchers in this namespace. The work is done in `kdface.commands.sweep`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext
from omegaconf import DictConfig


class ProcessLauncher(Launcher):
    """Runs each job of a sweep as a process of its own, `n_jobs` at a time."""

    def __init__(self, n_jobs: int = 1) -> None:
        self.n_jobs = n_jobs
        self.start: Callable[[Sequence[Sequence[str]], int], Sequence[JobReturn]] | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: Callable[..., Any], config: DictConfig) -> None:
        """Hydra hands through what `kdface train -m` gave it: (overrides of each job, n_jobs) -> returns."""
        del hydra_context, config
        self.start = task_function

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        del initial_job_idx
        assert self.start is not None
        return self.start(job_overrides, self.n_jobs)
