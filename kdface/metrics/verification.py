"""Verification error rates of scored pairs. See `kdface.evaluation.curves` and `.verification`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from kdface.evaluation.curves import RocCurve, auc, eer, fnmr_at_fmr, roc, tar_at_far
from kdface.evaluation.validation import val_at_far
from kdface.evaluation.verification import tenfold_accuracy, tenfold_accuracy_exact
from kdface.metrics.gathered import Gathered, lacks_a_kind

_NO_FOLD = -1
_FOLDS = 10  # without given ones


class Pairs(Gathered):
    """Base class of metrics on scored pairs; metrics in one `MetricCollection` share their state.

    `update(scores, same, fold=None, key=None)`: (pairs,) cosines or other similarities, higher is more similar; bool or
    0 and 1, whether both images show one person; the number of each pair's fold; for `key` see `Gathered`.

    NaN if all pairs are of one kind. Scores that are not finite are an error.
    """

    columns: ClassVar[Mapping[str, torch.dtype]] = {"scores": torch.float64, "same": torch.bool, "fold": torch.int64}

    def update(self, scores: Tensor, same: Tensor, fold: Tensor | None = None, key: Tensor | None = None) -> None:
        """Add pairs."""
        self.keep(
            key,
            scores=scores,
            same=same,
            fold=torch.full_like(same, _NO_FOLD, dtype=torch.int64) if fold is None else fold,
        )

    def of_curve(self, rate: Callable[[RocCurve], float | None]) -> Tensor:
        """A rate of the exact ROC of all pairs; NaN if a kind of pair is missing."""
        rows = self.rows()
        if lacks_a_kind(rows["scores"], rows["same"]):
            return self.value(None)
        return self.value(rate(roc(rows["scores"], rows["same"])))

    def of_folds(self, rate: Callable[..., float | None]) -> Tensor:
        """A rate of squared distances 2 - 2 cos, labels, and folds if all updates had some; NaN if a kind of pair is
        missing, or there are too few pairs or folds."""
        rows = self.rows()
        scores, fold = rows["scores"], rows["fold"]
        given = bool((fold != _NO_FOLD).all())
        few = len(np.unique(fold)) < 2 if given else len(fold) < _FOLDS
        if lacks_a_kind(scores, rows["same"]) or (few and np.isfinite(scores).all()):
            return self.value(None)
        return self.value(rate(distances=2 - 2 * scores, same=rows["same"], fold=fold if given else None))


class EqualErrorRate(Pairs):
    """Equal error rate, where FMR = FNMR on the exact ROC (`kdface.evaluation.curves.eer`). A fraction."""

    higher_is_better = False

    def compute(self) -> Tensor:
        """The rate at which false accept and false reject rates are equal, float64."""
        return self.of_curve(eer)


class ROCArea(Pairs):
    """Area under the exact ROC: P(genuine > impostor) + P(equal) / 2."""

    higher_is_better = True

    def compute(self) -> Tensor:
        """The area under the ROC curve, float64."""
        return self.of_curve(auc)


class TARAtFAR(Pairs):
    """True accept rate at the lowest threshold whose false accept rate does not exceed `far`.

    NaN if fewer than 1 / `far` impostor pairs cannot resolve the rate.
    """

    higher_is_better = True

    def __init__(self, far: float = 1e-3, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.far = far

    def compute(self) -> Tensor:
        """The true accept rate at the largest false accept rate not above `far`, float64."""
        return self.of_curve(lambda curve: tar_at_far(curve, self.far))


class FNMRAtFMR(Pairs):
    """The lowest false non-match rate among thresholds with FMR <= `fmr`: FMR100 at 1e-2, FMR1000 at 1e-3.

    NaN if fewer than 1 / `fmr` impostor pairs cannot resolve the rate.
    """

    higher_is_better = False

    def __init__(self, fmr: float = 1e-3, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.fmr = fmr

    def compute(self) -> Tensor:
        """The false non-match rate at the largest false match rate not above `fmr`, float64."""
        return self.of_curve(lambda curve: fnmr_at_fmr(curve, self.fmr))


class TenFoldAccuracy(Pairs):
    """LFW accuracy of cosines, with the threshold selected on the other folds (`kdface.evaluation.verification`).

    Folds are those given, or ten consecutive blocks in key order. NaN with one fold, or fewer than ten pairs.

    Args:
        exact: select among all thresholds instead of InsightFace's 0, 0.01, ..., 3.99 on the squared distance.
    """

    higher_is_better = True

    def __init__(self, exact: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.exact = exact

    def compute(self) -> Tensor:
        """The mean accuracy over the folds, each at the best threshold of the others, float64."""
        accuracy = tenfold_accuracy_exact if self.exact else tenfold_accuracy
        return self.of_folds(lambda **pairs: accuracy(**pairs).mean)


class VALAtFAR(Pairs):
    """FaceNet's validation rate at a FAR, with the threshold selected on the other folds
    (`kdface.evaluation.validation`).

    NaN if the other folds have fewer than 1 / `far` impostor pairs.
    """

    higher_is_better = True

    def __init__(self, far: float = 1e-3, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.far = far

    def compute(self) -> Tensor:
        """The mean validation rate over the folds at FAR = `far`, float64; NaN if the impostors cannot resolve it."""

        def rate(**pairs: Any) -> float | None:
            found = val_at_far(far=self.far, **pairs)
            return None if found is None else found.val.mean

        return self.of_folds(rate)
