"""Triplet miners over all anchor-positive pairs of a batch.

A miner is called with (N, N) squared distances, (N,) labels, the loss's margin and a CPU generator, and returns
`Triplets`. With D_ap and D_an the distances of an anchor to a positive and to a negative, every triplet is exactly one
of

    hard        D_an <= D_ap
    semi-hard   D_ap < D_an < D_ap + margin
    easy        D_an >= D_ap + margin     (its hinge is 0)

so a tie of D_an with D_ap is hard and one with D_ap + margin is easy. Pairs are ordered: (a, p) and (p, a) both count,
unless a miner documents otherwise. The margin is passed per call rather than to the constructor, so miner and loss
always use the same one. Miners are not differentiable; pass detached distances.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from kdface.losses.ranking import one_of, ranked
from kdface.losses.triplet import Margin, Triplets


@runtime_checkable
class Miner(Protocol):
    """Selects triplets of a batch."""

    def __call__(self, distances: Tensor, labels: Tensor, margin: Margin, generator: torch.Generator) -> Triplets:
        """Triplets from (N, N) squared distances and (N,) labels; random draws use only `generator` (CPU)."""
        ...


@dataclass(frozen=True)
class All:
    """Every triplet. Their number is pairs times negatives: 123,552,000 for 45 people with 40 images each."""

    def __call__(self, distances: Tensor, labels: Tensor, margin: Margin, generator: torch.Generator) -> Triplets:
        del margin, generator
        pairs, negatives = ranked(distances, labels)
        count = negatives.count[pairs.anchor]
        return negatives.all_between(pairs, torch.zeros_like(count), count)


@dataclass(frozen=True)
class SemiHard:
    """The hardest semi-hard negative of each anchor-positive pair: argmin D_an over D_ap < D_an < D_ap + margin.

    FaceNet's rule (section 3.2 of the paper), which is undefined for pairs without such a negative.

    Args:
        fallback: for those pairs: "skip" drops the pair, "hardest" takes the anchor's nearest negative, "easiest" its
            farthest.
    """

    fallback: Literal["skip", "hardest", "easiest"] = "skip"

    def __call__(self, distances: Tensor, labels: Tensor, margin: Margin, generator: torch.Generator) -> Triplets:
        del generator
        pairs, negatives = ranked(distances, labels)
        rank = negatives.within(pairs, pairs.distance, inclusive=True)
        found = rank < negatives.within(pairs, pairs.distance + margin)
        if self.fallback == "skip":
            return negatives.triplets(pairs.where(found), rank[found])
        count = negatives.count[pairs.anchor]
        other = count - 1 if self.fallback == "easiest" else torch.zeros_like(count)
        possible = count > 0
        return negatives.triplets(pairs.where(possible), torch.where(found, rank, other)[possible])


@dataclass(frozen=True)
class AllSemiHard:
    """Every semi-hard negative of each pair."""

    def __call__(self, distances: Tensor, labels: Tensor, margin: Margin, generator: torch.Generator) -> Triplets:
        del generator
        pairs, negatives = ranked(distances, labels)
        low = negatives.within(pairs, pairs.distance, inclusive=True)
        return negatives.all_between(pairs, low, negatives.within(pairs, pairs.distance + margin))


@dataclass(frozen=True)
class Hard:
    """Every hard negative of each pair. Mislabelled faces dominate these, and early training may collapse on them."""

    def __call__(self, distances: Tensor, labels: Tensor, margin: Margin, generator: torch.Generator) -> Triplets:
        del margin, generator
        pairs, negatives = ranked(distances, labels)
        high = negatives.within(pairs, pairs.distance, inclusive=True)
        return negatives.all_between(pairs, torch.zeros_like(high), high)


@dataclass(frozen=True)
class Random:
    """One negative of each pair, drawn uniformly: the baseline for mining."""

    def __call__(self, distances: Tensor, labels: Tensor, margin: Margin, generator: torch.Generator) -> Triplets:
        del margin
        pairs, negatives = ranked(distances, labels)
        pairs = pairs.where(negatives.count[pairs.anchor] > 0)
        return negatives.triplets(pairs, one_of(negatives.count[pairs.anchor], generator))


@dataclass(frozen=True)
class Sandberg:
    """One negative of each unordered pair, drawn uniformly from those with D_an < D_ap + margin, hard ones included.

    The rule of davidsandberg/facenet's `select_triplets`, which differs from the paper's: the image with the lower row
    is the anchor, and pairs without such a negative are dropped. That code mines with embeddings computed before the
    update steps; here they are computed in the step itself.
    """

    def __call__(self, distances: Tensor, labels: Tensor, margin: Margin, generator: torch.Generator) -> Triplets:
        pairs, negatives = ranked(distances, labels)
        pairs = pairs.where(pairs.anchor < pairs.positive)
        count = negatives.within(pairs, pairs.distance + margin)
        some = count > 0
        return negatives.triplets(pairs.where(some), one_of(count[some], generator))
