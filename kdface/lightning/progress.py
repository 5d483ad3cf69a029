"""Training progress: a bar on a terminal, occasional lines in a log."""

from __future__ import annotations

import logging
from typing import Any

import pytorch_lightning as pl

from kdface.lightning.records import heads_of
from kdface.methods.base import steps_between_records
from kdface.progress import Meter

log = logging.getLogger("kdface")


class Progress(pl.Callback):
    """Shows images trained on, rate, time left, epoch and loss; at the start logs which heads scale their loss.

    Args:
        total_steps: of the whole training.
        batch_size: images per step.
    """

    def __init__(self, total_steps: int, batch_size: int) -> None:
        self.total = total_steps
        self.batch_size = batch_size
        self.meter: Meter | None = None
        self._last_step = -1

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the meter, and log the loss scale of each head if it is not 1."""
        self._last_step = trainer.global_step
        if trainer.is_global_zero:
            self.meter = Meter("training", self.total * self.batch_size, trainer.global_step * self.batch_size)
            for name, head in heads_of(pl_module).items():
                if head.loss_scale != 1:
                    log.info("%s (%s): loss scale %.4g", name, type(head).__name__, head.loss_scale)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the meter by a batch."""
        step = trainer.global_step
        if step == self._last_step or self.meter is None:
            return
        self._last_step = step
        if step % steps_between_records(trainer) == 0 and (loss := trainer.callback_metrics.get("train/loss")):
            self.meter.note = f"epoch {trainer.current_epoch + 1}  loss {float(loss):.3f}"
        self.meter.advance(self.batch_size)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """End the meter."""
        if self.meter is not None:
            self.meter.close()
