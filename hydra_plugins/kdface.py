"""Launchers and sweepers in Hydra's plugin namespace, implemented by `kdface.sweeps`.

`kdface train -m` builds them itself, so that Hydra instantiates nothing named by a configuration, and passes its
session instead of a task function.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Gt
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext
from omegaconf import DictConfig

if TYPE_CHECKING:
    from kdface.commands.session import Session
    from kdface.sweeps.engine import Backend
    from kdface.sweeps.ledger import Ledger
    from kdface.sweeps.search import Make


class KdfaceLauncher(Launcher):
    """Runs the jobs of a sweep on the backend built by `backend`."""

    session: Session

    def setup(self, *, hydra_context: HydraContext, task_function: Any, config: DictConfig) -> None:
        """Called first by Hydra; `task_function` is kdface's session."""
        del hydra_context, config
        self.session = task_function

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs of a grid, numbered from `initial_job_idx`."""
        return self.session.run_listed(self, job_overrides, initial_job_idx)

    @abstractmethod
    def backend(self, ledger: Ledger, devices: int) -> Backend:
        """The backend for jobs of up to `devices` ranks. Raises `UserError` if it is not installed or reachable."""


class ProcessLauncher(KdfaceLauncher):
    """Runs each job as a process on this machine, `n_jobs` at a time."""

    def __init__(self, n_jobs: Annotated[int, Ge(1)] | None = None) -> None:
        self.n_jobs = n_jobs

    def backend(self, ledger: Ledger, devices: int) -> Backend:
        """This machine, divided into slots."""
        from kdface.sweeps.process import Processes

        return Processes(self.n_jobs, devices)


class SlurmLauncher(KdfaceLauncher):
    """Runs each job as a task of a SLURM array, submitted by submitit."""

    def __init__(
        self,
        n_jobs: Annotated[int, Ge(1)] | None = None,
        partition: str | None = None,
        minutes: Annotated[int, Ge(1)] = 1440,
        cores: Annotated[int, Ge(1)] | None = None,
        gpus: Annotated[int, Ge(0)] | None = None,
        memory_gb: Annotated[float, Gt(0)] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.n_jobs = n_jobs
        self.wanted = {"partition": partition, "minutes": minutes, "cores": cores, "gpus": gpus, "memory_gb": memory_gb}
        self.options = dict(options or {})

    def backend(self, ledger: Ledger, devices: int) -> Backend:
        """The queue. Raises `UserError` if submitit or `sbatch` is missing."""
        from kdface.sweeps.slurm import Slurm

        return Slurm(ledger, self.n_jobs, devices, options=self.options, **self.wanted)  # type: ignore[arg-type]


class RayLauncher(KdfaceLauncher):
    """Runs each job as a task of a Ray cluster."""

    def __init__(
        self,
        n_jobs: Annotated[int, Ge(1)] | None = None,
        address: str | None = None,
        cores: Annotated[float, Gt(0)] | None = None,
        gpus: Annotated[float, Ge(0)] | None = None,
    ) -> None:
        self.n_jobs = n_jobs
        self.address = address
        self.cores = cores
        self.gpus = gpus

    def backend(self, ledger: Ledger, devices: int) -> Backend:
        """The cluster. Raises `UserError` if Ray is not installed or the address does not answer."""
        from kdface.sweeps.ray import Ray

        return Ray(self.n_jobs, self.address, self.cores, self.gpus, devices)


class _KdfaceSweeper(Sweeper):
    session: Session
    params: Mapping[str, str] | None

    def setup(self, *, hydra_context: HydraContext, task_function: Any, config: DictConfig) -> None:
        del hydra_context, config
        self.session = task_function

    def arguments(self, given: list[str]) -> list[str]:
        return [*(f"{key}={value}" for key, value in (self.params or {}).items()), *given]


class RandomSweeper(_KdfaceSweeper):
    """Random search; point i depends only on the seed and i."""

    def __init__(
        self, n_trials: Annotated[int, Ge(1)] = 20, seed: int = 0, params: Mapping[str, str] | None = None
    ) -> None:
        self.n_trials = n_trials
        self.seed = seed
        self.params = params

    def sweep(self, arguments: list[str]) -> Any:
        """Draw points of the space given by `arguments` and `params` and run them."""
        from kdface.sweeps.space import Space

        space = Space.parse(self.arguments(arguments))
        jobs = [space.drawn(self.seed, number) for number in range(self.n_trials)]
        return self.session.run_listed(self.session.launcher, jobs, 0)


class OptunaSweeper(_KdfaceSweeper):
    """Search with Optuna's samplers and pruners."""

    def __init__(
        self,
        objectives: Mapping[str, Literal["maximize", "minimize"]],
        n_trials: Annotated[int, Ge(1)] = 20,
        sampler: Literal["tpe", "random"] = "tpe",
        pruner: Literal["none", "median", "hyperband"] = "none",
        warmup_trials: Annotated[int, Ge(0)] = 5,
        warmup_steps: Annotated[int, Ge(0)] = 0,
        seed: int = 0,
        params: Mapping[str, str] | None = None,
    ) -> None:
        self.objectives = dict(objectives)
        self.settings: dict[str, Any] = {
            "n_trials": n_trials,
            "sampler": sampler,
            "pruner": pruner,
            "warmup_trials": warmup_trials,
            "warmup_steps": warmup_steps,
            "seed": seed,
        }
        self.params = params

    def sweep(self, arguments: list[str]) -> Any:
        """Run points proposed by Optuna and report their results, until there are `n_trials` trials."""
        from kdface.sweeps.search import Search
        from kdface.sweeps.space import Space

        def source(ledger: Ledger, make: Make, base: str) -> Search:
            return Search(ledger, space, make, base, self.objectives, **self.settings)

        space = Space.parse(self.arguments(arguments))
        return self.session.run_search(self.session.launcher, space, source)
