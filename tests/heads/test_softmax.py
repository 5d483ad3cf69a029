"""Softmax, NormFace, CosFace, ArcFace against golden values (OpenSphere's classes in float64) and closed
forms."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from kdface.heads import ArcFace, CosFace, Head, HeadOutput, NormFace, Softmax

Evaluate = Callable[[Head], tuple[HeadOutput, Tensor, Tensor]]


@pytest.mark.parametrize(
    ("head", "loss", "x_grad"),
    [
        (
            NormFace(3, 4, scale=4.0),
            3.706491924,
            [[0.2237830, 0.2773876, -0.3892791], [0.0281700, -0.0669552, -0.0502164]],
        ),
        (
            CosFace(3, 4, scale=4.0, margin=0.35),
            5.031941616,
            [[0.2591125, 0.3211799, -0.4507362], [0.0282410, -0.0671238, -0.0503429]],
        ),
        (
            ArcFace(3, 4, scale=4.0, margin=0.5),
            5.122305495,
            [[0.2631842, 0.3262270, -0.4578191], [0.0282369, -0.0671142, -0.0503357]],
        ),
    ],
    ids=["normface", "cosface", "arcface"],
)
def test_golden(evaluate_golden: Evaluate, head: Head, loss: float, x_grad: list[list[float]]) -> None:
    out, gradient, _ = evaluate_golden(head)
    assert out.loss.item() == pytest.approx(loss, abs=1e-9)
    torch.testing.assert_close(gradient, torch.tensor(x_grad, dtype=torch.float64), atol=1e-7, rtol=0.0)


@pytest.mark.parametrize(
    ("head", "loss"),
    [
        (CosFace(3, 4), 76.6586810265),
        (ArcFace(3, 4), 78.2280983571),
        (NormFace(3, 4), 25.4338976062),
    ],
    ids=["cosface", "arcface", "normface"],
)
def test_golden_of_the_defaults(evaluate_golden: Evaluate, head: Head, loss: float) -> None:
    out, _, _ = evaluate_golden(head)
    assert out.loss.item() == pytest.approx(loss, abs=1e-9)


def test_softmax_decides_by_lengths_and_biases_too() -> None:
    """x = (1, 0): w_0 = (1, 1) has the larger cosine, 0.71 against 0.45, and w_1 = (2, 4) the larger logit, 2 to 1;
    with a bias of 2 for class 0 it is 3 to 2."""
    head = Softmax(2, 2)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.0, 1.0], [2.0, 4.0]]))
    x, y = torch.tensor([[1.0, 0.0]]), torch.tensor([1])
    out = head(x, y)
    assert out.cosine.argmax(1).item() == 0
    assert out.accuracy(y) == 1
    assert out.metrics(y)["target_cosine"].item() == pytest.approx(1 / math.sqrt(5))
    assert head.bias is not None
    with torch.no_grad():
        head.bias.copy_(torch.tensor([2.0, 0.0]))
    assert head(x, y).accuracy(y) == 0


def test_margins_at_sixty_degrees() -> None:
    cosine = torch.tensor([[0.5]], dtype=torch.float64)
    assert 0.5 - CosFace(3, 4).psi(cosine).item() == pytest.approx(0.35, abs=1e-12)
    assert 0.5 - ArcFace(3, 4).psi(cosine).item() == pytest.approx(0.476403, abs=5e-7)


def test_arcface_is_flat_beyond_pi_minus_m() -> None:
    cosine = torch.tensor([[math.cos(math.pi - 0.5)], [-0.99], [-1.0]], dtype=torch.float64)
    assert ArcFace(3, 4).psi(cosine).flatten().tolist() == pytest.approx([-1.0] * 3, abs=1e-12)


def test_exact_arcface_is_the_true_gradient(evaluate_golden: Evaluate) -> None:
    detached, exact = ArcFace(3, 4, scale=4.0), ArcFace(3, 4, scale=4.0, gradient="exact")
    out, x_grad, _ = evaluate_golden(detached)
    out_exact, x_grad_exact, _ = evaluate_golden(exact)
    assert torch.equal(out.logits, out_exact.logits)
    assert (x_grad - x_grad_exact).abs().max() > 1e-2
    x = torch.tensor([[1.0, 2.0, 2.0], [0.0, -3.0, 4.0]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: exact(v, torch.tensor([2, 1])).loss, x)


def test_softmax_by_hand() -> None:
    head = Softmax(2, 3).double()
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 2.0], [-1.0, 1.0]]))
        assert head.bias is not None and torch.equal(head.bias, torch.zeros(3, dtype=torch.float64))
        head.bias.copy_(torch.tensor([0.5, -1.0, 0.25]))
    x = torch.tensor([[3.0, 1.0], [0.5, -2.0]], dtype=torch.float64)
    out = head(x, torch.tensor([0, 2]))
    logits = [[3.5, 1.0, -1.75], [1.0, -5.0, -2.25]]
    assert out.logits.tolist() == logits
    terms = [math.log(sum(map(math.exp, row))) - row[y] for row, y in zip(logits, (0, 2), strict=True)]
    assert out.loss.item() == pytest.approx(sum(terms) / 2, abs=1e-12)
    assert head.loss_scale == 1.0
    assert Softmax(2, 3, bias=False).bias is None


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (lambda: NormFace(8, 5, scale=0.0), "scale"),
        (lambda: CosFace(8, 5, scale=-64.0), "scale"),
        (lambda: CosFace(8, 5, margin=-0.1), "margin"),
        (lambda: ArcFace(8, 5, margin=float("nan")), "margin"),
        (lambda: ArcFace(8, 5, gradient="none"), "gradient"),  # type: ignore[arg-type]
    ],
)
def test_impossible_parameters(build: Callable[[], Head], name: str) -> None:
    with pytest.raises(ValueError, match=name):
        build()
