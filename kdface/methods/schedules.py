"""Learning-rate schedules: pure functions of the step, so that a resumed run continues exactly."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

Share = Annotated[float, Ge(0), Le(1)]


def _schedule(optimizer: Optimizer, factor: Callable[[int], float]) -> LambdaLR:
    return LambdaLR(optimizer, factor)


def _cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * min(progress, 1.0))) / 2


def one_cycle(
    optimizer: Optimizer, total_steps: int, warmup: Share = 0.2, start: Share = 0.04, end: Share = 1e-4
) -> LambdaLR:
    """Rise from `start` to 1 over the first `warmup` share of the steps, then fall to `end`, both along a cosine."""
    rise = max(1.0, warmup * total_steps - 1)

    def factor(step: int) -> float:
        if step < rise:
            return _cosine(start, 1.0, step / rise)
        return _cosine(1.0, end, (step - rise) / max(1.0, total_steps - 1 - rise))

    return _schedule(optimizer, factor)


def cosine(optimizer: Optimizer, total_steps: int, warmup: Annotated[float, Ge(0), Lt(1)] = 0.0) -> LambdaLR:
    """Rise linearly over the first `warmup` share of the steps, then fall to 0 along a cosine."""
    rise = warmup * total_steps

    def factor(step: int) -> float:
        if step < rise:
            return (step + 1) / (rise + 1)
        return _cosine(1.0, 0.0, (step - rise) / max(1.0, total_steps - rise))

    return _schedule(optimizer, factor)


def multistep(
    optimizer: Optimizer,
    steps_per_epoch: int,
    milestones: tuple[Annotated[float, Gt(0)], ...] = (10, 16),
    unit: Literal["epoch", "step"] = "epoch",
    gamma: Annotated[float, Gt(0)] = 0.1,
) -> LambdaLR:
    """gamma ** (number of milestones reached). A milestone of 10 epochs is reached when epoch 10 (the 11th) begins."""
    scale = steps_per_epoch if unit == "epoch" else 1
    reached = [milestone * scale for milestone in milestones]
    return _schedule(optimizer, lambda step: gamma ** sum(step >= milestone for milestone in reached))


def constant(optimizer: Optimizer, total_steps: int, warmup: Share = 0.0) -> LambdaLR:
    """Constant learning rate, after rising as sin(pi / 2 * step / W) over the first `warmup` share of the steps."""
    rise = warmup * total_steps

    def factor(step: int) -> float:
        return math.sin(math.pi / 2 * (step + 1) / rise) if step + 1 < rise else 1.0

    return _schedule(optimizer, factor)
