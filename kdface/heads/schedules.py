"""Margin schedules: pure functions of the step, and a margin softmax that keeps the step in its state."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kdface.heads.frame import GradientRule, MarginSoftmax


def stepped_margin(iteration: Tensor, margin: float, steps: Sequence[int]) -> float | Tensor:
    """m(it) = 1 + (margin - 1) * #{step in steps: step < it} / #steps; without steps, `margin` at once.

    OpenSphere states the increment dm instead of the final margin: margin = 1 + dm * #steps.
    """
    if not steps:
        return margin
    reached = sum((iteration > step).to(iteration.dtype) for step in steps)
    return 1.0 + (margin - 1.0) / len(steps) * reached


def annealed_lambda(iteration: Tensor, base: float, gamma: float, power: float, minimum: float) -> Tensor:
    """lambda(it) = max(minimum, base * (1 + gamma * it)^-power), of SphereFace's Caffe code (CVPR 2017)."""
    return (base * (1.0 + gamma * iteration).pow(-power)).clamp_min(minimum)


class ScheduledMarginSoftmax(MarginSoftmax):
    """`MarginSoftmax` with a schedule.

    Attributes:
        iteration: int64 scalar, the schedule's training step, counted from 1 as in the published code. By default the
            head counts its forward passes in training mode; with several passes per step (gradient accumulation) set
            the step with `stand_at`. Saved in the state_dict, so schedules resume. Not updated in eval mode.
    """

    iteration: Tensor

    def __init__(
        self,
        embedding_size: int,
        num_classes: int,
        *,
        scale: float | None,
        gradient: GradientRule,
        loss_scale: float = 1.0,
    ) -> None:
        super().__init__(embedding_size, num_classes, scale=scale, gradient=gradient, loss_scale=loss_scale)
        self.register_buffer("iteration", torch.zeros((), dtype=torch.int64))
        self._counts = True

    def stand_at(self, step: int) -> None:
        """Set the schedule to a training step (from 1) until the next call; forward passes no longer count."""
        self._counts = False
        self.iteration.fill_(step)

    def advance(self) -> None:
        """Count one iteration of training."""
        if not self._counts:
            return
        # Not in place: a compiled backward pass may recompute the margin from the buffer it was read from and would
        # find it advanced (pytorch/pytorch#197039).
        self.iteration = self.iteration + 1
