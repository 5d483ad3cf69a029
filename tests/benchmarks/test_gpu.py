"""The parts of the GPU benchmark on a processor: FLOPs in closed form, a step as a plain loop takes it, utilisation."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from benchmarks.gpu import Step, forward_flops, measure, peak_flops
from kdface.heads import CosFace

SIZE, CHANNELS, DIMENSIONS, CLASSES = 8, 4, 6, 10
CPU = torch.device("cpu")


@pytest.fixture
def parts() -> tuple[nn.Module, CosFace]:
    torch.manual_seed(0)
    backbone = nn.Sequential(
        nn.Conv2d(3, CHANNELS, 3, padding=1), nn.Flatten(), nn.Linear(CHANNELS * SIZE * SIZE, DIMENSIONS)
    )
    return backbone, CosFace(DIMENSIONS, CLASSES)


def test_flops_in_closed_form(parts: tuple[nn.Module, CosFace]) -> None:
    convolution = 2 * 3 * 3 * 3 * CHANNELS * SIZE * SIZE
    linear = 2 * CHANNELS * SIZE * SIZE * DIMENSIONS
    assert forward_flops(*parts, SIZE) == convolution + linear + 2 * DIMENSIONS * CLASSES
    assert parts[0].training and parts[1].training


def test_a_step_is_that_of_a_plain_loop(parts: tuple[nn.Module, CosFace]) -> None:
    backbone, head = copy.deepcopy(parts)
    step = Step(*parts, batch=4, size=SIZE, device=CPU, compiled=False)
    optimizer = torch.optim.SGD([*backbone.parameters(), *head.parameters()], lr=0.1, momentum=0.9, weight_decay=5e-4)
    for _ in range(3):
        loss = step()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            embedding = backbone(step.images)
        plain = head(embedding, step.labels).loss
        optimizer.zero_grad()
        plain.backward()
        optimizer.step()
        assert torch.equal(loss, plain.detach()) and not loss.requires_grad
    for mine, other in zip(step.backbone.parameters(), backbone.parameters(), strict=True):
        assert torch.equal(mine, other)


def test_utilisation_is_three_forward_passes_over_the_peak(parts: tuple[nn.Module, CosFace]) -> None:
    flops = forward_flops(*parts, SIZE)
    found = measure(Step(*parts, batch=4, size=SIZE, device=CPU, compiled=False), 4, 2, flops, peak=1e12)
    assert found.rate > 0 and found.memory == 0
    assert found.utilisation == pytest.approx(3 * flops * found.rate / 1e12)


def test_the_peak_is_that_of_a_product() -> None:
    assert 1e6 < peak_flops(CPU, size=64, seconds=0.0) < 1e14
