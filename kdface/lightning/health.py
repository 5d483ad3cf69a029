"""Stop training or warn as soon as it fails: non-finite loss, collapsed embeddings."""

from __future__ import annotations

import logging
import math
from typing import Any

import pytorch_lightning as pl
import torch

from kdface.errors import UserError
from kdface.evaluation.health import Unhealthy
from kdface.methods.base import steps_between_records

log = logging.getLogger("kdface")
_FOLDED = -0.5  # mean cosine to the target class that successful training never reaches


class Health(pl.Callback):
    """Detect collapsed or non-finite embeddings and a non-finite loss.

    Raises `UserError` if the loss is not finite and `Unhealthy` if validation finds unusable embeddings; warns once of
    embeddings without direction or pointing away from their class. Monitors the logged `train/loss` (of any module;
    else the output of training_step), `train/zero_embeddings` and `train/target_cosine` at the logged steps.

    Args:
        total_steps: the last step, which is checked too; null: unknown.
    """

    def __init__(self, total_steps: int | None = None) -> None:
        self.total = total_steps
        self._last_step = -1
        self._zeros: torch.Tensor | int = 0
        self._told: set[str] = set()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Record the first step."""
        self._last_step = trainer.global_step

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Warn of skipped broken images and of zero embeddings; raise `UserError` for a non-finite loss."""
        if skipped := getattr(batch, "skipped", None):
            log.warning("skipped %d broken image(s): %s", len(skipped), "; ".join(skipped))
        metrics = trainer.callback_metrics
        self._zeros = self._zeros + metrics.get(
            "train/zero_embeddings", 0
        )  # a tensor: reading it would synchronise with the GPU
        step = trainer.global_step
        if step == self._last_step:
            return  # a micro-batch
        self._last_step = step
        if step % steps_between_records(trainer) and step != self.total:
            return
        returned = outputs.get("loss") if isinstance(outputs, dict) else outputs
        loss = metrics.get("train/loss", returned)
        if loss is not None and not math.isfinite(loss):
            raise UserError(
                f"the loss is {float(loss)} at step {step}: training has diverged.",
                fix=f"a smaller optimizer.lr (now {trainer.optimizers[0].param_groups[0]['lr']:g}), a longer warm-up, "
                "a smaller margin, or clipped gradients (trainer.gradient_clip_val)",
            )
        if trainer.is_global_zero:
            self._warn(step, float(metrics.get("train/target_cosine", 0.0)))

    def _warn(self, step: int, cosine: float) -> None:
        if (zeros := int(self._zeros)) and "zeros" not in self._told:
            self._told.add("zeros")
            log.warning(
                "up to step %d: %d embedding(s) of zeros. They have no direction, so the head learns nothing from "
                "them. Usual causes: dead ReLUs after too large an optimizer.lr, overflow in half precision",
                step,
                zeros,
            )
        if cosine < _FOLDED and "folded" not in self._told:
            self._told.add("folded")
            log.warning(
                "step %d: embeddings point away from their own class (mean cosine %.2f). A margin cos(theta + m) rises "
                "again beyond pi - m, so the loss has a false minimum where all classes are one direction and all "
                "embeddings its opposite. Usual fixes: head.monotone=true (ElasticFace), a smaller head.margin, a "
                "smaller optimizer.lr",
                step,
                cosine,
            )

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Raise `Unhealthy` if the embeddings are unusable, instead of training on in vain."""
        if trainer.sanity_checking:
            return
        for name, outcome in getattr(pl_module, "outcomes", {}).items():
            if outcome.symptoms:
                raise Unhealthy(
                    f"{name} at step {trainer.global_step}: " + "\n".join(outcome.symptoms),
                    fix="check loss and learning rate in metrics.jsonl; a smaller optimizer.lr usually helps",
                )
