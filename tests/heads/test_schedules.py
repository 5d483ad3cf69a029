"""Schedules: the published table of lambda, stepped margins, resuming, and what does not advance them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from kdface.heads import SphereFace2017, SphereFaceR
from kdface.heads.schedules import ScheduledMarginSoftmax, annealed_lambda, stepped_margin

# SphereFace-20: base 1000, gamma 0.12, power 1, minimum 5
LAMBDA = {
    1: 892.857143,
    10: 454.545455,
    100: 76.923077,
    500: 16.393443,
    1000: 8.264463,
    1658: 5.001,
    1659: 5.0,
    28000: 5.0,
}
X = torch.tensor([[1.0, 2.0, 2.0], [0.0, -3.0, 4.0]], dtype=torch.float64)
Y = torch.tensor([2, 1])


def trained(head: ScheduledMarginSoftmax, passes: int) -> Tensor:
    logits = torch.empty(0)
    for _ in range(passes):
        logits = head(X, Y).logits
    return logits.detach()


def test_lambda_table() -> None:
    for iteration, value in LAMBDA.items():
        at = torch.tensor(iteration, dtype=torch.float64)
        assert annealed_lambda(at, 1000.0, 0.12, 1.0, 5.0).item() == pytest.approx(value, abs=5e-7)


@pytest.mark.parametrize("passes", [1, 10, 100])
def test_sphereface_2017_uses_the_table(passes: int) -> None:
    head = SphereFace2017(3, 4).double()
    logits = trained(head, passes)
    assert head.iteration.item() == passes
    weight = head.weight.detach()
    for i, (x, y) in enumerate(zip(X, Y.tolist(), strict=True)):
        norm = float(x.norm())
        for j in range(4):
            c = float(x @ weight[j]) / norm / float(weight[j].norm())
            # the integer form of the Caffe layer for m = 4
            s3 = math.copysign(1.0, c) * math.copysign(1.0, 2 * c * c - 1)
            psi_0 = s3 * (8 * c**4 - 8 * c**2 + 1) + 2 * math.copysign(1.0, c) + s3 - 3
            mixed = (LAMBDA[passes] * c + psi_0) / (1 + LAMBDA[passes])
            assert logits[i, j].item() == pytest.approx(norm * (mixed if j == y else c), abs=1e-7)


def test_stepped_margin() -> None:
    # OpenSphere: m = 1 + dm * #{step < it}; here dm = 0.2, steps 10, 20, 20, so the final margin is 1.6
    expected = {1: 1.0, 10: 1.0, 11: 1.2, 20: 1.2, 21: 1.6, 1000: 1.6}
    for iteration, margin in expected.items():
        at = torch.tensor(iteration, dtype=torch.float64)
        assert float(stepped_margin(at, 1.6, (10, 20, 20))) == pytest.approx(margin, abs=1e-12)
    assert stepped_margin(torch.tensor(0), 1.6, ()) == 1.6


@pytest.mark.parametrize("form", ["v0", "v1", "v2"])
def test_spherefacer_follows_its_steps(form: str) -> None:
    head = SphereFaceR(3, 4, form=form, feature_norm="none", margin=1.8, margin_steps=[1, 3]).double()  # type: ignore[arg-type]
    for margin in (1.0, 1.4, 1.4, 1.8, 1.8):
        fixed = SphereFaceR(3, 4, form=form, feature_norm="none", margin=margin).double()  # type: ignore[arg-type]
        fixed.weight.data.copy_(head.weight)
        torch.testing.assert_close(trained(head, 1), trained(fixed, 1), atol=1e-12, rtol=0.0)


def build(kind: str) -> ScheduledMarginSoftmax:
    if kind == "sphereface2017":
        return SphereFace2017(3, 4).double()
    return SphereFaceR(3, 4, form="v0", feature_norm="soft", margin=2.0, margin_steps=(2, 4, 6)).double()


@pytest.mark.parametrize("kind", ["sphereface2017", "spherefacer"])
def test_a_resumed_head_goes_on(kind: str) -> None:
    whole, first, second = (build(kind) for _ in range(3))
    first.load_state_dict(whole.state_dict())
    expected = trained(whole, 7)
    trained(first, 4)
    assert "iteration" in first.state_dict()
    second.load_state_dict(first.state_dict())
    assert torch.equal(trained(second, 3), expected)
    # the schedule matters at all: a head that forgot its count differs
    second.iteration.zero_()
    assert not torch.equal(trained(second, 1), expected)


@pytest.mark.parametrize("kind", ["sphereface2017", "spherefacer"])
def test_eval_uses_the_count_and_does_not_advance_it(kind: str) -> None:
    head = build(kind)
    last = trained(head, 5)
    head.eval()
    assert torch.equal(trained(head, 3), last)
    assert head.iteration.item() == 5
    head.train()
    trained(head, 1)
    assert head.iteration.item() == 6


def test_a_count_survives_a_change_of_precision() -> None:
    head = build("sphereface2017")
    head.iteration.fill_(30_001)
    assert head.half().iteration.item() == 30_001


@pytest.mark.parametrize("kind", ["sphereface2017", "spherefacer"])
def test_a_step_of_several_passes_advances_the_schedule_once(kind: str) -> None:
    plain, held = build(kind), build(kind)
    held.load_state_dict(plain.state_dict())
    for step in range(1, 8):
        expected = trained(plain, 1)
        held.stand_at(step)
        for _ in range(3):
            torch.testing.assert_close(trained(held, 1), expected, atol=1e-12, rtol=0.0)
        assert held.iteration.item() == plain.iteration.item() == step
