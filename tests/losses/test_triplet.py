"""The triplet loss: the sheet's golden values, its gradient, its reductions, its precision."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from kdface.losses import (
    All,
    AllSemiHard,
    BatchHard,
    Hard,
    Miner,
    SemiHard,
    Triplets,
    squared_distances,
    triplet_hinges,
    triplet_loss,
)
from kdface.losses.triplet import Reduction
from tests.losses.slow import listed, noise, toy

DRAWS = torch.Generator().manual_seed(0)

# The FaceNet sheet, 12.1: squared distances 2 - 2 cos, to four places.
TOY_DISTANCES = {
    (0, 1): 0.0367,
    (0, 2): 0.5373,
    (0, 3): 0.1206,
    (0, 4): 0.3419,
    (0, 5): 1.3160,
    (1, 2): 0.3039,
    (1, 3): 0.0246,
    (1, 4): 0.1590,
    (1, 5): 0.9699,
    (2, 3): 0.1590,
    (2, 4): 0.0246,
    (2, 5): 0.2180,
    (3, 4): 0.0594,
    (3, 5): 0.7144,
    (4, 5): 0.3820,
}


def test_squared_distances_of_the_toy_batch() -> None:
    distances = squared_distances(toy()[0])
    for (i, j), value in TOY_DISTANCES.items():
        assert distances[i, j].item() == pytest.approx(value, abs=5e-5)
        assert distances[j, i].item() == pytest.approx(value, abs=5e-5)


@pytest.mark.parametrize(
    ("miner", "reduction", "value"),
    [
        (All(), "sum", 10.691659381),
        (All(), "mean_active", 0.411217669),
        (All(), "mean", 0.296990538),
        (AllSemiHard(), "sum", 0.533516512),
        (AllSemiHard(), "mean", 0.106703302),
        (SemiHard(), "mean", 0.108274565),
        (BatchHard(), "mean", 0.658701598),
    ],
)
def test_losses_of_the_toy_batch(miner: Miner, reduction: Reduction, value: float) -> None:
    embedding, labels = toy()
    distances = squared_distances(embedding)
    loss = triplet_loss(distances, miner(distances, labels, 0.2, DRAWS), 0.2, reduction)
    assert loss.item() == pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize(
    ("miner", "margin", "triplets", "value"),
    [
        (All(), 0.2, 36, 0.402469306),
        (AllSemiHard(), 0.2, 5, 0.058246504),
        (Hard(), 0.2, 21, 0.484427116),
        (BatchHard(), 0.2, 6, 0.680654468),
        (All(), 0.05, 36, 0.334427116),
    ],
)
def test_losses_of_the_toy_batch_on_unsquared_distances(
    miner: Miner, margin: float, triplets: int, value: float
) -> None:
    """What a published package, which does not square, finds: means over the triplets with a loss (sheet 12.1)."""
    embedding, labels = toy()
    distances = squared_distances(embedding).sqrt()
    mined = miner(distances, labels, margin, DRAWS)
    assert len(listed(mined)) == triplets
    assert triplet_loss(distances, mined, margin, "mean_active").item() == pytest.approx(value, abs=1e-9)


def test_the_published_unit_test_of_the_tensorflow_code() -> None:
    """Sheet 12.2: uniform (36, 16) of NumPy's seed 666, rows in threes, not normalised, mean over all triplets."""
    points = torch.from_numpy(np.random.RandomState(666).uniform(size=(36, 16)))
    distances = (points[:, None] - points[None, :]).square().sum(dim=2)
    rows = torch.arange(36).view(-1, 3)
    triplets = Triplets(rows[:, 0], rows[:, 1], rows[:, 2])
    assert distances[0, 1].item() == pytest.approx(4.860758, abs=1e-6)
    assert distances[0, 2].item() == pytest.approx(0.955706, abs=1e-6)
    assert int((triplet_hinges(distances, triplets) > 0).sum()) == 8
    assert triplet_loss(distances, triplets, 0.2, "mean").item() == pytest.approx(1.2325163081, abs=1e-9)


def test_gradient_with_respect_to_unit_embeddings() -> None:
    """Of an active triplet: 2 (n - p) at the anchor, -2 a at the positive, 2 a at the negative, from D = 2 - 2 cos.

    Radial parts are of no consequence: they do not pass the normalisation. 2 (p - a) and 2 (a - n), as the definition
    by differences has it, differ from these by multiples of p and n alone.
    """
    raw = toy()[0] * torch.tensor([[1.0], [2.0], [0.5], [1.5], [3.0], [1.0]], dtype=torch.float64)
    raw.requires_grad_()
    unit = normalize(raw)
    unit.retain_grad()
    triplets = Triplets(torch.tensor([0]), torch.tensor([1]), torch.tensor([3]))
    torch.autograd.backward(triplet_loss(squared_distances(unit), triplets, 0.2, "sum"))
    a, p, n = (unit.detach()[row] for row in (0, 1, 3))
    assert unit.grad is not None and raw.grad is not None
    torch.testing.assert_close(unit.grad[[0, 1, 3]], torch.stack([2 * (n - p), -2 * a, 2 * a]))
    assert not unit.grad[[2, 4, 5]].any()

    other = raw.detach().clone().requires_grad_()
    a, p, n = (normalize(other)[row] for row in (0, 1, 3))
    torch.autograd.backward(((a - p).square().sum() - (a - n).square().sum() + 0.2).clamp_min(0))
    assert other.grad is not None
    torch.testing.assert_close(raw.grad, other.grad)


def test_gradient_agrees_with_finite_differences() -> None:
    embedding, labels = noise(12, 3)
    triplets = AllSemiHard()(squared_distances(embedding), labels, 0.2, DRAWS)
    assert len(triplets.anchor) > 5
    raw = embedding.clone().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: triplet_loss(squared_distances(normalize(x)), triplets, 0.2, "mean"), (raw,)
    )


@pytest.mark.parametrize("reduction", ["sum", "mean", "mean_active"])
def test_no_triplets_and_no_active_ones_lose_nothing_and_move_nothing(reduction: Reduction) -> None:
    embedding = toy()[0].requires_grad_()
    none = torch.zeros(0, dtype=torch.int64)
    easy = Triplets(torch.tensor([0]), torch.tensor([1]), torch.tensor([5]))
    for triplets in (Triplets(none, none, none), easy):
        loss = triplet_loss(squared_distances(embedding), triplets, 0.2, reduction)
        (gradient,) = torch.autograd.grad(loss, embedding)
        assert loss.item() == 0
        assert not gradient.any()


def test_a_constant_embedding_loses_the_margin_for_every_triplet() -> None:
    labels = torch.tensor([0, 0, 1, 1, 2])
    constant = torch.zeros(5, 4, dtype=torch.float64)
    constant[:, 1] = 1
    distances = squared_distances(constant)
    triplets = All()(distances, labels, 0.3, DRAWS)
    assert len(listed(triplets)) == 4 * 3
    assert torch.equal(triplet_hinges(distances, triplets, 0.3), torch.full((12,), 0.3, dtype=torch.float64))


def test_half_precision_is_shut_out() -> None:
    """Cosines of bfloat16 have steps of 0.004: 2 - 2 cos(0.1) = 0.00999 would come out as 0.0078 or 0.0156."""
    angles = torch.tensor([0.0, 0.1, 0.3])
    embedding = torch.stack([angles.cos(), angles.sin()], dim=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        distances = squared_distances(embedding)
    assert distances.dtype == torch.float32
    assert distances[0, 1].item() == pytest.approx(2 - 2 * math.cos(0.1), abs=5e-7)
    assert distances[1, 2].item() == pytest.approx(2 - 2 * math.cos(0.2), abs=5e-7)
    assert squared_distances(embedding.bfloat16()).dtype == torch.float32


def test_near_duplicates_keep_their_distance_to_float32_rounding() -> None:
    """64 embeddings next to each other: 2 - 2 cos is off by a few 1e-7 at most, wherever they lie."""
    draws = torch.Generator().manual_seed(0)
    centre = torch.randn(1, 128, generator=draws, dtype=torch.float64)
    embedding = normalize(centre + 1e-3 * torch.randn(64, 128, generator=draws, dtype=torch.float64))
    exact = (embedding[:, None] - embedding[None, :]).square().sum(dim=2)
    assert (squared_distances(embedding.float()) - exact).abs().max() < 1e-6


def test_embeddings_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(2, 3, 4\), expected \(N, D\)"):
        squared_distances(torch.zeros(2, 3, 4))
