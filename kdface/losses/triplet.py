"""The triplet loss on squared distances of unit embeddings (Schroff, Kalenichenko, Philbin, "FaceNet", CVPR 2015)."""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

import torch
from annotated_types import Gt
from torch import Tensor

Margin = Annotated[float, Gt(0)]
Reduction = Literal["sum", "mean", "mean_active"]


class Triplets(NamedTuple):
    """Rows of the batch to compare, three (T,) int64 tensors.

    Attributes:
        anchor: a.
        positive: p, another image of the anchor's person.
        negative: n, an image of another person.
    """

    anchor: Tensor
    positive: Tensor
    negative: Tensor


def squared_distances(embedding: Tensor) -> Tensor:
    """D(i, j) = ||f_i - f_j||^2 = 2 - 2 cos(f_i, f_j) of unit embeddings: (N, D) -> (N, N) in [0, 4].

    In float32 (float64 for float64 input), also under autocast: half precision cannot distinguish a distance of 0.2
    from 0.2 + 0.001. The unsquared distance would be worse: its square root turns a rounding error of 1e-7 into 3e-4,
    and its gradient is unbounded at 0.

    Raises:
        ValueError: the embeddings are not (N, D).
    """
    if embedding.ndim != 2:
        raise ValueError(f"embeddings have shape {tuple(embedding.shape)}, expected (N, D)")
    with torch.autocast(embedding.device.type, enabled=False):
        exact = embedding.to(torch.promote_types(embedding.dtype, torch.float32))
        return torch.addmm(exact.new_tensor(2.0), exact, exact.T, alpha=-2).clamp_(0, 4)  # in one matrix


def triplet_hinges(distances: Tensor, triplets: Triplets, margin: Margin = 0.2) -> Tensor:
    """max(0, D(a, p) - D(a, n) + margin) of each triplet, from (N, N) squared distances: (T,).

    A margin of 0.2 on squared distances is 0.1 on cosines.
    """
    anchor, positive, negative = triplets
    return (distances[anchor, positive] - distances[anchor, negative] + margin).clamp_min(0)


def reduced(hinges: Tensor, reduction: Reduction) -> Tensor:
    """Reduce (T,) hinges to a scalar; 0, with a gradient of 0, if there are none.

    sum: over all triplets, equation 3 of the paper. mean: over all triplets, including zeros. mean_active: over those
    greater than 0, so that satisfied triplets do not dilute the others; it does not shrink as training succeeds, so
    also monitor the share of active triplets.
    """
    total = hinges.sum()
    if reduction == "sum":
        return total
    count = torch.count_nonzero(hinges > 0) if reduction == "mean_active" else torch.tensor(len(hinges))
    return total / count.clamp_min(1)


def triplet_loss(
    distances: Tensor, triplets: Triplets, margin: Margin = 0.2, reduction: Reduction = "mean_active"
) -> Tensor:
    """Triplet loss: the reduction of max(0, D(a, p) - D(a, n) + margin) over triplets.

    Args:
        distances: (N, N) squared distances, see `squared_distances`; the gradient flows through them.
        triplets: rows of the batch, from a miner.
        margin: the paper's alpha.
        reduction: see `reduced`.
    """
    return reduced(triplet_hinges(distances, triplets, margin), reduction)
