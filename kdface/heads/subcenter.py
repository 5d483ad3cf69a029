"""Sub-centre ArcFace: several centres per class, so that noisy images gather at a separate one."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from kdface.heads.frame import EmbeddingSize, GradientRule, HeadOutput, NonNegative, NumClasses, Positive, polar
from kdface.heads.softmax import ArcFace
from kdface.signature import checked


class SubCenterArcFace(ArcFace):
    """ArcFace on the nearest of K centres of each class: cos(theta_j) = max over k of cos(x, w_jk).

    Only the nearest centre gets a gradient. As released, w / |w| is differentiated and the weights are initialised
    from N(0, 0.01^2).

    Follows Deng et al., "Sub-center ArcFace" (ECCV 2020), equation 4. Its third step, which drops images far from their
    class's dominant centre and retrains with K = 1, is left to the dataset.

    Args:
        embedding_size: D, injected.
        num_classes: C, injected.
        centers: K; 3 in the paper. 1 is ArcFace.
        scale: s.
        margin: m in radians.
        gradient: see `MarginSoftmax`.

    Attributes:
        weight: (C K, D); row c K + k is centre k of class c.
    """

    projected = False

    @checked
    def __init__(
        self,
        embedding_size: EmbeddingSize,
        num_classes: NumClasses,
        centers: Annotated[int, Ge(1)] = 3,
        scale: Positive = 64.0,
        margin: NonNegative = 0.5,
        gradient: GradientRule = "exact",
    ) -> None:
        super().__init__(embedding_size, num_classes, scale, margin, gradient)
        self.centers = centers
        self.weight = nn.Parameter(torch.empty(num_classes * centers, embedding_size))
        nn.init.normal_(self.weight, std=0.01)

    def nearest(self, embedding: Tensor) -> Tensor:
        """(N, D) in full precision -> (N, C) cosines to the nearest centre of each class."""
        cosine = polar(embedding)[1] @ self.unit_weight(embedding.dtype).T
        return cosine.view(len(cosine), self.num_classes, self.centers).max(2).values

    def plain_logits(self, embedding: Tensor) -> Tensor:
        """s cos(theta_j) for all classes, (N, C)."""
        assert self.scale is not None
        return self.scale * self.nearest(embedding)

    def classify(self, embedding: Tensor, label: Tensor) -> HeadOutput:
        """ArcFace on the cosine to the nearest of K centres of each class."""
        assert self.scale is not None
        cosine = self.nearest(embedding)
        target = label[:, None]
        own = self.under_rule(self.psi, cosine.gather(1, target))
        logits = self.scale * cosine.scatter(1, target, own)
        return HeadOutput(cross_entropy(logits, label), logits, cosine.detach())
