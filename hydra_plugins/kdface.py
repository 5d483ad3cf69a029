"""The launchers and sweepers of `kdface train -m`, implemented by `kdface.sweeps`.

kdface builds them itself, so that Hydra instantiates nothing named by a configuration. Hydra imports this module
without entering it in sys.modules, so the fields of its dataclasses must not be annotated by text.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Gt

if TYPE_CHECKING:
    from kdface.sweeps.engine import Backend
    from kdface.sweeps.ledger import Ledger
    from kdface.sweeps.search import Make, Search
    from kdface.sweeps.space import Space


@dataclass(frozen=True)
class ProcessLauncher:
    """Runs each job as a process on this machine, `n_jobs` at a time."""

    n_jobs: Annotated[int, Ge(1)] | None = None

    def backend(self, ledger: "Ledger", devices: int) -> "Backend":
        """This machine, divided into slots for jobs of up to `devices` ranks."""
        from kdface.sweeps.process import Processes

        return Processes(self.n_jobs, devices)


@dataclass(frozen=True)
class SlurmLauncher:
    """Runs each job as a task of a SLURM array, submitted by submitit."""

    n_jobs: Annotated[int, Ge(1)] | None = None
    partition: str | None = None
    minutes: Annotated[int, Ge(1)] = 1440
    cores: Annotated[int, Ge(1)] | None = None
    gpus: Annotated[int, Ge(0)] | None = None
    memory_gb: Annotated[float, Gt(0)] | None = None
    options: Mapping[str, Any] | None = None

    def backend(self, ledger: "Ledger", devices: int) -> "Backend":
        """The queue, for jobs of up to `devices` ranks. Raises `UserError` if submitit or `sbatch` is missing."""
        from kdface.sweeps.slurm import Slurm

        return Slurm(ledger, devices, **asdict(self))


@dataclass(frozen=True)
class RayLauncher:
    """Runs each job as a task of a Ray cluster."""

    n_jobs: Annotated[int, Ge(1)] | None = None
    address: str | None = None
    cores: Annotated[float, Gt(0)] | None = None
    gpus: Annotated[float, Ge(0)] | None = None

    def backend(self, ledger: "Ledger", devices: int) -> "Backend":
        """The cluster, for jobs of up to `devices` ranks.

        Raises `UserError` if Ray is not installed or the address does not answer.
        """
        from kdface.sweeps.ray import Ray

        return Ray(devices, **asdict(self))


@dataclass(frozen=True)
class RandomSweeper:
    """Random search; point i depends only on the seed and i."""

    n_trials: Annotated[int, Ge(1)] = 20
    seed: int = 0
    params: Mapping[str, str] | None = None

    def points(self, space: "Space") -> list[list[str]]:
        """The overrides of each point."""
        return [space.drawn(self.seed, number) for number in range(self.n_trials)]


@dataclass(frozen=True)
class OptunaSweeper:
    """Search with Optuna's samplers and pruners."""

    objectives: Mapping[str, Literal["maximize", "minimize"]]
    n_trials: Annotated[int, Ge(1)] = 20
    sampler: Literal["tpe", "random"] = "tpe"
    pruner: Literal["none", "median", "hyperband"] = "none"
    warmup_trials: Annotated[int, Ge(0)] = 5
    warmup_steps: Annotated[int, Ge(0)] = 0
    seed: int = 0
    params: Mapping[str, str] | None = None

    def search(self, ledger: "Ledger", space: "Space", make: "Make", base: str) -> "Search":
        """The source of jobs: points proposed by Optuna until there are `n_trials` trials."""
        from kdface.sweeps.search import Search

        settings = asdict(self)
        del settings["params"]  # part of the space
        return Search(ledger, space, make, base, **settings)
