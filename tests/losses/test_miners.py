"""Every miner against the sheet's golden triplets and against plain loops; ties, fallbacks and draws."""

from __future__ import annotations

import resource
import time

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from kdface.losses import (
    All,
    AllSemiHard,
    BatchHard,
    DistanceWeighted,
    EasyPositive,
    Hard,
    Miner,
    Random,
    Sandberg,
    SemiHard,
    Triplets,
    squared_distances,
    triplet_hinges,
)
from kdface.losses.anchor_miners import one_per_anchor
from kdface.losses.ranking import kinds, rank_negatives
from tests.losses.slow import Triple, every_triplet, first_of_each_pair, listed, noise, of_kind, toy

MARGIN = 0.2
EVERY = [
    All(),
    SemiHard(),
    SemiHard("hardest"),
    SemiHard("easiest"),
    AllSemiHard(),
    Hard(),
    Random(),
    Sandberg(),
    BatchHard(),
    EasyPositive(),
    EasyPositive("hardest"),
    DistanceWeighted(5),
]


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def mined(miner: Miner, embedding: Tensor, labels: Tensor, seed: int = 0) -> list[Triple]:
    return listed(miner(squared_distances(embedding), labels, MARGIN, draws(seed)))


def test_triplets_of_the_toy_batch() -> None:
    """Sheet 12.1."""
    embedding, labels = toy()
    distances = squared_distances(embedding)
    triplets = All()(distances, labels, MARGIN, draws())
    assert len(listed(triplets)) == 36
    assert int((triplet_hinges(distances, triplets, MARGIN) > 0).sum()) == 26
    assert len(mined(Hard(), embedding, labels)) == 21
    assert set(mined(AllSemiHard(), embedding, labels)) == {(0, 1, 3), (1, 0, 4), (3, 4, 0), (3, 4, 2), (4, 3, 1)}
    assert mined(SemiHard(), embedding, labels) == [(0, 1, 3), (1, 0, 4), (3, 4, 0), (4, 3, 1)]
    batch_hard = [(0, 2, 3), (1, 2, 3), (2, 0, 4), (3, 5, 1), (4, 5, 2), (5, 3, 2)]
    assert mined(BatchHard(), embedding, labels) == batch_hard
    far = listed(one_per_anchor(distances, labels, "hardest", "semi_hard"))
    assert far == [(0, 2, 5), (1, 2, 5), (5, 3, 1)]


# Batches in which people have from no image to several, and labels come in no order.
BATCHES = [(noise(24, 5, seed), seed) for seed in range(6)]


@pytest.mark.parametrize(("batch", "seed"), BATCHES)
def test_exhaustive_miners_agree_with_loops(batch: tuple[Tensor, Tensor], seed: int) -> None:
    embedding, labels = batch
    distances = squared_distances(embedding)
    assert sorted(mined(All(), embedding, labels)) == sorted(every_triplet(labels))
    for miner, kind in ((Hard(), "hard"), (AllSemiHard(), "semi-hard")):
        found = mined(miner, embedding, labels)
        expected = of_kind(distances, labels, MARGIN, kind)
        assert len(expected) > 0
        assert sorted(found) == sorted(expected)


@pytest.mark.parametrize(("batch", "seed"), BATCHES)
def test_kinds_are_a_partition_and_semi_hard_hinges_lie_within_the_margin(
    batch: tuple[Tensor, Tensor], seed: int
) -> None:
    embedding, labels = batch
    distances = squared_distances(embedding)
    everything = set(mined(All(), embedding, labels))
    hard, semi = set(mined(Hard(), embedding, labels)), set(mined(AllSemiHard(), embedding, labels))
    assert not hard & semi
    assert hard | semi <= everything
    for triple in everything:
        hinge = triplet_hinges(distances, Triplets(*torch.tensor([triple]).T), MARGIN).item()
        if triple in semi:
            assert 0 < hinge < MARGIN
        else:
            assert hinge >= MARGIN if triple in hard else hinge == 0


@pytest.mark.parametrize(("batch", "seed"), BATCHES)
def test_shares_of_the_kinds_agree_with_loops(batch: tuple[Tensor, Tensor], seed: int) -> None:
    embedding, labels = batch
    distances = squared_distances(embedding)
    whole = len(list(every_triplet(labels)))
    shares = [len(of_kind(distances, labels, MARGIN, kind)) / whole for kind in ("hard", "semi-hard", "easy")]
    assert min(shares) > 0
    assert [float(share) for share in kinds(distances, labels, MARGIN)] == pytest.approx(shares)


@pytest.mark.parametrize(("batch", "seed"), BATCHES)
def test_semi_hard_and_its_fallbacks_agree_with_loops(batch: tuple[Tensor, Tensor], seed: int) -> None:
    embedding, labels = batch
    distances = squared_distances(embedding)

    def nearness(triple: Triple) -> float:
        return float(distances[triple[0], triple[2]])

    semi = first_of_each_pair(of_kind(distances, labels, MARGIN, "semi-hard"), nearness)
    assert mined(SemiHard(), embedding, labels) == semi
    mended = {triplet[:2]: triplet for triplet in semi}
    everything = list(every_triplet(labels))
    hardest = first_of_each_pair(everything, nearness)
    easiest = first_of_each_pair(everything, lambda triple: -nearness(triple))
    assert len(hardest) > len(semi)  # else there is nothing to fall back from
    assert mined(SemiHard("hardest"), embedding, labels) == [mended.get(triplet[:2], triplet) for triplet in hardest]
    assert mined(SemiHard("easiest"), embedding, labels) == [mended.get(triplet[:2], triplet) for triplet in easiest]


@pytest.mark.parametrize(("batch", "seed"), BATCHES)
@pytest.mark.parametrize("positive", ["hardest", "easiest"])
@pytest.mark.parametrize("negative", ["hardest", "semi_hard"])
def test_miners_by_anchor_agree_with_loops(
    batch: tuple[Tensor, Tensor], seed: int, positive: str, negative: str
) -> None:
    embedding, labels = batch
    distances = squared_distances(embedding).tolist()
    names = labels.tolist()
    expected = []
    for a, row in enumerate(distances):
        own = [p for p, name in enumerate(names) if name == names[a] and p != a]
        others = [n for n, name in enumerate(names) if name != names[a]]
        if not own:
            continue
        p = (max if positive == "hardest" else min)(own, key=lambda column, row=row: row[column])  # type: ignore[misc]
        if negative == "semi_hard":
            others = [n for n in others if row[n] > row[p]]
        if others:
            expected.append((a, p, min(others, key=lambda column, row=row: row[column])))  # type: ignore[misc]
    found = one_per_anchor(squared_distances(embedding), labels, positive, negative)  # type: ignore[arg-type]
    assert listed(found) == expected
    if positive == negative == "hardest":
        assert mined(BatchHard(), embedding, labels) == expected
    if positive == "easiest":
        assert mined(EasyPositive(negative), embedding, labels) == expected  # type: ignore[arg-type]


def test_ties() -> None:
    """Distances that binary fractions hold exactly: row 0 is the anchor, row 1 its positive at 1/4, margin 1/4."""
    labels = torch.tensor([0, 0, 1, 1, 1, 1, 1])
    distances = torch.full((7, 7), 2.0)
    distances[0] = torch.tensor([0.0, 0.25, 0.25, 0.375, 0.375, 0.5, 0.5])

    def of_anchor(miner: Miner) -> list[Triple]:
        return [triplet for triplet in listed(miner(distances, labels, 0.25, draws())) if triplet[:2] == (0, 1)]

    assert of_anchor(Hard()) == [(0, 1, 2)]  # as near as the positive: hard
    assert of_anchor(AllSemiHard()) == [(0, 1, 3), (0, 1, 4)]  # as far as positive and margin: easy
    assert of_anchor(SemiHard()) == [(0, 1, 3)]  # of equals the lower row
    assert of_anchor(BatchHard()) == [(0, 1, 2)]
    assert of_anchor(EasyPositive()) == [(0, 1, 3)]
    for seed in range(20):
        (triple,) = (triplet for triplet in listed(Sandberg()(distances, labels, 0.25, draws(seed))) if triplet[0] == 0)
        assert triple[2] in (2, 3, 4)


def _counts(miner: Miner, batch: tuple[Tensor, Tensor], pair: tuple[int, int], rounds: int) -> dict[int, int]:
    """How often each negative is drawn for one pair."""
    generator, counts = draws(), dict[int, int]()
    distances = squared_distances(batch[0])
    for _ in range(rounds):
        for a, p, n in listed(miner(distances, batch[1], MARGIN, generator)):
            if (a, p) == pair:
                counts[n] = counts.get(n, 0) + 1
    return counts


def _agrees(counts: dict[int, int], shares: dict[int, float], rounds: int) -> None:
    """Within four standard deviations of the binomial."""
    assert set(counts) <= {row for row, share in shares.items() if share > 0}
    for row, share in shares.items():
        assert abs(counts.get(row, 0) - rounds * share) <= 4 * (rounds * share * (1 - share)) ** 0.5, (row, counts)


def test_random_draws_negatives_of_all_pairs_uniformly() -> None:
    embedding, labels = toy()
    pairs = [triplet[:2] for triplet in mined(Random(), embedding, labels)]
    assert pairs == [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1), (3, 4), (3, 5), (4, 3), (4, 5), (5, 3), (5, 4)]
    _agrees(_counts(Random(), toy(), (4, 3), 600), {0: 1 / 3, 1: 1 / 3, 2: 1 / 3}, 600)


def test_sandbergs_rule_draws_among_violating_negatives_of_unordered_pairs() -> None:
    """From the sheet's distances: anchor 1, positive 2, D = .3039: .0246 and .1590 are below .5039, .9699 is not."""
    embedding, labels = toy()
    pairs = [triplet[:2] for triplet in mined(Sandberg(), embedding, labels)]
    assert pairs == [(0, 1), (0, 2), (1, 2), (3, 4), (3, 5), (4, 5)]
    _agrees(_counts(Sandberg(), toy(), (1, 2), 600), {3: 0.5, 4: 0.5, 5: 0.0}, 600)
    apart = normalize(torch.tensor([[1.0, 0.0], [1.0, 0.01], [-1.0, 0.0], [-1.0, 0.01]]))
    assert mined(Sandberg(), apart, torch.tensor([0, 0, 1, 1])) == []  # no pair has such a negative


def test_distance_weighted_draws_in_proportion_to_one_over_the_density() -> None:
    """Unsquared distances .1 (weighted as .5), .8, 1.2 and 1.5 (never drawn) of row 0; q written out for R^8."""
    distances = torch.full((6, 6), 1.0, dtype=torch.float64)
    away = {2: 0.1, 3: 0.8, 4: 1.2, 5: 1.5}
    for row, distance in away.items():
        distances[0, row] = distance**2
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    inverse = {
        row: max(d, 0.5) ** (2 - 8) * (1 - max(d, 0.5) ** 2 / 4) ** (-(8 - 3) / 2) if d < 1.4 else 0.0
        for row, d in away.items()
    }
    shares = {row: value / sum(inverse.values()) for row, value in inverse.items()}
    miner = DistanceWeighted(embedding_size=8)
    weights = miner.weights(distances, labels)[0]
    torch.testing.assert_close(
        weights / weights.sum(), torch.tensor([0, 0, *shares.values()], dtype=torch.float64), rtol=1e-12, atol=0
    )
    generator, counts, rounds = draws(), dict[int, int](), 3000
    for _ in range(rounds):
        first = listed(miner(distances, labels, MARGIN, generator))[0]
        assert first[:2] == (0, 1)
        counts[first[2]] = counts.get(first[2], 0) + 1
    _agrees(counts, shares, rounds)


def test_distance_weighted_leaves_out_anchors_without_a_negative_within_reach() -> None:
    embedding = normalize(torch.tensor([[1.0, 0.0], [1.0, 0.1], [-1.0, 0.0], [-1.0, 0.1]], dtype=torch.float64))
    labels = torch.tensor([0, 0, 1, 1])
    assert mined(DistanceWeighted(2), embedding, labels) == []
    embedding[3] = torch.tensor([0.0, 1.0])  # unsquared distance to row 0: sqrt(2) > 1.4; to row 1: 1.34
    found = mined(DistanceWeighted(2), embedding, labels)
    assert found == [(1, 0, 3), (3, 2, 1)]


def test_distance_weighted_in_many_dimensions_stays_finite() -> None:
    embedding, labels = noise(60, 4, size=512)
    distances = squared_distances(embedding)
    weights = DistanceWeighted(512).weights(distances, labels)
    assert torch.isfinite(weights).all()
    assert set(weights.amax(dim=1).tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize("miner", EVERY, ids=repr)
def test_every_miner_gives_triplets_that_depend_on_its_generator_alone(miner: Miner) -> None:
    embedding, labels = noise(40, 6, seed=3)
    found = mined(miner, embedding, labels, seed=1)
    assert len(found) > 0
    assert set(found) <= set(every_triplet(labels))
    torch.manual_seed(99)
    assert mined(miner, embedding, labels, seed=1) == found
    if isinstance(miner, Random | Sandberg | DistanceWeighted):
        assert mined(miner, embedding, labels, seed=2) != found


@pytest.mark.parametrize("miner", EVERY, ids=repr)
@pytest.mark.parametrize("labels", [[0, 1, 2, 3], [0, 0, 0, 0]], ids=["no positives", "no negatives"])
def test_batches_without_a_triplet(miner: Miner, labels: list[int]) -> None:
    assert mined(miner, noise(4, 2)[0], torch.tensor(labels)) == []


def test_rows_in_another_order_give_the_same_triplets() -> None:
    embedding, labels = noise(40, 6, seed=5)
    shuffled = torch.randperm(40, generator=draws(7))
    for miner in (SemiHard(), AllSemiHard(), BatchHard(), EasyPositive()):
        back = [
            tuple(int(shuffled[row]) for row in triplet)
            for triplet in mined(miner, embedding[shuffled], labels[shuffled])
        ]
        assert sorted(back) == sorted(mined(miner, embedding, labels))


def test_a_batch_of_1800_is_mined_without_materialising_its_triplets() -> None:
    """45 people with 40 images: 70,200 pairs and 123,552,000 triplets, which would take 3 GB as indices."""
    labels = torch.arange(45).repeat_interleave(40)
    generator = draws()
    points = torch.randn(45, 128, generator=generator)[labels] + torch.randn(1800, 128, generator=generator)
    distances = squared_distances(normalize(points))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    triplets = SemiHard("hardest")(distances, labels, MARGIN, generator)
    seconds = time.process_time() - start
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert len(triplets.anchor) == 70_200
    assert seconds < 5  # takes 0.3 s of one core; the bound is for a machine that does other things too
    assert peak < 400  # MiB

    # The definition, for the pairs of ten anchors.
    rows = {(int(a), int(p)): int(n) for a, p, n in zip(*triplets, strict=True) if int(a) < 10}
    assert len(rows) == 390
    for (a, p), n in rows.items():
        farther = distances[a].masked_fill(labels == labels[a], torch.inf)
        semi = farther.masked_fill((farther <= distances[a, p]) | (farther >= distances[a, p] + MARGIN), torch.inf)
        assert n == int((semi if semi.isfinite().any() else farther).argmin())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize(("levels", "step"), [(3, 1.0), (10_000, 1.0), (10_000, 2.0**-52), (40, 2.0**-46)])
def test_negatives_in_order_are_those_of_a_loop(dtype: torch.dtype, levels: int, step: float) -> None:
    """Also of distances that differ in the last bits alone, and of zeros with either sign."""
    draws = torch.Generator().manual_seed(levels)
    labels = torch.randint(6, (40,), generator=draws)
    distances = (1 + torch.randint(levels, (40, 40), generator=draws) * step).to(dtype)
    distances[:, ::7] = torch.tensor([0.0, -0.0]).to(dtype).repeat(20)[:, None]
    found = rank_negatives(distances, labels)
    for anchor in range(40):
        others = [row for row in range(40) if labels[row] != labels[anchor]]
        others.sort(key=lambda row: (float(distances[anchor, row]), row))
        assert int(found.count[anchor]) == len(others)
        assert found.index[anchor, : len(others)].tolist() == others
        assert found.distance[anchor, : len(others)].tolist() == distances[anchor, others].tolist()
        assert found.distance[anchor, len(others) :].isinf().all()
