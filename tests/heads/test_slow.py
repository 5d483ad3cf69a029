"""Heads against their papers' formulas, written down once more as loops over images and classes.

A row of `ROWS` is a head and the slow loss of a batch; the gradient is that of the slow loss by central differences,
with what has no gradient in the paper held at its value.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from statistics import fmean, stdev

import pytest
import torch

from kdface.heads import AdaFace, CombinedMargin, CurricularFace, Head, SubCenterArcFace, UniFace

Rows = Sequence[Sequence[float]]
Fixed = tuple[Rows, Rows]  # embeddings and class weights that what has no gradient is computed from
Slow = Callable[[Rows, Rows, Sequence[int], Fixed], float]  # (embeddings, class weights, labels, fixed) -> loss
S = 8.0


def length(row: Sequence[float]) -> float:
    return math.sqrt(sum(value * value for value in row))


def cosines(x: Sequence[float], w: Rows) -> list[float]:
    return [sum(a * b for a, b in zip(x, row, strict=True)) / length(x) / length(row) for row in w]


def cross_entropy(logits: Rows, labels: Sequence[int]) -> float:
    return fmean(math.log(sum(map(math.exp, row))) - row[y] for row, y in zip(logits, labels, strict=True))


def adaface(x: Rows, w: Rows, labels: Sequence[int], fixed: Fixed) -> float:
    """m = 0.4, h = 0.333, moving averages from 20 and 100 with weight 0.5."""
    norms = [min(max(length(row), 1e-3), 100.0) for row in fixed[0]]
    mean, std = 0.5 * 20 + 0.5 * fmean(norms), 0.5 * 100 + 0.5 * stdev(norms)
    logits = []
    for row, y, norm in zip(x, labels, norms, strict=True):
        z = min(max(0.333 * (norm - mean) / (std + 1e-3), -1.0), 1.0)
        found = cosines(row, w)
        found[y] = math.cos(min(max(math.acos(found[y]) - 0.4 * z, 0.0), math.pi)) - (0.4 + 0.4 * z)
        logits.append([S * cosine for cosine in found])
    return cross_entropy(logits, labels)


def curricularface(x: Rows, w: Rows, labels: Sequence[int], fixed: Fixed) -> float:
    """m = 0.5, t from 0 with weight 0.5."""
    t = 0.5 * fmean(cosines(row, fixed[1])[y] for row, y in zip(fixed[0], labels, strict=True))
    logits = []
    for row, y in zip(x, labels, strict=True):
        found = cosines(row, w)
        theta = math.acos(found[y]) + 0.5
        own = math.cos(theta) if theta <= math.pi else found[y] - 0.5 * math.sin(0.5)
        logits.append([S * (cosine * (t + cosine) if cosine > math.cos(theta) else cosine) for cosine in found])
        logits[-1][y] = S * own
    return cross_entropy(logits, labels)


def subcenter(x: Rows, w: Rows, labels: Sequence[int], fixed: Fixed) -> float:
    """m = 0.5, three centres."""
    logits = []
    for row, y in zip(x, labels, strict=True):
        found = cosines(row, w)
        best = [max(found[3 * place : 3 * place + 3]) for place in range(len(w) // 3)]
        best[y] = math.cos(min(math.acos(best[y]) + 0.5, math.pi))
        logits.append([S * value for value in best])
    return cross_entropy(logits, labels)


def uniface(x: Rows, w: Rows, labels: Sequence[int], fixed: Fixed) -> float:
    """m = 0.4, lambda = 0.7, b = ln(10 C)."""
    b = torch.tensor(math.log(10 * len(w))).item()  # float32, as the head starts
    losses = []
    for row, y in zip(x, labels, strict=True):
        found = cosines(row, w)
        losses.append(math.log(1 + math.exp(-(S * (found[y] - 0.4) - b))))
        losses[-1] += sum(0.7 * math.log(1 + math.exp(S * c - b)) for place, c in enumerate(found) if place != y)
    return fmean(losses)


def combined(m1: float, m2: float, m3: float, limit: float = 1.0) -> Slow:
    def loss(x: Rows, w: Rows, labels: Sequence[int], fixed: Fixed) -> float:
        logits = []
        for row, y in zip(x, labels, strict=True):
            found = cosines(row, w)
            theta = m1 * math.acos(found[y]) + m2
            own = math.cos(theta) if theta <= math.pi else (found[y] - m2 * math.sin(m2) if m1 == 1 else -1.0)
            logits.append([0.0 if cosine > limit else S * cosine for cosine in found])
            logits[-1][y] = S * (own - m3)
        return cross_entropy(logits, labels)

    return loss


ROWS: dict[str, tuple[Head, Slow]] = {
    "adaface": (AdaFace(3, 4, scale=S, momentum=0.5), adaface),
    "curricularface": (CurricularFace(3, 4, scale=S, momentum=0.5), curricularface),
    "subcenter_arcface": (SubCenterArcFace(3, 4, scale=S), subcenter),
    "uniface": (UniFace(3, 4, scale=S, negative_weight=0.7), uniface),
    "combined_margin": (CombinedMargin(3, 4, scale=S), combined(1.0, 0.3, 0.2)),
    "combined_margin_2": (CombinedMargin(3, 4, S, 0.9, 0.4, 0.15, 0.5), combined(0.9, 0.4, 0.15, 0.5)),
    "arcface": (CombinedMargin(3, 4, S, 1.0, 0.5, 0.0), combined(1.0, 0.5, 0.0)),
}
LABELS = (0, 1, 2, 3, 0, 1, 2, 3)


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("seed", range(3))
def test_loss_and_gradient_of_the_formula(name: str, seed: int) -> None:
    head, slow = ROWS[name]
    head = copy.deepcopy(head).double()
    draws = torch.Generator().manual_seed(seed)
    x = 20.0 * torch.randn(8, 3, generator=draws, dtype=torch.float64)
    w = torch.randn(head.weight.shape, generator=draws, dtype=torch.float64)
    x[4] = -3.0 * w[0] + 0.3 * x[4]  # far from its class: beyond pi - m
    with torch.no_grad():
        head.weight.copy_(w)
    leaf = x.clone().requires_grad_()
    out = head(leaf, torch.tensor(LABELS))
    fixed = x.tolist(), w.tolist()
    assert out.loss.item() == pytest.approx(slow(*fixed, LABELS, fixed), abs=1e-9)
    out.loss.backward()
    for tensor, gradient in ((x, leaf.grad), (w, head.weight.grad)):
        assert gradient is not None and gradient.norm() > 0
        differences = torch.empty_like(tensor)
        for place in range(tensor.numel()):
            values = []
            for step in (1e-6, -1e-6):
                moved = tensor.clone()
                moved.view(-1)[place] += step
                rows = (moved, w) if tensor is x else (x, moved)
                values.append(slow(rows[0].tolist(), rows[1].tolist(), LABELS, fixed))
            differences.view(-1)[place] = (values[0] - values[1]) / 2e-6
        torch.testing.assert_close(gradient, differences, atol=1e-7, rtol=1e-6)


def test_moving_averages_are_of_the_batches_and_rest_in_eval_mode() -> None:
    ada, curricular = AdaFace(3, 4, momentum=0.25).double(), CurricularFace(3, 4, momentum=0.25).double()
    x, y = torch.diag(torch.tensor([2.0, 6.0, 4.0], dtype=torch.float64)), torch.tensor([0, 1, 2])
    ada(x, y)
    assert ada.mean.item() == pytest.approx(0.75 * 20 + 0.25 * 4) and ada.std.item() == pytest.approx(75.5)
    ada(x[:1], y[:1])  # one image has no standard deviation
    assert ada.mean.item() == pytest.approx(16.0) and ada.std.item() == pytest.approx(75.5)
    own = curricular(x, y).cosine.gather(1, y[:, None]).mean().item()
    assert curricular.t.item() == pytest.approx(0.25 * own)
    for head in (ada.eval(), curricular.eval()):
        before = copy.deepcopy(head.state_dict())
        head(x, y)
        assert all(torch.equal(value, before[key]) for key, value in head.state_dict().items())
