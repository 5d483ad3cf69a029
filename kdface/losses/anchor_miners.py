"""Triplet miners: one triplet per anchor, and sampling by distance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt, Le, Lt
from torch import Tensor

from kdface.losses.ranking import positive_pairs, same_person
from kdface.losses.triplet import Margin, Triplets
from kdface.precision import has_float64


def one_per_anchor(
    distances: Tensor,
    labels: Tensor,
    positive: Literal["hardest", "easiest"],
    negative: Literal["hardest", "semi_hard"],
) -> Triplets:
    """One triplet for each anchor with such a positive and negative; ties go to the lowest row.

    Args:
        distances: (N, N) squared distances.
        labels: (N,).
        positive: the farthest image of the anchor's person ("hardest"), or the nearest ("easiest").
        negative: the nearest image of another person ("hardest"), or the nearest that is farther than the selected
            positive ("semi_hard"; without an upper bound by the margin).
    """
    same = same_person(labels)
    own = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    if positive == "hardest":
        reach, chosen = distances.masked_fill(~own, -torch.inf).max(dim=1)
    else:
        reach, chosen = distances.masked_fill(~own, torch.inf).min(dim=1)
    eligible = ~same if negative == "hardest" else ~same & (distances > reach[:, None])
    nearest = distances.masked_fill(~eligible, torch.inf).argmin(dim=1)
    anchor = (own.any(dim=1) & eligible.any(dim=1)).nonzero().squeeze(1)
    return Triplets(anchor, chosen[anchor], nearest[anchor])


@dataclass(frozen=True)
class BatchHard:
    """Each anchor's farthest positive and nearest negative (Hermans et al., "In Defense of the Triplet Loss", 2017)."""

    def __call__(self, distances: Tensor, labels: Tensor, margin: Margin, generator: torch.Generator) -> Triplets:
        del margin, generator
        return one_per_anchor(distances, labels, "hardest", "hardest")


@dataclass(frozen=True)
class EasyPositive:
    """Each anchor's nearest positive (Xuan, Stylianou, Pless, "Improved Embeddings with Easy Positive Triplet Mining").

    Args:
        negative: "semi_hard", the nearest negative farther than that positive (the paper's EPSHN), or "hardest", the
            nearest negative (EPHN). Anchors without one are skipped.
    """

    negative: Literal["semi_hard", "hardest"] = "semi_hard"

    def __call__(self, distances: Tensor, labels: Tensor, margin: Margin, generator: torch.Generator) -> Triplets:
        del margin, generator
        return one_per_anchor(distances, labels, "easiest", self.negative)


@dataclass(frozen=True)
class DistanceWeighted:
    """One negative per ordered pair, sampled inversely to the density of distances on the sphere.

    With d the unsquared distance of anchor and negative, points uniform on the unit sphere of R^n have the density
    q(d) ~ d^(n - 2) (1 - d^2 / 4)^((n - 3) / 2). A negative is drawn with probability proportional to
    1 / q(max(d, cutoff)), or 0 from `nonzero_loss_cutoff` on. Pairs whose anchor has no closer negative are skipped.
    Wu, Manmatha, Smola, Kraehenbuehl, "Sampling Matters in Deep Embedding Learning", ICCV 2017.

    Args:
        embedding_size: n, injected into a method's miner.
        cutoff: smaller distances are weighted as this one, which bounds the weight of the nearest negatives.
        nonzero_loss_cutoff: distance beyond which negatives are assumed to have no loss.
    """

    embedding_size: Annotated[int, Ge(2)]
    cutoff: Annotated[float, Gt(0), Lt(2)] = 0.5
    nonzero_loss_cutoff: Annotated[float, Gt(0), Le(2)] = 1.4

    def __call__(self, distances: Tensor, labels: Tensor, margin: Margin, generator: torch.Generator) -> Triplets:
        del margin
        device = distances.device
        if has_float64(device):
            return self._mined(distances, labels, generator)
        return Triplets(*(rows.to(device) for rows in self._mined(distances.cpu(), labels.cpu(), generator)))

    def _mined(self, distances: Tensor, labels: Tensor, generator: torch.Generator) -> Triplets:
        weight = self.weights(distances, labels)
        pairs = positive_pairs(distances, labels)
        pairs = pairs.where(weight.any(dim=1)[pairs.anchor])
        if len(pairs.anchor) == 0:
            return Triplets(pairs.anchor, pairs.positive, pairs.anchor)
        slot = pairs.slot()
        drawable = torch.where(weight.any(dim=1, keepdim=True), weight, 1.0)  # draws from all-zero rows are discarded
        # On the CPU, so that every device mines the same triplets.
        drawn = torch.multinomial(drawable.cpu(), int(slot.max()) + 1, replacement=True, generator=generator)
        return Triplets(pairs.anchor, pairs.positive, drawn.to(labels.device)[pairs.anchor, slot])

    def weights(self, distances: Tensor, labels: Tensor) -> Tensor:
        """(N, N) float64 sampling weights of each anchor's negatives, with a maximum of 1 per row."""
        squared = distances.double()
        eligible = ~same_person(labels) & (squared < self.nonzero_loss_cutoff**2)
        bounded = squared.clamp_min(self.cutoff**2).masked_fill(~eligible, 1.0)
        n = self.embedding_size
        log = (2 - n) / 2 * bounded.log() - (n - 3) / 2 * (1 - bounded / 4).log()
        log = log.masked_fill(~eligible, -torch.inf)
        peak = log.amax(dim=1, keepdim=True).nan_to_num(neginf=0.0)
        return (log - peak).exp()
