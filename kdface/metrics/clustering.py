"""Agreement of clusters and people. See `kdface.evaluation.clustering`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from kdface.evaluation.clustering import bcubed_f
from kdface.metrics.gathered import Gathered


class BCubedF(Gathered):
    """B-cubed F of clusters: the harmonic mean of B-cubed precision and recall (Amigo et al. 2009)."""

    higher_is_better = True
    columns: ClassVar[Mapping[str, torch.dtype]] = {"clusters": torch.int64, "labels": torch.int64}

    def update(self, clusters: Tensor, labels: Tensor, key: Tensor | None = None) -> None:
        """Add images: (images,) cluster numbers, and (images,) person numbers."""
        self.keep(key, clusters=clusters, labels=labels)

    def compute(self) -> Tensor:
        """The harmonic mean of B-cubed precision and recall, float64."""
        return self.value(bcubed_f(**self.rows()).f)
