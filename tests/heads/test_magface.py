"""MagFace against loops over its formula, and its gradient against finite differences."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from kdface.heads.frame import Head
from kdface.heads.magface import MagFace


def made(size: int = 6, num_classes: int = 4, norms: tuple[float, float] = (2.0, 5.0)) -> MagFace:
    with torch.random.fork_rng():
        torch.manual_seed(21)
        return MagFace(size, num_classes, scale=8.0, norms=norms).double()


def batch(n: int = 24) -> tuple[Tensor, Tensor]:
    """Norms on both sides of the range and within, targets on both sides of 90 degrees."""
    draw = torch.Generator().manual_seed(22)
    x = torch.randn(n, 6, generator=draw, dtype=torch.float64)
    lengths = torch.linspace(0.5, 7.0, n, dtype=torch.float64)[:, None]
    return x / x.norm(dim=1, keepdim=True) * lengths, torch.randint(4, (n,), generator=draw)


def slow(head: MagFace, x: Tensor, y: Tensor) -> tuple[list[list[float]], float]:
    """Logits and loss of the published formula, number by number."""
    (l_a, u_a), (l_m, u_m) = head.norms, head.margins
    logits, entropy, penalty = [], 0.0, 0.0
    for f, label in zip(x.tolist(), y.tolist(), strict=True):
        length = math.sqrt(sum(v * v for v in f))
        a = min(max(length, l_a), u_a)
        margin = l_m + (u_m - l_m) * (a - l_a) / (u_a - l_a)
        row = []
        for j, w in enumerate(head.weight.tolist()):
            c = sum(p * q for p, q in zip(f, w, strict=True)) / length / math.sqrt(sum(q * q for q in w))
            row.append(head.scale * (math.cos(math.acos(c) + margin) if j == label and c > 0 else c))
        logits.append(row)
        entropy += math.log(sum(math.exp(v) for v in row)) - row[label]
        penalty += a / u_a**2 + 1 / a
    return logits, (entropy + head.norm_weight * penalty) / len(x)


def test_formula() -> None:
    head = made()
    with torch.no_grad():
        head.weight.mul_(torch.tensor([[1.0], [0.3], [7.0], [2.0]]))  # the norm of a class weight does not show
    x, y = batch()
    out = head(x, y)
    own = out.cosine.gather(1, y[:, None])
    assert (own > 0).sum() > 3 and (own < 0).sum() > 3
    logits, loss = slow(head, x, y)
    torch.testing.assert_close(out.logits, torch.tensor(logits, dtype=torch.float64), atol=1e-12, rtol=0.0)
    assert out.loss.item() == pytest.approx(loss, rel=1e-12)


def test_published_numbers() -> None:
    """g falls on the whole range and is flat at its end: g'(u_a) = 1 / u_a^2 - 1 / u_a^2 = 0."""
    head = MagFace(2, 2).double()
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    angle = 0.3
    for length, margin, g in (
        (10.0, 0.45, 10 / 12100 + 0.1),
        (60.0, 0.625, 60 / 12100 + 1 / 60),
        (110.0, 0.8, 2 / 110),
    ):
        x = length * torch.tensor([[math.cos(angle), math.sin(angle)]], dtype=torch.float64)
        out = head(x, torch.tensor([0]))
        logits = [64 * math.cos(angle + margin), 64 * math.sin(angle)]
        assert out.logits[0].tolist() == pytest.approx(logits, abs=1e-9)
        entropy = math.log(sum(math.exp(logit - logits[1]) for logit in logits)) + logits[1] - logits[0]
        assert out.loss.item() == pytest.approx(entropy + 35 * g, rel=1e-12)


def test_gradient_against_finite_differences() -> None:
    head = made()
    x, y = batch()
    weight = head.weight.detach().clone()

    def loss(x: Tensor, weight: Tensor) -> Tensor:
        return torch.func.functional_call(head, {"weight": weight}, (x, y)).loss  # type: ignore[no-any-return]

    assert torch.autograd.gradcheck(loss, (x.requires_grad_(), weight.requires_grad_()), eps=1e-6, atol=1e-6)


def test_the_margin_and_the_penalty_both_pull_at_the_norm() -> None:
    """d loss / d |f| of an image alone on its side, margin and penalty by their closed forms."""
    head = made(norms=(2.0, 5.0))
    w = head.weight.detach()
    for length in (1.0, 3.0, 6.0):
        x = (length * w[:1]).clone() + 0.2 * w[1:2]
        x = (x / x.norm() * length).requires_grad_()
        out = head(x, torch.tensor([0]))
        (slope,) = torch.autograd.grad(out.loss, x)
        radial = float((slope * x.detach() / length).sum())
        if not 2.0 < length < 5.0:
            assert radial == pytest.approx(0.0, abs=1e-12)  # clipped
            continue
        theta = math.acos(float(out.cosine[0, 0]))
        margin = 0.45 + 0.35 * (length - 2) / 3
        missing = 1 - float(out.logits.detach().softmax(1)[0, 0])
        by_margin = missing * 8.0 * math.sin(theta + margin) * 0.35 / 3  # -(1 - p) d logit / d m * d m / d a
        by_penalty = 35 * (1 / 25 - 1 / length**2)
        assert radial == pytest.approx(by_margin + by_penalty, rel=1e-9)


def test_quality_is_the_norm() -> None:
    head = MagFace(3, 2)
    x = torch.tensor([[3.0, 0.0, 4.0], [0.0, 0.0, 0.5], [300.0, 0.0, 400.0]])
    assert head.quality(x).tolist() == [5.0, 0.5, 500.0]  # not clipped
    assert head.quality(x.to(torch.bfloat16)).dtype == torch.float32


def test_class_weights_start_at_unit_norm_without_a_preferred_side() -> None:
    weight = MagFace(64, 500).weight.detach()
    torch.testing.assert_close(weight.norm(dim=1), torch.ones(500))
    assert abs(weight.mean().item()) < 5 / 8 / math.sqrt(64 * 500)  # each entry has a spread of 1 / sqrt(64)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: MagFace(8, 5, norms=(10.0, 10.0)), "each must rise"),
        (lambda: MagFace(8, 5, margins=(0.8, 0.45)), "each must rise"),
        (lambda: MagFace(8, 5, norms=(0.0, 10.0)), "norms"),
        (lambda: MagFace(8, 5, norm_weight=-1.0), "norm_weight"),
    ],
)
def test_impossible_parameters(build: Callable[[], Head], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


def test_detached_leaves_out_the_slope_of_psi_and_nothing_else() -> None:
    """d loss / d x of both rules by the chain rule, number by number; where cos <= 0 they are the same."""
    x, y = batch()
    exact = made()
    detached = MagFace(6, 4, scale=8.0, norms=(2.0, 5.0), gradient="detached").double()
    detached.load_state_dict(exact.state_dict())
    for head, rule in ((exact, "exact"), (detached, "detached")):
        given = x.clone().requires_grad_()
        out = head(given, y)
        (gradient,) = torch.autograd.grad(out.loss, given)
        share = out.logits.detach().softmax(1)
        (l_a, u_a), (l_m, u_m) = head.norms, head.margins
        for i in range(len(x)):
            length = float(x[i].norm())
            unit = x[i] / length
            a, inside = min(max(length, l_a), u_a), l_a <= length <= u_a
            rate = (u_m - l_m) / (u_a - l_a)
            margin = l_m + rate * (a - l_a)
            expected = torch.zeros(6, dtype=torch.float64)
            for j, row in enumerate(head.weight.detach()):
                w = row / row.norm()
                c = float(unit @ w)
                g = 8.0 * (float(share[i, j]) - float(j == y[i])) / len(x)
                to_cosine = (w - c * unit) / length
                if j == y[i] and c > 0:
                    theta = math.acos(c)
                    slope = math.sin(theta + margin) / math.sin(theta) if rule == "exact" else 1.0
                    expected += g * slope * to_cosine
                    expected -= g * math.sin(theta + margin) * rate * inside * unit
                else:
                    expected += g * to_cosine
            expected += head.norm_weight * (1 / u_a**2 - 1 / a**2) * inside * unit / len(x)
            torch.testing.assert_close(gradient[i], expected, atol=1e-9, rtol=1e-7)
