"""Closed-set identification. See `kdface.evaluation.identification`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from kdface.evaluation.identification import cmc, mate_ranks
from kdface.metrics.gathered import Gathered
from kdface.precision import widest


class CMC(Gathered):
    """Cumulative match characteristic of probe images against a gallery: (max_rank,) rates, the first is rank-1.

    Closed set: every probe's person is in the gallery. Ranks are by cosine, see `mate_ranks`. NaN
    without a gallery image, or without a probe.

    Args:
        max_rank: length of the curve.
    """

    higher_is_better = True
    columns: ClassVar[Mapping[str, torch.dtype]] = {
        "embeddings": torch.float32,
        "people": torch.int64,
        "gallery": torch.bool,
    }
    wide = frozenset({"embeddings"})

    def __init__(self, max_rank: int = 20, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.max_rank = max_rank

    def update(self, embeddings: Tensor, people: Tensor, gallery: Tensor, key: Tensor | None = None) -> None:
        """Add images: (images, D) embeddings, kept in float32; (images,) person numbers; bool, True for gallery images,
        False for probes."""
        self.keep(key, embeddings=embeddings, people=people, gallery=gallery)

    def compute(self) -> Tensor:
        """(max_rank,) float64: the share of probes whose mate is among the first k."""
        rows = self.rows()
        names, listed = rows["people"].astype(str), rows["gallery"]
        if listed.all() or not listed.any():
            return torch.full((self.max_rank,), torch.nan, dtype=widest(self.device), device=self.device)
        sides = [(rows["embeddings"][which], names[which].tolist()) for which in (listed, ~listed)]
        curve = cmc(mate_ranks(*sides[0], *sides[1]), self.max_rank)
        return torch.tensor(curve, dtype=widest(self.device), device=self.device)
