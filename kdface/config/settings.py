"""Training settings beyond the Trainer's own arguments, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Lt

from kdface.errors import UserError


@dataclass(frozen=True)
class LoaderSettings:
    """Attributes:
    batch_size: images per optimiser step, over all ranks and accumulated batches.
    num_workers: loader processes per rank; does not affect the result.
    timeout: seconds to wait for a batch before the run fails; 0: no limit.
    """

    batch_size: Annotated[int, Ge(2)]
    num_workers: Annotated[int, Ge(0)]
    timeout: Annotated[int, Ge(0)] = 600


@dataclass(frozen=True)
class HardwareSettings:
    """Attributes:
    profile: auto: choose precision, memory format and fused optimiser for this machine; plain: PyTorch's defaults in
        float32.
    threads: CPU threads per rank; null: divide the cores among the ranks.
    compile: compile the backbone with torch.compile.
    """

    profile: Literal["auto", "plain"]
    threads: Annotated[int, Ge(1)] | None
    compile: bool


@dataclass(frozen=True)
class EMASettings:
    """Attributes:
    decay: evaluate and export an exponential moving average of the weights with this decay; null: no averaging.
    """

    decay: Annotated[float, Gt(0), Lt(1)] | None


@dataclass(frozen=True)
class ResumeSettings:
    """Attributes:
    every_n_train_steps: steps between checkpoints, which are also saved after each epoch; null: only after each epoch.
    """

    every_n_train_steps: Annotated[int, Ge(1)] | None


@dataclass(frozen=True)
class Settings:
    """How a run is trained.

    Attributes:
        trainer: arguments of pl.Trainer, with the nodes of their parts.
        loader, hardware, ema, resume: settings without a Trainer argument.
        evaluate_untrained: also evaluate before the first step, as a baseline and a check of the protocols.
    """

    trainer: Mapping[str, Any]
    loader: LoaderSettings
    hardware: HardwareSettings
    ema: EMASettings
    resume: ResumeSettings
    evaluate_untrained: bool = False

    @property
    def devices(self) -> int:
        """Ranks on this machine."""
        return num_devices(self.trainer)

    @property
    def world(self) -> int:
        """Ranks on all machines."""
        return self.devices * int(self.trainer.get("num_nodes", 1))

    @property
    def accumulate(self) -> int:
        """Number of parts that each batch is split into."""
        return int(self.trainer.get("accumulate_grad_batches", 1))


def limited_batches(trainer: Mapping[str, Any], batches: int) -> int:
    """The number of batches per epoch (parts, if accumulated) to train on, according to fast_dev_run, overfit_batches
    or limit_train_batches, each a number or a fraction.

    Raises `UserError` if it is 0.
    """
    for name in ("fast_dev_run", "overfit_batches", "limit_train_batches"):
        given = trainer.get(name)
        if given is None or given is False or (name != "limit_train_batches" and given == 0):
            continue
        found = int(given * batches) if isinstance(given, float) else min(int(given), batches)
        if (isinstance(given, float) and given > 1) or found < 1:
            raise UserError(
                f"trainer.{name} = {given} leaves {found} of {batches} batches per epoch.",
                expected=f"a number of at least 1, or a fraction of at least {1 / batches:.3g}",
                fix=f"trainer.{name}=1",
            )
        return found
    return batches


def num_devices(trainer: Mapping[str, Any]) -> int:
    """Ranks on this machine according to `trainer.devices`: a number, auto, -1 (all), or GPUs by their indices ([0, 2]
    or "0,2"). Without GPUs, auto and -1 mean one.

    Raises `UserError` for anything else.
    """
    given = trainer.get("devices", "auto")
    if isinstance(given, str) and given.lstrip("-").isdigit():
        given = int(given)
    if isinstance(given, int) and given >= 1:
        return given
    if isinstance(given, list) and given:
        return len(given)
    if given in ("auto", -1):
        import torch

        return max(1, torch.cuda.device_count()) if trainer.get("accelerator", "auto") != "cpu" else 1
    if isinstance(given, str) and all(part.strip().isdigit() for part in given.split(",")):
        return len(given.split(","))
    raise UserError(
        f"trainer.devices = {given!r} is not a valid choice of devices.",
        expected="a number, auto, -1, or a list of GPUs such as [0,2]",
        fix="trainer.devices=1",
    )
