"""Every anchor's negatives in the order of their distance: what most miners search in.

A batch of N images with K of each person has about N K pairs and N^2 K triplets. Sorting each anchor's row once turns
every question about a pair's negatives ("how many are nearer than this?") into a binary search, so memory is that of a
few (N, N) matrices, never that of the triplets.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from kdface.losses.triplet import Margin, Triplets


@dataclass(frozen=True, eq=False)
class Pairs:
    """Anchor-positive pairs, ordered by anchor, then by positive.

    Attributes:
        anchor, positive: (M,) int64.
        distance: (M,) their squared distances.
    """

    anchor: Tensor
    positive: Tensor
    distance: Tensor

    def where(self, chosen: Tensor) -> Pairs:
        """Those of a mask (M,)."""
        return Pairs(self.anchor[chosen], self.positive[chosen], self.distance[chosen])

    def slot(self) -> Tensor:
        """(M,) the place of each pair among the pairs of its anchor, which lie together: 0, 1, ..."""
        here = torch.arange(len(self.anchor), device=self.anchor.device)
        return here - torch.searchsorted(self.anchor, self.anchor)


class _Ranked(NamedTuple):
    """What was computed for a matrix of distances, and the two tensors it is of, alive so that `is` names them."""

    distances: Tensor
    labels: Tensor
    pairs: Pairs
    negatives: Negatives


_ranked: ContextVar[list[_Ranked] | None] = ContextVar("ranked", default=None)


@contextmanager
def ranked_once() -> Iterator[None]:
    """Within it, `ranked` sorts the same two tensors once, whoever asks."""
    token = _ranked.set([])
    try:
        yield
    finally:
        _ranked.reset(token)


def ranked(distances: Tensor, labels: Tensor) -> tuple[Pairs, Negatives]:
    """`positive_pairs` and `rank_negatives` of (N, N) squared distances and (N,) labels."""
    known = _ranked.get()
    for found in known or ():
        if found.distances is distances and found.labels is labels:
            return found.pairs, found.negatives
    pairs, negatives = positive_pairs(distances, labels), rank_negatives(distances, labels)
    if known is not None:
        known.append(_Ranked(distances, labels, pairs, negatives))
    return pairs, negatives


def same_person(labels: Tensor) -> Tensor:
    """(N,) -> (N, N), True where two rows have one label, each row with itself included."""
    return labels[:, None] == labels[None, :]


def positive_pairs(distances: Tensor, labels: Tensor) -> Pairs:
    """All ordered pairs of different images of one person: both (a, p) and (p, a)."""
    other = ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    anchor, positive = (same_person(labels) & other).nonzero(as_tuple=True)
    return Pairs(anchor, positive, distances[anchor, positive])


@dataclass(frozen=True, eq=False)
class Negatives:
    """The negatives of each anchor, nearest first; of equally distant ones the lower row first.

    Attributes:
        distance: (N, N) squared distances, infinite after the last negative.
        index: (N, N) their rows.
        count: (N,) how many negatives each anchor has.
    """

    distance: Tensor
    index: Tensor
    count: Tensor

    def within(self, pairs: Pairs, limit: Tensor, *, inclusive: bool = False) -> Tensor:
        """(M,) how many negatives of each pair's anchor are nearer than `limit` (M,), or as near where `inclusive`."""
        if len(limit) == 0:
            return pairs.anchor
        # The pairs as a matrix, one row per anchor, since the search takes rows.
        slot = pairs.slot()
        limits = limit.new_zeros(len(self.count), int(slot.max()) + 1)
        limits[pairs.anchor, slot] = limit
        return torch.searchsorted(self.distance, limits, right=inclusive)[pairs.anchor, slot]

    def triplets(self, pairs: Pairs, rank: Tensor) -> Triplets:
        """Each pair with its anchor's negative of the given rank (M,), 0 being the nearest."""
        return Triplets(pairs.anchor, pairs.positive, self.index[pairs.anchor, rank])

    def all_between(self, pairs: Pairs, low: Tensor, high: Tensor) -> Triplets:
        """Each pair with every negative of its anchor of rank low <= rank < high, both (M,)."""
        count = (high - low).clamp_min(0)
        pair = torch.repeat_interleave(count)
        first = count.cumsum(0) - count
        rank = torch.arange(len(pair), device=pair.device) + (low - first)[pair]
        anchor = pairs.anchor[pair]
        return Triplets(anchor, pairs.positive[pair], self.index[anchor, rank])


def rank_negatives(distances: Tensor, labels: Tensor) -> Negatives:
    """Sort each row of (N, N) squared distances, images of the anchor's own person left out."""
    distance, index = _rows_in_order(distances.masked_fill(same_person(labels), torch.inf))
    _, person, images = torch.unique(labels, return_inverse=True, return_counts=True)
    return Negatives(distance, index, len(labels) - images[person])


def _rows_in_order(values: Tensor) -> tuple[Tensor, Tensor]:
    """Each row of (N, N) non-negative numbers sorted, and where they were; of equal finite ones the lower column first.

    On a processor NumPy sorts whole numbers: a value's bits, which rise with it, the last of them replaced by its
    column. That takes two fifths of the time of sorting columns by their values. float64 has no bits to spare: a row in
    which two values differ in the bits that were replaced, which distances hardly have, is sorted again.
    """
    if values.device.type != "cpu" or values.dtype not in (torch.float32, torch.float64):
        found = values.sort(dim=1, stable=True)
        return found.values, found.indices
    column = (1 << (values.shape[1] - 1).bit_length()) - 1  # the bits of a column
    key = (values.detach().double() + 0.0).numpy().view(np.int64)  # + 0.0: of -0.0 it makes 0.0
    key &= ~column
    key |= np.arange(values.shape[1])
    key.sort(axis=1)
    key &= column
    index = torch.from_numpy(key)
    ordered = values.gather(1, index)
    again = (ordered[:, 1:] < ordered[:, :-1]).any(dim=1)
    if again.any():
        ordered[again], index[again] = values[again].sort(dim=1, stable=True)
    return ordered, index


class Kinds(NamedTuple):
    """Shares of all triplets of a batch, which add up to 1; NaN where it has none. See `kdface.losses.miners`.

    Attributes:
        hard: the negative is not farther than the positive.
        semi_hard: it is, and within the margin.
        easy: it is beyond; the hinge is 0.
    """

    hard: Tensor
    semi_hard: Tensor
    easy: Tensor


def kinds(distances: Tensor, labels: Tensor, margin: Margin) -> Kinds:
    """How hard a batch is, whatever a miner takes from it: of (N, N) squared distances and (N,) labels."""
    pairs, negatives = ranked(distances, labels)
    whole = negatives.count[pairs.anchor].sum()
    hard = negatives.within(pairs, pairs.distance, inclusive=True).sum() / whole
    violating = negatives.within(pairs, pairs.distance + margin).sum() / whole
    return Kinds(hard, violating - hard, 1 - violating)


def one_of(count: Tensor, generator: torch.Generator) -> Tensor:
    """A number drawn uniformly from 0..count-1 for each count (M,), all at least 1.

    Drawn on the CPU, so that every device mines the same triplets.
    """
    share = torch.rand(len(count), dtype=torch.float64, generator=generator).to(count.device)
    return (share * count).long()
