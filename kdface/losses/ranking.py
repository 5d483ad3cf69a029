"""Each anchor's negatives sorted by distance, as used by most miners.

A batch of N images with K per person has about N K pairs and N^2 K triplets. Sorting each anchor's row once turns every
query about a pair's negatives ("how many are closer than this?") into a binary search, so memory is a few (N, N)
matrices rather than all triplets.
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
from kdface.precision import has_float64


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
        """The pairs selected by a mask (M,)."""
        return Pairs(self.anchor[chosen], self.positive[chosen], self.distance[chosen])

    def slot(self) -> Tensor:
        """(M,) the index of each pair among its anchor's (contiguous) pairs: 0, 1, ..."""
        here = torch.arange(len(self.anchor), device=self.anchor.device)
        return here - torch.searchsorted(self.anchor, self.anchor)


class _Ranked(NamedTuple):
    """A cached ranking and its two input tensors, kept alive so that `is` identifies them."""

    distances: Tensor
    labels: Tensor
    pairs: Pairs
    negatives: Negatives


_ranked: ContextVar[list[_Ranked] | None] = ContextVar("ranked", default=None)


@contextmanager
def ranked_once() -> Iterator[None]:
    """Context in which `ranked` sorts the same two tensors only once."""
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
    """(N,) -> (N, N), True if two rows share a label, including the diagonal."""
    return labels[:, None] == labels[None, :]


def positive_pairs(distances: Tensor, labels: Tensor) -> Pairs:
    """All ordered pairs of different images of one person: both (a, p) and (p, a)."""
    other = ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    anchor, positive = (same_person(labels) & other).nonzero(as_tuple=True)
    return Pairs(anchor, positive, distances[anchor, positive])


@dataclass(frozen=True, eq=False)
class Negatives:
    """The negatives of each anchor, nearest first; ties by row.

    Attributes:
        distance: (N, N) squared distances, infinite after the last negative.
        index: (N, N) their rows.
        count: (N,) number of negatives of each anchor.
    """

    distance: Tensor
    index: Tensor
    count: Tensor

    def within(self, pairs: Pairs, limit: Tensor, *, inclusive: bool = False) -> Tensor:
        """(M,) number of negatives of each pair's anchor closer than `limit` (M,), or as close if `inclusive`."""
        if len(limit) == 0:
            return pairs.anchor
        # searchsorted works by rows: arrange the pairs as a matrix, one row per anchor.
        slot = pairs.slot()
        limits = limit.new_zeros(len(self.count), int(slot.max()) + 1)
        limits[pairs.anchor, slot] = limit
        return torch.searchsorted(self.distance, limits, right=inclusive)[pairs.anchor, slot]

    def triplets(self, pairs: Pairs, rank: Tensor) -> Triplets:
        """Each pair with its anchor's negative at the given rank (M,); 0 is the nearest."""
        return Triplets(pairs.anchor, pairs.positive, self.index[pairs.anchor, rank])

    def all_between(self, pairs: Pairs, low: Tensor, high: Tensor) -> Triplets:
        """Each pair with all negatives of its anchor at low <= rank < high, both (M,)."""
        count = (high - low).clamp_min(0)
        pair = torch.repeat_interleave(count)
        first = count.cumsum(0) - count
        rank = torch.arange(len(pair), device=pair.device) + (low - first)[pair]
        anchor = pairs.anchor[pair]
        return Triplets(anchor, pairs.positive[pair], self.index[anchor, rank])


def rank_negatives(distances: Tensor, labels: Tensor) -> Negatives:
    """Sort each row of (N, N) squared distances, without images of the anchor's person."""
    distance, index = _rows_in_order(distances.masked_fill(same_person(labels), torch.inf))
    _, person, images = torch.unique(labels, return_inverse=True, return_counts=True)
    return Negatives(distance, index, len(labels) - images[person])


def _rows_in_order(values: Tensor) -> tuple[Tensor, Tensor]:
    """Sort each row of (N, N) non-negative numbers; return values and columns. Ties of finite values by column.

    On the CPU, NumPy sorts integers: the bits of a value, whose order is the same, with the lowest ones replaced by its
    column. This takes two fifths of the time of an argsort. float64 has no spare bits: rows with two values that differ
    only in the replaced bits, which hardly occur among distances, are sorted again.
    """
    if values.device.type != "cpu" or values.dtype not in (torch.float32, torch.float64):
        found = values.sort(dim=1, stable=True)
        return found.values, found.indices
    column = (1 << (values.shape[1] - 1).bit_length()) - 1  # bit mask of the column
    key = (values.detach().double() + 0.0).numpy().view(np.int64)  # + 0.0 turns -0.0 into 0.0
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
    """Shares of all triplets of a batch, which sum to 1; NaN if there are none. See `kdface.losses.miners`.

    Attributes:
        hard: the negative is not farther than the positive.
        semi_hard: the negative is farther, but within the margin.
        easy: the negative is beyond the margin; the hinge is 0.
    """

    hard: Tensor
    semi_hard: Tensor
    easy: Tensor


def kinds(distances: Tensor, labels: Tensor, margin: Margin) -> Kinds:
    """Difficulty of a batch independent of the miner, from (N, N) squared distances and (N,) labels."""
    pairs, negatives = ranked(distances, labels)
    whole = negatives.count[pairs.anchor].sum()
    hard = negatives.within(pairs, pairs.distance, inclusive=True).sum() / whole
    violating = negatives.within(pairs, pairs.distance + margin).sum() / whole
    return Kinds(hard, violating - hard, 1 - violating)


def one_of(count: Tensor, generator: torch.Generator) -> Tensor:
    """Draw uniformly from 0..count-1 for each count (M,), all at least 1.

    Drawn on the CPU, so that every device mines the same triplets.
    """
    share = torch.rand(len(count), dtype=torch.float64, generator=generator)
    if has_float64(count.device):
        return (share.to(count.device) * count).long()
    return (share * count.cpu()).long().to(count.device)
