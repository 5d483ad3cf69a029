"""Does quality predict recognition errors? See `kdface.evaluation.edc`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from kdface.evaluation.edc import DEFAULT, DiscardPolicy, error_discard
from kdface.metrics.gathered import Gathered, lacks_a_kind


class ErrorDiscard(Gathered):
    """Normalised area under the error versus discard characteristic up to a discard limit; 1: uninformative quality.

    NaN if no mated pair is missed without discarding, E ends before the limit, a kind of pair is missing, or there are
    fewer than 1 / `policy.fmr` impostor pairs. Scores or qualities that are not finite are an error.

    Args:
        limit: the share of pairs to drop, above 0 and at most 1.
        policy: the choices on which published curves differ.
    """

    higher_is_better = False
    columns: ClassVar[Mapping[str, torch.dtype]] = {
        "scores": torch.float64,
        "same": torch.bool,
        "quality": torch.float64,
    }

    def __init__(self, limit: float = 0.3, policy: DiscardPolicy = DEFAULT, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.limit = limit
        self.policy = policy

    def update(self, scores: Tensor, same: Tensor, quality: Tensor, key: Tensor | None = None) -> None:
        """Add pairs: (pairs,) similarities; bool, whether mated; the minimum quality of the two images."""
        self.keep(key, scores=scores, same=same, quality=quality)

    def compute(self) -> Tensor:
        """The partial area under the error-versus-discard curve up to `limit`, float64."""
        rows = self.rows()
        scores, same = rows["scores"], rows["same"]
        few = np.isfinite(scores).all() and not self.policy.resolved_by(int((~same).sum()))
        if np.isfinite(rows["quality"]).all() and (few or lacks_a_kind(scores, same)):
            return self.value(None)
        return self.value(error_discard(**rows, policy=self.policy).pauc(self.limit))
