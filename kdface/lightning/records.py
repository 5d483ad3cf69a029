"""Write logged metrics to metrics.jsonl, the source of all reports."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
import torch

from kdface.evaluation import Outcome
from kdface.heads import Head
from kdface.methods.base import steps_between_records
from kdface.runs.records import Records

_WEIGHT = "_weight"
_ZEROS = "zero_embeddings"  # recorded only if it is not 0


class MetricRecords(pl.Callback):
    """Writes logged values: training values every few steps and at the last one, all others after a validation.

    Training values are those of the step itself, not of a window, so that a resumed run writes the same records as an
    uninterrupted one. The prefix `train/` is removed; values `NAME` and `NAME_weight` together are a loss term.

    Args:
        records: the file.
        total_steps: the last step, which is always recorded; null: unknown.
        batch_size: images per step, for the rate; null: not recorded.
    """

    def __init__(self, records: Records, total_steps: int | None = None, batch_size: int | None = None) -> None:
        self.records = records
        self.total = total_steps
        self.batch_size = batch_size
        self._since: tuple[float, int] = (0.0, 0)
        self._last_step = -1

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Record time and step to compute the rate from."""
        self._since = (time.monotonic(), trainer.global_step)
        self._last_step = trainer.global_step

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write a training record every `log_every_n_steps`, and skipped images."""
        step = trainer.global_step
        if trainer.is_global_zero and (skipped := getattr(batch, "skipped", None)):
            self.records.write("skipped", step, epoch=trainer.current_epoch, images=skipped)
        if step == self._last_step or not trainer.is_global_zero:
            return  # a micro-batch
        self._last_step = step
        if step == 1 and (heads := heads_of(pl_module)):
            self.records.write("heads", step, loss_scale={name: head.loss_scale for name, head in heads.items()})
        if step % steps_between_records(trainer) == 0 or step == self.total:
            self._record(trainer, step)

    def _record(self, trainer: pl.Trainer, step: int) -> None:
        values = {name: float(value) for name, value in trainer.callback_metrics.items() if _of_training(name)}
        values = {name.removeprefix("train/"): value for name, value in values.items()}
        terms = [name.removesuffix(_WEIGHT) for name in values if name.endswith(_WEIGHT)]
        found: dict[str, Any] = {"loss": values.pop("loss")} if "loss" in values else {}
        if terms:
            found["terms"] = {
                name: {"raw": (raw := values.pop(name)), "weighted": raw * values.pop(f"{name}{_WEIGHT}")}
                for name in terms
            }
        if not values.get(_ZEROS, 1):
            del values[_ZEROS]
        now = time.monotonic()
        rate = (step - self._since[1]) / max(1e-9, now - self._since[0])
        self._since = (now, step)
        if self.batch_size is not None:
            values["images_per_second"] = round(rate * self.batch_size, 1)
        lr = {"lr": float(trainer.optimizers[0].param_groups[0]["lr"])} if trainer.optimizers else {}
        self.records.write("train", step, epoch=trainer.current_epoch, **found, **lr, **values)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write a record for each validation set, or for the metrics logged by other modules."""
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        if outcomes := getattr(pl_module, "outcomes", None):
            record_evaluation(self.records, trainer.global_step, outcomes)
        elif values := {
            name: float(value) for name, value in trainer.callback_metrics.items() if not _of_training(name)
        }:
            self.records.write("validation", trainer.global_step, epoch=trainer.current_epoch, **values)


def record_evaluation(records: Records, step: int, outcomes: Mapping[str, Outcome]) -> None:
    """Write one record per test set: metrics with their spread, and counts."""
    for name, outcome in outcomes.items():
        records.write(
            "evaluation",
            step,
            test=name,
            metrics={f"{name}/{key}": metric.to_dict() for key, metric in outcome.metrics.items()},
            counts=outcome.counts,
        )


def heads_of(module: torch.nn.Module) -> dict[str, Head]:
    """A module's heads by submodule name."""
    return {name: part for name, part in module.named_modules() if isinstance(part, Head)}


def _of_training(name: str) -> bool:
    return name.startswith("train")
