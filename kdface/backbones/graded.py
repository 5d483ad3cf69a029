"""A backbone with a quality head."""

from __future__ import annotations

from torch import Tensor, nn


class Graded(nn.Module):
    """A backbone with a quality head: embedding -> hidden -> GELU -> one score, without an output activation."""

    def __init__(self, backbone: nn.Module, hidden: int) -> None:
        super().__init__()
        self.embedding_size = int(backbone.embedding_size)  # type: ignore[arg-type]
        self.hidden = hidden
        self.backbone = backbone
        self.regression = nn.Sequential(nn.Linear(self.embedding_size, hidden), nn.GELU(), nn.Linear(hidden, 1))

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, D), not normalised."""
        embedding: Tensor = self.backbone(images)
        return embedding

    def grade(self, embedding: Tensor) -> Tensor:
        """(N, D), not normalised -> (N,) scores, higher is better."""
        score: Tensor = self.regression(embedding).squeeze(1)
        return score
