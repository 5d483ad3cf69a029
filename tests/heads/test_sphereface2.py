"""SphereFace2: the initial bias, the loss by a double loop, both gradient rules."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from kdface.heads import Head, SphereFace2

TYPES: list[dict[str, Any]] = [
    {"margin_type": "C", "margin": 0.4},
    {"margin_type": "A", "margin": 0.5},
    {"margin_type": "M", "margin": 1.7},
]


@pytest.mark.parametrize(("num_classes", "bias"), [(8631, 5.784568488), (10, 12.950177876)])
def test_golden_bias(num_classes: int, bias: float) -> None:
    head = SphereFace2(2, num_classes)
    assert head.initial_bias() == pytest.approx(bias, abs=1e-9)
    assert head.bias.item() == pytest.approx(bias, abs=1e-6)


@pytest.mark.parametrize("keys", TYPES)
@pytest.mark.parametrize("num_classes", [2, 3, 4, 50])
def test_the_bias_starts_where_the_loss_of_orthogonal_embeddings_is_least(
    keys: dict[str, Any], num_classes: int
) -> None:
    head = SphereFace2(num_classes + 1, num_classes, scale=20.0, positive_weight=0.8, **keys)
    bias = head.initial_bias()
    head.double()
    with torch.no_grad():
        head.weight.copy_(torch.eye(num_classes, num_classes + 1))
        head.bias.fill_(bias)
    x = torch.zeros(1, num_classes + 1, dtype=torch.float64)
    x[0, -1] = 1.0
    out = head(x, torch.tensor([0]))
    (slope,) = torch.autograd.grad(out.loss, head.bias)
    # relative to the pull of either side alone
    own = head.loss_scale * 0.8 * torch.sigmoid(-out.logits[0, 0]).item()
    assert own > 0 and abs(slope.item()) < 1e-9 * own


def test_the_bias_is_finite_where_the_plain_formula_cancels() -> None:
    # z = 4 and a_y - a_i = -256: 1 - z + root is 0 in double precision
    assert math.isfinite(SphereFace2(4, 2, scale=128.0, margin=1.0, positive_weight=0.8).initial_bias())


def slow_loss(head: SphereFace2, x: Tensor, y: Tensor, lw: float) -> float:
    """OpenSphere's statement: weight lw C / r, mean over N x C."""
    r, m, t, alpha = head.scale, head.margin, head.power, head.positive_weight
    n, num_classes = len(x), len(head.weight)
    total = 0.0
    for i in range(n):
        for j in range(num_classes):
            w = head.weight.detach()[j]
            c = float(x[i] @ w) / float(x[i].norm() * w.norm())
            own = j == int(y[i])
            if own and head.margin_type == "A":
                c = math.cos(min(math.acos(c) + m, math.pi))
            if own and head.margin_type == "M":
                c = math.cos(min(math.acos(c) * m, math.pi))
            g = 2 * ((c + 1) / 2) ** t - 1
            if head.margin_type == "C":
                g -= m if own else -m
            logit = r * g + head.bias.item()
            signed = -logit if own else logit
            total += (alpha if own else 1 - alpha) * (max(signed, 0.0) + math.log1p(math.exp(-abs(signed))))
    return lw * num_classes / r * total / (n * num_classes)


@pytest.mark.parametrize("keys", TYPES)
def test_loss_by_a_double_loop(keys: dict[str, Any]) -> None:
    draw = torch.Generator().manual_seed(10)
    head = SphereFace2(6, 5, scale=12.0, power=2.5, loss_weight=7.0, **keys).double()
    x = torch.randn(8, 6, generator=draw, dtype=torch.float64)
    y = torch.randint(5, (8,), generator=draw)
    assert head(x, y).loss.item() == pytest.approx(slow_loss(head, x, y, 7.0), rel=1e-12)
    assert head.loss_scale == pytest.approx(7.0 / 12.0, rel=1e-12)


@pytest.mark.parametrize("keys", TYPES)
def test_gradient_rules(keys: dict[str, Any]) -> None:
    draw = torch.Generator().manual_seed(11)
    detached = SphereFace2(6, 5, scale=12.0, **keys).double()
    exact = SphereFace2(6, 5, scale=12.0, gradient="exact", **keys).double()
    exact.load_state_dict(detached.state_dict())
    x = torch.randn(4, 6, generator=draw, dtype=torch.float64, requires_grad=True)
    y = torch.randint(5, (4,), generator=draw)
    a, b = detached(x, y), exact(x, y)
    assert torch.equal(a.logits, b.logits)
    assert torch.autograd.gradcheck(lambda v: exact(v, y).loss, x)
    # detached: d logit_ij / d w_j = r x_i / |x_i|, whatever the margin
    (gradient,) = torch.autograd.grad(a.logits[1, 3], detached.weight)
    torch.testing.assert_close(gradient[3], 12.0 * (x[1] / x[1].norm()).detach())


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (lambda: SphereFace2(8, 5, margin_type="M"), "margin is 0.4, but type M"),
        (lambda: SphereFace2(8, 5, margin_type="B"), "margin_type"),  # type: ignore[arg-type]
        (lambda: SphereFace2(8, 5, positive_weight=1.0), "positive_weight"),
        (lambda: SphereFace2(8, 5, power=0.5), "power"),
        (lambda: SphereFace2(8, 5, scale=0.0), "scale"),
    ],
)
def test_impossible_parameters(build: Callable[[], Head], name: str) -> None:
    with pytest.raises(ValueError, match=name):
        build()
