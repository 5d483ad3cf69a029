"""InsightFace's combined margin: SphereFace, ArcFace and CosFace in one head."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from annotated_types import Gt, Lt
from torch import Tensor, nn

from kdface.heads.frame import EmbeddingSize, MarginSoftmax, NonNegative, NumClasses, Positive, angle
from kdface.signature import checked


class CombinedMargin(MarginSoftmax):
    """psi = cos(m1 theta + m2) - m3 up to m1 theta + m2 = pi; beyond, cos(theta) - m2 sin(m2) - m3 if m1 = 1, as in
    InsightFace's arcface_torch, else -1 - m3.

    (1, m, 0) is ArcFace, (1, 0, m) CosFace, (1, 0.3, 0.2) the paper's CM1 and (0.9, 0.4, 0.15) its CM2. psi and
    w / |w| are differentiated, and the class weights are initialised from N(0, 0.01^2), as in InsightFace.

    Follows Deng et al., "ArcFace" (CVPR 2019), equation 4.

    Args:
        embedding_size: D, injected.
        num_classes: C, injected.
        scale: s.
        m1: factor on the target's angle.
        m2: added to the angle, in radians.
        m3: subtracted from the cosine.
        interclass_filter: non-target cosines above this count as mislabelled and are set to 0; None: no filter.
    """

    projected = False

    @checked
    def __init__(
        self,
        embedding_size: EmbeddingSize,
        num_classes: NumClasses,
        scale: Positive = 64.0,
        m1: Positive = 1.0,
        m2: NonNegative = 0.3,
        m3: NonNegative = 0.2,
        interclass_filter: Annotated[float, Gt(0), Lt(1)] | None = None,
    ) -> None:
        super().__init__(embedding_size, num_classes, scale=scale)
        nn.init.normal_(self.weight, std=0.01)
        self.m1 = m1
        self.m2 = m2
        self.m3 = m3
        self.interclass_filter = interclass_filter

    def psi(self, cosine: Tensor) -> Tensor:
        """cos(m1 theta + m2) - m3; beyond pi, as InsightFace, cos theta - m2 sin m2 - m3 for m1 = 1."""
        theta = self.m1 * angle(cosine) + self.m2
        beyond = cosine - self.m2 * math.sin(self.m2) if self.m1 == 1 else -torch.ones_like(cosine)
        return torch.where(theta <= math.pi, torch.cos(theta), beyond) - self.m3

    def eta(self, cosine: Tensor) -> Tensor | None:
        """cos theta, and 0 above `interclass_filter`; None without a filter."""
        if self.interclass_filter is None:
            return None
        return cosine.masked_fill(cosine.detach() > self.interclass_filter, 0.0)
