"""Margins that grow from zero at the start of training."""

from __future__ import annotations

from typing import Annotated, Any

import pytorch_lightning as pl
from annotated_types import Ge

from kdface.errors import UserError


class MarginWarmup(pl.Callback):
    """Raise an additive margin linearly: m_t = m * min(1, t / `steps`) at optimiser step t = 1, 2, ...

    A margin too large for an untrained network can drive all embeddings away from their classes. The margin depends
    only on the step, so a resumed run continues exactly. Works with any module whose `head` has the attribute, and
    restores the full margin when training stops.

    Args:
        steps: optimiser steps until the full margin.
        attribute: the head's margin, such as `m2` of `CombinedMargin`.

    Raises:
        UserError: the head has no such margin, or training stops before the full margin.
    """

    def __init__(self, steps: Annotated[int, Ge(1)], attribute: str = "margin") -> None:
        self.steps = steps
        self.attribute = attribute
        self._full: float | None = None

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Record the full margin."""
        head = getattr(pl_module, "head", None)
        margin = getattr(head, self.attribute, None)
        if not isinstance(margin, float | int) or getattr(head, "margin_steps", None) is not None:
            raise UserError(
                f"{type(head).__name__} has no additive margin named {self.attribute!r} to warm up.",
                expected="a head such as ArcFace, CosFace or ElasticFaceArc; SphereFace-R has head.margin_steps",
            )
        total = trainer.estimated_stepping_batches
        if self.steps > total:
            raise UserError(
                f"the margin is complete after {self.steps} steps, and training ends after {total:g}.",
                fix=f"callbacks.margin_warmup.steps={max(1, int(total) // 4)}",
            )
        self._full = float(margin)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Set the margin of this step."""
        assert self._full is not None
        setattr(pl_module.head, self.attribute, self._full * min(1.0, (trainer.global_step + 1) / self.steps))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore the full margin, for another fit of the module too."""
        if self._full is not None:
            setattr(pl_module.head, self.attribute, self._full)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Restore the full margin."""
        self.on_train_end(trainer, pl_module)
