"""The CR-FIQA head against loops over its formula, and its gradient against finite differences."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from kdface.heads import ElasticFaceArc, Head
from kdface.heads.crfiqa import CRFIQA, certainty_ratio


def made(size: int = 6, num_classes: int = 5, quality_weight: float = 10.0) -> CRFIQA:
    with torch.random.fork_rng():
        torch.manual_seed(31)
        return CRFIQA(size, num_classes, scale=8.0, quality_weight=quality_weight).double()


def batch(n: int = 16) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(32)
    return 2 * torch.randn(n, 6, generator=draw, dtype=torch.float64), torch.randint(5, (n,), generator=draw)


def ratios(cosine: Tensor, y: Tensor) -> list[float]:
    return [
        row[label] / (max(c for j, c in enumerate(row) if j != label) + 1 + 1e-9)
        for row, label in zip(cosine.tolist(), y.tolist(), strict=True)
    ]


def smooth(d: float) -> float:
    return d * d if abs(d) < 0.5 else abs(d) - 0.25


def test_formula() -> None:
    head = made()
    x, y = batch()
    out = head(x, y)
    w, (q,), b = head.weight.tolist(), head.regressor.weight.tolist(), head.regressor.bias.item()
    entropy, cosines, predicted = 0.0, [], []
    for f, label in zip(x.tolist(), y.tolist(), strict=True):
        norms = [math.sqrt(sum(v * v for v in f)) * math.sqrt(sum(v * v for v in weight)) for weight in w]
        row = [sum(p * v for p, v in zip(f, weight, strict=True)) / norm for weight, norm in zip(w, norms, strict=True)]
        logits = [8 * (math.cos(math.acos(c) + 0.5) if j == label else c) for j, c in enumerate(row)]
        entropy += (math.log(sum(math.exp(v) for v in logits)) - logits[label]) / len(x)
        cosines.append(row)
        predicted.append(sum(p * v for p, v in zip(f, q, strict=True)) + b)
    off = [p - r for p, r in zip(predicted, ratios(torch.tensor(cosines, dtype=torch.float64), y), strict=True)]
    assert min(map(abs, off)) < 0.5 < max(map(abs, off))  # both parts of the smooth loss
    torch.testing.assert_close(out.cosine, torch.tensor(cosines, dtype=torch.float64), atol=1e-12, rtol=0.0)
    assert out.loss.item() == pytest.approx(entropy + 10 * sum(map(smooth, off)) / len(x), rel=1e-12)
    assert head.quality(x).tolist() == pytest.approx(predicted, rel=1e-12)


def test_the_classification_is_that_of_a_fixed_margin() -> None:
    head, arc = made(quality_weight=0.0), ElasticFaceArc(6, 5, scale=8.0, margin=0.5, sigma=0.0).double()
    arc.load_state_dict({"weight": head.weight.detach()})
    x, y = batch()
    torch.testing.assert_close(head(x, y).logits, arc(x, y).logits)
    torch.testing.assert_close(head(x, y).loss, arc(x, y).loss)


def test_certainty_ratio_by_hand() -> None:
    cosine = torch.tensor([[0.8, 0.6, 0.1], [0.8, 0.6, 0.1], [0.5, -0.2, -0.4], [0.3, -1.0, -1.0]], dtype=torch.float64)
    found = certainty_ratio(cosine.requires_grad_(), torch.tensor([0, 1, 0, 0]))
    assert found.tolist() == pytest.approx([0.8 / 1.6, 0.6 / 1.8, 0.5 / 0.8, 0.3e9], rel=1e-8)
    assert not found.requires_grad


def test_gradient_against_finite_differences() -> None:
    """The ratio is a constant in the gradient, so it is held while the rest is varied."""
    head = made()
    x, y = batch(8)
    ratio = torch.tensor(ratios(head(x, y).cosine, y), dtype=torch.float64)
    state = {name: parameter.detach().clone() for name, parameter in head.named_parameters()}

    def held(x: Tensor) -> Tensor:
        cosine = x @ state["weight"].T / x.norm(dim=1, keepdim=True) / state["weight"].norm(dim=1)
        logits = 8 * cosine
        own = cosine.gather(1, y[:, None])
        logits = logits.scatter(1, y[:, None], 8 * torch.cos(torch.acos(own) + 0.5))
        off = x @ state["regressor.weight"][0] + state["regressor.bias"] - ratio
        smoothed = torch.where(off.abs() < 0.5, off.square(), off.abs() - 0.25)
        return torch.nn.functional.cross_entropy(logits, y) + 10 * smoothed.mean()

    step, differences = 1e-6, torch.zeros_like(x)
    for i in range(x.shape[0]):
        for k in range(x.shape[1]):
            moved = torch.zeros_like(x)
            moved[i, k] = step
            differences[i, k] = (held(x + moved) - held(x - moved)) / (2 * step)
    (slope,) = torch.autograd.grad(head(x.requires_grad_(), y).loss, x)
    torch.testing.assert_close(slope, differences, atol=1e-6, rtol=1e-6)


def test_the_regression_learns_the_ratio_and_leaves_the_classes_alone() -> None:
    head = made()
    x, y = batch()
    plain = made(quality_weight=0.0)
    a, b = (torch.autograd.grad(module(x, y).loss, module.weight)[0] for module in (head, plain))
    torch.testing.assert_close(a, b)
    head(x, y).loss.backward()
    off = head.quality(x).detach() - torch.tensor(ratios(head(x, y).cosine, y), dtype=torch.float64)
    pull = torch.where(off.abs() < 0.5, 2 * off, off.sign())
    assert head.regressor.bias.grad is not None and head.regressor.weight.grad is not None
    assert head.regressor.bias.grad.item() == pytest.approx(10 * pull.mean().item(), rel=1e-9)
    torch.testing.assert_close(head.regressor.weight.grad[0], 10 * (pull[:, None] * x).mean(0))


def test_quality_under_autocast() -> None:
    head = CRFIQA(32, 5)
    x = torch.randn(4, 32, generator=torch.Generator().manual_seed(1)).to(torch.bfloat16)
    expected = head.quality(x.float())
    with torch.autocast("cpu", torch.bfloat16):
        found = head.quality(x)
    assert found.dtype == torch.float32 and torch.equal(found, expected) and found.shape == (4,)


def test_initial_weights_are_as_published() -> None:
    weight = CRFIQA(512, 200).weight.detach()
    assert weight.std().item() == pytest.approx(0.01, rel=0.02) and abs(weight.mean().item()) < 1e-4


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (lambda: CRFIQA(8, 5, margin=-0.1), "margin"),
        (lambda: CRFIQA(8, 5, quality_weight=-1.0), "quality_weight"),
        (lambda: CRFIQA(8, 5, scale=0.0), "scale"),
    ],
)
def test_impossible_parameters(build: Callable[[], Head], name: str) -> None:
    with pytest.raises(ValueError, match=name):
        build()
