"""Callbacks of every run: evaluation of the untrained network, and the check that all ranks share a configuration."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch

from kdface.errors import UserError
from kdface.evaluation import Outcome
from kdface.lightning.records import record_evaluation
from kdface.runs.folder import RunFolder
from kdface.runs.records import Records

log = logging.getLogger("kdface")


class Untrained(pl.Callback):
    """Evaluates before the first step, as a baseline and a check of the protocols.

    Args:
        run: evaluates on all ranks and returns the outcomes.
        records: destination of the outcomes.
    """

    def __init__(self, run: Callable[[pl.Trainer], dict[str, Outcome]], records: Records) -> None:
        self.run = run
        self.records = records

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Evaluate the untrained network, once."""
        if trainer.global_step == 0:
            outcomes = self.run(trainer)
            if trainer.is_global_zero:
                record_evaluation(self.records, 0, outcomes)
                tell(outcomes, 0)


class ToldValidations(pl.Callback):
    """Logs the results of each validation."""

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the headline of every test set."""
        if trainer.is_global_zero:
            tell(getattr(pl_module, "outcomes", {}), trainer.global_step)


def tell(outcomes: dict[str, Outcome], step: int) -> None:
    """Log the first metric of every test set, and the equal error rate if there is one."""
    for name, outcome in outcomes.items():
        first = next(iter(outcome.metrics), "")
        values = {key: metric.value for key, metric in outcome.metrics.items() if key in (first, "eer")}
        shown = ", ".join(f"{key} {value:.4f}" for key, value in values.items() if value is not None)
        log.info("%s at step %d: %s", name, step, shown)


class SameConfiguration(pl.Callback):
    """Checks before the first step that all ranks have the same configuration: each may have read a folder of its own
    machine."""

    def __init__(self, folder: RunFolder, config: dict[str, Any]) -> None:
        self.folder = folder
        self.config = config

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Raise `UserError` if ranks have read different configurations."""
        if trainer.world_size == 1:
            return
        of_ranks: list[Any] = [None] * trainer.world_size
        torch.distributed.all_gather_object(of_ranks, json.dumps(self.config, sort_keys=True))
        other = next((rank for rank, text in enumerate(of_ranks) if text != of_ranks[0]), None)
        if other is not None:
            raise UserError(
                f"rank {other} and rank 0 read different versions of {self.folder.config}.",
                fix="use one shared folder of runs on all machines",
            )
