"""An exponential moving average of the weights, evaluated and exported in their place."""

from __future__ import annotations

import copy
from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn


class WeightAverage(pl.Callback):
    """After each optimiser step t: a <- d a + (1 - d) w, with d = min(decay, (1 + t) / (10 + t)).

    The average is the submodule `averaged` of the LightningModule, so it is saved with it. kdface methods evaluate and
    export it; in any other module it replaces the averaged submodule during validation and test.

    Args:
        decay: of the average, in (0, 1).
        submodule: name of the submodule to average.
    """

    def __init__(self, decay: float, submodule: str = "backbone") -> None:
        if not 0 < decay < 1:
            raise ValueError(f"decay must be in (0, 1), not {decay}")
        self.decay = decay
        self.submodule = submodule
        self._step = 0

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Create the average, a copy of the trained submodule, as `pl_module.averaged`."""
        if getattr(pl_module, "averaged", None) is None:
            pl_module.averaged = copy.deepcopy(self._trained(pl_module)).requires_grad_(False).eval()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Record the step, to distinguish micro-batches from optimiser steps."""
        self._step = trainer.global_step

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the average back into eval mode, after Lightning has set all modules to training mode."""
        self._averaged(pl_module).eval()

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """average += (1 - min(decay, (1 + t) / (10 + t))) * (weights - average) after step t."""
        step = trainer.global_step
        if step == self._step:
            return  # a micro-batch
        self._step = step
        weight = 1.0 - min(self.decay, (1 + step) / (10 + step))
        averaged, trained = self._averaged(pl_module).state_dict(), self._trained(pl_module).state_dict()
        for mean, value in zip(averaged.values(), trained.values(), strict=True):
            if mean.dtype.is_floating_point:
                mean.lerp_(value.to(mean.dtype), weight)
            else:
                mean.copy_(value)

    @torch.no_grad()
    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Swap the average and the trained weights: the average is validated and tested."""
        if hasattr(pl_module, "embedder"):  # it evaluates the average itself
            return
        averaged, trained = self._averaged(pl_module).state_dict(), self._trained(pl_module).state_dict()
        for one, other in zip(averaged.values(), trained.values(), strict=True):
            kept = one.clone()
            one.copy_(other)
            other.copy_(kept)

    on_validation_end = on_test_start = on_test_end = on_validation_start

    def _trained(self, module: pl.LightningModule) -> nn.Module:
        return module.get_submodule(self.submodule)

    def _averaged(self, module: pl.LightningModule) -> nn.Module:
        return module.get_submodule("averaged")
