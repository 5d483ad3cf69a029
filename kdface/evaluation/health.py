"""Detect collapsed, constant or non-finite embeddings before anything is computed from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdface.errors import UserError
from kdface.evaluation.scores import Embeddings, Same

Rows = NDArray[np.integer[Any]]  # (pairs,) rows of the embedding matrix

# Mean squared distance of unit embeddings from their mean below which they count as one vector. Rounding to
# float32 moves a unit vector by a squared distance of about 1e-14.
_CONSTANT = 1e-6
# The first threshold of InsightFace's ten-fold accuracy: if all pairs are closer, that accuracy is chance.
# Even untrained residual networks spread real faces over 0.2 and more, so only a collapse falls below it.
_COLLAPSED = 0.01
# Scores, or |cosine| and 1, closer than this count as equal; above float32 rounding of a cosine, about 1e-7.
_EQUAL = 1e-6


class Unhealthy(UserError):  # noqa: N818 - it names a state of the network, as the message does
    """The network has diverged or collapsed, or the pairs are wrong: there is nothing to evaluate."""


def diagnose(embeddings: Embeddings, left: Rows, right: Rows, same: Same) -> list[str]:
    """Reasons why evaluating these embeddings on these pairs is meaningless, as texts; empty if healthy.

    Detects pairs of only one kind, pairs of an image with itself, non-finite and zero embeddings; then one vector
    for all images, one score for all pairs, all pairs closer than the first threshold, and all embeddings on one
    line.
    """
    symptoms = _pairs(left, right, same)
    rows = embeddings.astype(np.float64)
    finite = np.isfinite(rows).all(axis=1)
    if not finite.all():
        symptoms.append(
            f"{int((~finite).sum())} of {len(rows)} embeddings contain NaN or infinity. Usual causes: too high "
            "a learning rate or no warm-up, float16 overflow, a gradient of acos, log or sqrt at the end of "
            "its range."
        )
    zero = ~rows.any(axis=1)
    if zero.any():
        symptoms.append(
            f"{int(zero.sum())} of {len(rows)} embeddings are zero and have no direction. Usual causes: "
            "activations that died after too large a step, weights decayed to nothing, or weights not loaded."
        )
    if symptoms:
        return symptoms
    return _spread(rows / np.linalg.norm(rows, axis=1, keepdims=True), left, right)


def _pairs(left: Rows, right: Rows, same: Same) -> list[str]:
    if len(same) == 0:
        return ["There are no pairs to compare. Usual cause: a list of pairs made for another data set."]
    if same.all() or not same.any():
        kind = "of the same person" if same.any() else "of different people"
        return [
            f"All {len(same)} pairs are {kind}. Usual causes: only the head of a list was evaluated (lists "
            "hold the kinds in blocks), or the labels were read wrongly."
        ]
    if (left == right).all():
        return ["Every pair compares an image with itself. Usual cause: left images taken for the right ones."]
    return []


def _spread(rows: NDArray[np.float64], left: Rows, right: Rows) -> list[str]:
    variance = float(np.square(rows - rows.mean(axis=0)).sum(axis=1).mean())
    if variance < _CONSTANT:
        return [
            f"All {len(rows)} embeddings are one vector (variance {variance:.0e}). Usual causes: a collapsed "
            "triplet loss (its value then equals the margin), weights not loaded, or an input that is always "
            "the same."
        ]
    cosines = np.einsum("ij,ij->i", rows[left], rows[right])
    if np.ptp(cosines) < _EQUAL:
        return [
            f"All {len(cosines)} scores are {float(cosines[0]):.4f}. Usual causes: pairs of the same few "
            "images, or batch-norm statistics that cancel the input."
        ]
    farthest = float(2 - 2 * cosines.min())
    if farthest < _COLLAPSED:
        return [
            f"All {len(cosines)} pairs lie on one side of all thresholds: the farthest are {farthest:.4f} "
            "apart (squared distance, at most 4). The network has hardly been trained, or its embeddings have "
            "collapsed: a triplet or distillation loss that a constant satisfies, or too high a learning rate."
        ]
    if (1 - np.abs(cosines)).max() < _EQUAL:
        return [
            "All embeddings lie on one line: every score is 1 or -1. Usual causes: an embedding layer of "
            "rank one, or a loss that only tells two groups apart."
        ]
    return []


def without_direction(embeddings: NDArray[np.float32]) -> bool:
    """Whether an embedding is zero or not finite, so that no cosine can be computed."""
    return not np.isfinite(embeddings).all() or not embeddings.any(axis=1).all()


def symptoms_of(embeddings: Embeddings, people: Sequence[str]) -> list[str]:
    """Diagnose embeddings on pairs of images that are adjacent when sorted by person."""
    names = np.asarray(people)
    order = np.argsort(names, kind="stable")
    left, right = order[:-1], order[1:]
    return diagnose(embeddings, left, right, names[left] == names[right])
