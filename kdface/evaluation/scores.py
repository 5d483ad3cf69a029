"""Scores from embeddings: cosines and squared distances of pairs, and of all pairs of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from kdface.errors import UserError

Values = ArrayLike | Tensor  # an array, a list of numbers, or a tensor on any device
Embeddings = NDArray[np.floating[Any]]  # (images, embedding size), not necessarily normalised
Scores = NDArray[np.float64]  # (pairs,)
Same = NDArray[np.bool_]  # (pairs,) True where both images show one person

_BLOCK = 1 << 15  # numbers in one block of work: 256 KiB of float64, which stay in a core's cache and in the allocator


def as_array(values: Values) -> NDArray[Any]:
    """An array, whatever holds the numbers; of a tensor without its gradient, bfloat16 as float64."""
    if isinstance(values, Tensor):
        plain = values.detach().cpu()
        return np.asarray((plain.double() if plain.dtype == torch.bfloat16 else plain).numpy())
    return np.asarray(values)


def as_same(same: Values, shape: tuple[int, ...]) -> Same:
    """(pairs,) bool of booleans, or of 0 and 1.

    Raises:
        ValueError: another shape than the scores', or other values.
    """
    found = as_array(same)
    if found.shape != shape or len(shape) != 1 or not (found.dtype == np.bool_ or np.isin(found, (0, 1)).all()):
        raise ValueError(
            f"scores and same must be (pairs,), same bool or 0 and 1; got {shape} and {found.shape} {found.dtype}"
        )
    return found.astype(np.bool_, copy=False)


def unit(embeddings: Embeddings | Values) -> NDArray[np.float64]:
    """Each row divided by its L2 norm, float64.

    Raises:
        UserError: a row is not finite or zero, and thus has no direction.
    """
    rows = as_array(embeddings).astype(np.float64, copy=False)
    if rows.ndim != 2:
        raise ValueError(f"embeddings must be (images, embedding size), got shape {rows.shape}")
    norms = np.linalg.norm(rows, axis=1)
    bad = ~(np.isfinite(norms) & (norms > 0))
    if bad.any():
        raise UserError(
            f"{bad.sum()} of {len(rows)} embeddings are zero or not finite, the first in row {bad.argmax()}.",
            fix="look at the loss and the gradient norm of the run: training has probably diverged",
        )
    return np.asarray(rows / norms[:, None], dtype=np.float64)


def cosine_scores(left: Embeddings | Values, right: Embeddings | Values) -> Scores:
    """Cosines of left and right embeddings: two (pairs, embedding size) -> (pairs,)."""
    return _rowwise(left, right, lambda a, b: np.clip(np.einsum("ij,ij->i", a, b), -1.0, 1.0))


def squared_distances(left: Embeddings | Values, right: Embeddings | Values) -> Scores:
    """||a - b||^2 = 2 - 2 cos of unit embeddings: two (pairs, embedding size) -> (pairs,) in [0, 4].

    Computed from the difference, which is exact for small distances, unlike 2 - 2 cos.
    """
    return _rowwise(left, right, lambda a, b: np.square(a - b).sum(axis=1))


def _rowwise(given_left: Values, given_right: Values, score: Any) -> Scores:
    left, right = as_array(given_left), as_array(given_right)
    if left.shape != right.shape or left.ndim != 2:
        raise ValueError(f"left and right must be (pairs, embedding size) alike, got {left.shape}, {right.shape}")
    step = max(1, _BLOCK // max(1, left.shape[1]))
    out = np.empty(len(left), dtype=np.float64)
    for start in range(0, len(left), step):
        block = slice(start, start + step)
        out[block] = score(unit(left[block]), unit(right[block]))
    return out


def all_pair_scores(embeddings: Embeddings, labels: Sequence[Any] | NDArray[Any]) -> tuple[Scores, Same]:
    """Cosines of all pairs of different images, each once (i < j): n (n - 1) / 2 scores.

    Args:
        embeddings: (n, embedding size).
        labels: (n,) the person of each image, numbers or names.
    """
    cosines, same = _matrix(embeddings, labels)
    upper = ~np.tri(len(same), dtype=np.bool_)
    return cosines[upper], same[upper]


def all_pair_scores_with_self(embeddings: Embeddings, labels: Sequence[Any] | NDArray[Any]) -> tuple[Scores, Same]:
    """The full n x n matrix of cosines, as in CKD's official evaluation.

    It counts comparisons of images with themselves as genuine, and each pair twice. With four images per person
    a quarter of the genuine scores are trivial, and the equal error rate is up to a quarter too low. For
    comparison with published numbers only; otherwise use `all_pair_scores`.
    """
    cosines, same = _matrix(embeddings, labels)
    np.fill_diagonal(cosines, 1.0)  # exactly, so that rounding never ranks a self-comparison below a real one
    return cosines.ravel(), same.ravel()


def _matrix(embeddings: Embeddings, labels: Sequence[Any] | NDArray[Any]) -> tuple[NDArray[np.float64], Same]:
    names = np.asarray(labels)
    if names.shape != (len(embeddings),):
        raise ValueError(f"{len(embeddings)} embeddings need as many labels, got shape {names.shape}")
    rows = unit(embeddings)
    return np.clip(rows @ rows.T, -1.0, 1.0), np.asarray(names[:, None] == names[None, :], dtype=np.bool_)


@dataclass(frozen=True)
class ScoreStatistics:
    """Separation of genuine and impostor scores.

    Attributes:
        g_mean, i_mean: mean genuine and mean impostor score.
        fdr: Fisher discriminant ratio (G-mean - I-mean)^2 / (var_G + var_I), population variances; None
            if both variances are zero.
    """

    g_mean: float
    i_mean: float
    fdr: float | None


def score_statistics(scores: Values, same: Values) -> ScoreStatistics:
    """G-mean, I-mean and Fisher discriminant ratio of scores, as reported in papers on masked faces."""
    values, mated = checked(scores, same)
    genuine, impostor = values[mated], values[~mated]
    spread = float(genuine.var() + impostor.var())
    gap = float(genuine.mean() - impostor.mean())
    return ScoreStatistics(float(genuine.mean()), float(impostor.mean()), gap * gap / spread if spread > 0 else None)


def checked(scores: Values, same: Values) -> tuple[Scores, Same]:
    """Scores as float64 and labels as bool, after checking that rates can be computed from them.

    Raises:
        UserError: a score is not finite, or there is no genuine or no impostor pair.
        ValueError: the shapes differ, or `same` is not binary.
    """
    values = as_array(scores).astype(np.float64)
    mated = as_same(same, values.shape)
    require_rates(values, mated)
    return values, mated


def require_rates(values: NDArray[np.floating[Any]], mated: Same) -> None:
    """Raise `UserError` if a score is not finite, or there is no genuine or no impostor pair."""
    finite = np.isfinite(values)
    if not finite.all():
        raise UserError(
            f"{int((~finite).sum())} of {len(values)} scores are not finite, first pair {int(finite.argmin())}.",
            fix="look at the loss and the gradient norm of the run: training has probably diverged",
        )
    if mated.all() or not mated.any():
        kind = "pairs of the same person" if mated.any() else "pairs of different people"
        raise UserError(
            f"All {len(values)} pairs are {kind}: no error rate can be computed."
            if len(values)
            else "There are no pairs.",
            expected="pairs of the same person and pairs of different people",
        )


def largest_within(rate: float, n: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """The largest m with m / n <= rate, for each n; the floor of a product of floats can be off by one."""
    m = np.floor(rate * n).astype(np.int64)
    m = m + ((m + 1) / n <= rate)
    return np.asarray(m - (m / n > rate), dtype=np.int64)


def last_of_equals(ranked: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
    """Indices where runs of equal numbers end in a sorted array: thresholds cannot split a run."""
    return np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)
