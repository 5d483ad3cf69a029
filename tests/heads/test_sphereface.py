"""SphereFace, SphereFace+, GA-Softmax: golden values (OpenSphere's classes in float64), closed forms, slow
references."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from kdface.heads import GASoftmax, Head, HeadOutput, SphereFace, SphereFace2017, SphereFacePlus, SphereFaceR
from kdface.heads.sphereface import monotone_cosine

Evaluate = Callable[[Head], tuple[HeadOutput, Tensor, Tensor]]


def test_golden(evaluate_golden: Evaluate) -> None:
    out, gradient, _ = evaluate_golden(SphereFace(3, 4, scale=4.0, margin=1.7))
    assert out.loss.item() == pytest.approx(5.846158168, abs=1e-9)
    rows = [[0.2660652, 0.3297980, -0.4628306], [0.0282552, -0.0671578, -0.0503683]]
    torch.testing.assert_close(gradient, torch.tensor(rows, dtype=torch.float64), atol=1e-7, rtol=0.0)


@pytest.mark.parametrize(("scale", "margin", "loss"), [(30.0, 1.5, 37.1114238788), (64.0, 1.7, 89.9020248333)])
def test_golden_at_published_scales(evaluate_golden: Evaluate, scale: float, margin: float, loss: float) -> None:
    out, _, _ = evaluate_golden(SphereFace(3, 4, scale=scale, margin=margin))
    assert out.loss.item() == pytest.approx(loss, abs=1e-8)


def test_it_is_spherefacer_v0_with_its_own_loss_weight(evaluate_golden: Evaluate) -> None:
    out, x_grad, w_grad = evaluate_golden(SphereFace(3, 4, scale=30.0, margin=1.5))
    same, same_x_grad, same_w_grad = evaluate_golden(
        SphereFaceR(3, 4, form="v0", scale=30.0, margin=1.5, loss_weight=30.0)
    )
    assert torch.equal(out.loss, same.loss)
    assert torch.equal(x_grad, same_x_grad) and torch.equal(w_grad, same_w_grad)


@pytest.mark.parametrize("margin", [2, 3, 4])
def test_integer_margins_equal_the_polynomials_of_2017(margin: int) -> None:
    def polynomial(c: float) -> float:
        def sign(v: float) -> float:
            return math.copysign(1.0, v)

        if margin == 2:
            return 2 * sign(c) * c * c - 1
        if margin == 3:
            s1 = sign(abs(c) - 0.5)
            return s1 * (4 * c**3 - 3 * c) + sign(c) * (1 + s1) - 2
        s3 = sign(c) * sign(2 * c * c - 1)
        return s3 * (8 * c**4 - 8 * c * c + 1) + 2 * sign(c) + s3 - 3

    cosine = torch.linspace(-0.999, 0.999, 200, dtype=torch.float64)[:, None]
    expected = [polynomial(c) for c in cosine.flatten().tolist()]
    assert SphereFace(3, 4, margin=margin).psi(cosine).flatten().tolist() == pytest.approx(expected, abs=1e-9)


def test_monotone_cosine_is_continuous_and_falls() -> None:
    theta = torch.linspace(0.0, 4 * math.pi, 40_001, dtype=torch.float64)
    value = monotone_cosine(theta)
    steps = value.diff()
    assert steps.max() <= 1e-12 and steps.min() >= -1.01 * 4 * math.pi / 40_000
    at = monotone_cosine(torch.tensor([k * math.pi for k in range(5)], dtype=torch.float64))
    assert at.tolist() == pytest.approx([1.0, -1.0, -3.0, -5.0, -7.0], abs=1e-9)


@pytest.mark.parametrize("head", [SphereFace(4, 5, gradient="exact"), SphereFace2017(4, 5), GASoftmax(4, 5)])
def test_exact_is_the_true_gradient(head: Head) -> None:
    draw = torch.Generator().manual_seed(8)
    head.double().eval()  # eval: a schedule must not move between the two sides of the difference
    x = torch.randn(6, 4, generator=draw, dtype=torch.float64, requires_grad=True)
    y = torch.randint(5, (6,), generator=draw)
    assert torch.autograd.gradcheck(lambda v: head(v, y).loss, x)


def energy(weight: Tensor, label: Tensor) -> float:
    """Mean of angle^-2 over pairs of distinct classes, by a double loop."""
    rows = [weight[k] / weight[k].norm() for k in sorted(set(label.tolist()))]
    terms = [math.acos(float(rows[i] @ rows[j])) ** -2 for i in range(len(rows)) for j in range(i)]
    return sum(terms) / len(terms)


def test_sphereface_plus_adds_the_energy_of_distinct_classes() -> None:
    draw = torch.Generator().manual_seed(9)
    plus = SphereFacePlus(6, 7, energy_weight=0.3).double()
    plain = SphereFace(6, 7).double()
    plain.load_state_dict(plus.state_dict())
    x = torch.randn(9, 6, generator=draw, dtype=torch.float64)
    y = torch.tensor([3, 0, 3, 5, 0, 6, 3, 1, 5])
    gap = (plus(x, y).loss - plain(x, y).loss).item()
    assert gap == pytest.approx(0.3 * energy(plus.weight.detach(), y), rel=1e-10)
    assert torch.equal(plus(x, y).logits, plain(x, y).logits)


def test_the_energy_pushes_classes_apart() -> None:
    head = SphereFacePlus(3, 3, energy_weight=1.0).double()
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.0, 0.1, 0.0], [1.0, -0.1, 0.0], [0.0, 0.0, 1.0]]))
    before = (head.weight[0] / head.weight[0].norm()) @ (head.weight[1] / head.weight[1].norm())
    label = torch.tensor([0, 1])
    term = head.energy(label)
    (gradient,) = torch.autograd.grad(term, head.weight)
    moved = head.weight.detach() - 1e-3 * gradient
    after = (moved[0] / moved[0].norm()) @ (moved[1] / moved[1].norm())
    assert after < before and torch.equal(gradient[2], torch.zeros(3, dtype=torch.float64))


def test_a_batch_of_one_class_has_no_energy() -> None:
    plus, plain = SphereFacePlus(6, 7), SphereFace(6, 7)
    plain.load_state_dict(plus.state_dict())
    x, y = torch.randn(4, 6, generator=torch.Generator().manual_seed(1)), torch.full((4,), 2)
    out = plus(x, y)
    out.loss.backward()
    assert torch.equal(out.loss, plain(x, y).loss)
    assert plus.weight.grad is not None and torch.isfinite(plus.weight.grad).all()


def test_coinciding_classes_have_a_finite_energy() -> None:
    plus, plain = SphereFacePlus(2, 3, energy_weight=0.1).double(), SphereFace(2, 3).double()
    with torch.no_grad():
        plus.weight.copy_(torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    plain.load_state_dict(plus.state_dict())
    x, y = torch.tensor([[1.0, 2.0], [3.0, 1.0]], dtype=torch.float64), torch.tensor([0, 1])
    out = plus(x, y)
    out.loss.backward()
    # one pair at angle 0, counted as acos(1 - 1e-5)
    energy_term = (out.loss - plain(x, y).loss).item()
    assert energy_term == pytest.approx(0.1 / math.acos(1 - 1e-5) ** 2, rel=1e-6)
    assert plus.weight.grad is not None and torch.isfinite(plus.weight.grad).all()


def test_ga_softmax_is_linear_in_the_angle(evaluate_golden: Evaluate) -> None:
    out, _, _ = evaluate_golden(GASoftmax(3, 4, scale=4.0, margin=1.5))
    cosines = [[1 / 3, 2 / 3, 2 / 3, 5 / 27**0.5], [0.0, -0.6, 0.8, 1 / 75**0.5]]
    for row, cosine, target in zip(out.logits.tolist(), cosines, (2, 1), strict=True):
        expected = [
            4.0 * (1 - 2 / math.pi * (1.5 if j == target else 1.0) * math.acos(c)) for j, c in enumerate(cosine)
        ]
        assert row == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (lambda: SphereFace(8, 5, margin=0.5), "margin"),
        (lambda: SphereFacePlus(8, 5, energy_weight=-1.0), "energy_weight"),
        (lambda: SphereFacePlus(8, 5, margin=0.5), "margin"),
        (lambda: SphereFace2017(8, 5, margin=0.0), "margin"),
        (lambda: SphereFace2017(8, 5, lambda_min=-5.0), "lambda_min"),
        (lambda: GASoftmax(8, 5, margin=0.9), "margin"),
    ],
)
def test_impossible_parameters(build: Callable[[], Head], name: str) -> None:
    with pytest.raises(ValueError, match=name):
        build()
