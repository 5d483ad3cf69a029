"""Float32 and bfloat16 against float64: every bound is derived here, from unit roundoffs, and none is measured."""

from __future__ import annotations

import math
from typing import Literal

import pytest
import torch
from torch import Tensor

from kdface.heads import ArcFace, CosFace, Head, NormFace, SphereFace, SphereFaceR
from tests.heads.test_spherefacer import GOLDEN

U32, U16 = 2.0**-24, 2.0**-8  # unit roundoff of float32 and of bfloat16

Golden = tuple[Head, float, float, list[list[float]]]  # head, rho, loss, gradient with respect to x1 and x2

X = [[1.0, 2.0, 2.0], [0.0, -3.0, 4.0]]  # of norms 3 and 5
OTHERS: list[Golden] = [
    (
        NormFace(3, 4, scale=4.0),
        4.0,
        3.706491924,
        [[0.2237830, 0.2773876, -0.3892791], [0.0281700, -0.0669552, -0.0502164]],
    ),
    (
        CosFace(3, 4, scale=4.0),
        4.0,
        5.031941616,
        [[0.2591125, 0.3211799, -0.4507362], [0.0282410, -0.0671238, -0.0503429]],
    ),
    (
        ArcFace(3, 4, scale=4.0),
        4.0,
        5.122305495,
        [[0.2631842, 0.3262270, -0.4578191], [0.0282369, -0.0671142, -0.0503357]],
    ),
    (
        SphereFace(3, 4, scale=4.0, margin=1.7),
        4.0,
        5.846158168,
        [[0.2660652, 0.3297980, -0.4628306], [0.0282552, -0.0671578, -0.0503683]],
    ),
]
SPHEREFACER: list[Golden] = [
    (
        SphereFaceR(3, 4, form=form, feature_norm=regime, scale=scale, margin=margin, loss_weight=weight),
        scale if regime == "hard" else 5.0,
        loss,
        gradient,
    )
    for form, regime, scale, margin, weight, loss, gradient in GOLDEN
]


@pytest.mark.parametrize(("head", "rho", "loss", "x_grad"), SPHEREFACER + OTHERS)
def test_golden_in_float32(head: Head, rho: float, loss: float, x_grad: list[list[float]]) -> None:
    """With u = 2^-24: a cosine is off by at most 8 u (norms, quotients, a product of three). No angle of the batch has
    a sine below 0.272, so angles are off by 45 u, psi and eta, whose slope is at most 1.7, by 80 u, logits by 90 u rho.
    The cross-entropy changes by at most twice that, and the softmax, in the sum of its changes, by at most that; a
    factor of up to 1 + |psi - cos| < 4 comes with the norm's gradient.
    """
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 1.0, 1.0]]))
    x = torch.tensor(X, requires_grad=True)
    out = head(x, torch.tensor([2, 1]))
    (gradient,) = torch.autograd.grad(out.loss, x)
    assert out.loss.dtype == gradient.dtype == torch.float32
    assert abs(out.loss.item() - loss) <= 200 * U32 * rho * head.loss_scale
    for row, expected, norm in zip(gradient.double(), x_grad, (3.0, 5.0), strict=True):
        off = (row - torch.tensor(expected, dtype=torch.float64)).norm()
        bound = 4 * 90 * U32 * rho * max(rho / norm, 1.0) * head.loss_scale
        assert off <= bound + 1e-7  # the digits of the golden values


@pytest.mark.parametrize("form", ["v0", "v1", "v2"])
def test_bfloat16_costs_a_margin_head_no_more_than_the_embeddings_rounding(form: Literal["v0", "v1", "v2"]) -> None:
    """Rounding x to bfloat16 turns it by at most a = asin(2^-8), and so moves every angle by at most a, psi and eta by
    m a, logits by z = s m a. Per row, with L the loss scale and g = p - onehot, |g| <= 2 in sum:

        |loss' - loss| <= 2 L z
        d loss / d x = L s / (N |x|) sum_j g_j (w_j - cos_j x^) moves by L s / (N |x|) (z + 4 a), and by 2^-8 of itself
        twice: by |x|, and because it is rounded to bfloat16 too
        d loss / d W = L s / N sum_i g_i x^_i moves by L s (z + 2 a)
    """
    s, m, n = 30.0, 1.5, 24
    draw = torch.Generator().manual_seed(11)
    with torch.random.fork_rng():
        torch.manual_seed(12)
        head = SphereFaceR(32, 10, form=form, scale=s, margin=m, loss_weight=s)
    x = 3.0 * torch.randn(n, 32, generator=draw)
    y = torch.randint(10, (n,), generator=draw)

    def found(embedding: Tensor, autocast: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        embedding = embedding.detach().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            out = head(embedding, y)
        x_grad, w_grad = torch.autograd.grad(out.loss, [embedding, head.weight])
        return out.loss.detach(), out.logits.detach(), x_grad.double(), w_grad.double()

    a = math.asin(U16)
    z = s * m * a
    slack = 1.0 + 1e-4  # float32's own rounding
    loss, logits, x_grad, w_grad = found(x, autocast=False)
    half_loss, half_logits, half_x_grad, half_w_grad = found(x.to(torch.bfloat16), autocast=True)
    assert half_logits.dtype == torch.float32
    assert 0 < (half_logits - logits).abs().max() <= z * slack
    assert 0 < (half_loss - loss).abs() <= 2 * z * slack
    for i in range(n):
        norm = float(x[i].norm())
        bound = s / (n * norm) * (z + 4 * a) + 2.02 * U16 * float(x_grad[i].norm())
        assert 0 < (half_x_grad[i] - x_grad[i]).norm() <= bound * slack
    assert 0 < (half_w_grad - w_grad).norm() <= s * (z + 2 * a) * slack
