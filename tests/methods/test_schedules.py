"""Schedules against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from torch.optim import SGD
from torch.optim.lr_scheduler import LRScheduler

from kdface.methods.schedules import constant, cosine, multistep, one_cycle


def _optimizer() -> SGD:
    return SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)


def _rates(schedule: LRScheduler, steps: int) -> list[float]:
    found = []
    for _ in range(steps):
        found.append(float(schedule.optimizer.param_groups[0]["lr"]))
        schedule.optimizer.step()
        schedule.step()
    return found


def test_one_cycle_agrees_with_pytorchs() -> None:
    ours, theirs = _optimizer(), _optimizer()
    steps = 50
    reference = torch.optim.lr_scheduler.OneCycleLR(
        theirs,
        2.0,
        total_steps=steps,
        pct_start=0.2,
        div_factor=25,
        final_div_factor=1 / (25 * 1e-4),
        cycle_momentum=False,
    )
    found = _rates(one_cycle(ours, steps, warmup=0.2, start=0.04, end=1e-4), steps)
    expected = []
    for step in range(steps):
        expected.append(float(theirs.param_groups[0]["lr"]))
        theirs.step()
        if step + 1 < steps:
            reference.step()
    assert found[:-1] == pytest.approx(expected[:-1], rel=1e-3)
    assert max(found) == pytest.approx(2.0)


def test_cosine_rises_linearly_and_falls_to_zero() -> None:
    found = _rates(cosine(_optimizer(), 10, warmup=0.2), 10)
    assert found[0] == pytest.approx(2.0 / 3) and found[1] == pytest.approx(2 * 2.0 / 3)
    assert found[2:] == pytest.approx([(1 + math.cos(math.pi * k / 8)) for k in range(8)])


def test_multistep_drops_when_the_epoch_begins() -> None:
    found = _rates(multistep(_optimizer(), steps_per_epoch=3, milestones=(1, 2), gamma=0.1), 8)
    assert found == pytest.approx([2.0] * 3 + [0.2] * 3 + [0.02] * 2)
    assert _rates(multistep(_optimizer(), 3, milestones=(2,), unit="step"), 4) == pytest.approx([2, 2, 0.2, 0.2])


def test_constant_after_a_sine() -> None:
    assert _rates(constant(_optimizer(), 3), 3) == [2.0, 2.0, 2.0]
    found = _rates(constant(_optimizer(), 10, warmup=0.3), 10)
    assert found == pytest.approx([2 * math.sin(math.pi / 6), 2 * math.sin(math.pi / 3), *[2.0] * 8])
