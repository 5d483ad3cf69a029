"""CurricularFace: a curriculum from easy samples to hard negatives, driven by training progress."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

import torch
from annotated_types import Gt, Le
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from kdface.heads.frame import (
    Classifier,
    EmbeddingSize,
    HeadOutput,
    NonNegative,
    NumClasses,
    Positive,
    angle,
    over_ranks,
    polar,
)
from kdface.precision import KeptTypes, wide
from kdface.signature import checked


class CurricularFace(KeptTypes, Classifier):
    """ArcFace's margin; negatives harder than the target gain weight as training progresses:

        psi   = cos(theta + m) if theta + m <= pi, else cos(theta) - m sin(m)
        eta_j = cos(theta_j) (t + cos(theta_j)) if cos(theta_j) > cos(theta_y + m), else cos(theta_j)

    t is the moving average of the batch's mean target cosine over all ranks, initially 0, and is detached. In training
    it is updated before it is used. As released, w / |w| is differentiated and the class weights are initialised from
    N(0, 0.01^2). Here the gradient is finite at the poles.

    Follows Huang et al., "CurricularFace" (CVPR 2020), and its released code.

    Args:
        embedding_size: D, injected.
        num_classes: C, injected.
        scale: s.
        margin: m in radians.
        momentum: weight of the batch in t; 0.01 as released.

    Attributes:
        t: float32 scalar. Not updated in eval mode.
    """

    projected = False
    kept: ClassVar[tuple[str, ...]] = ("t",)
    t: Tensor

    @checked
    def __init__(
        self,
        embedding_size: EmbeddingSize,
        num_classes: NumClasses,
        scale: Positive = 64.0,
        margin: NonNegative = 0.5,
        momentum: Annotated[float, Gt(0), Le(1)] = 0.01,
    ) -> None:
        super().__init__(embedding_size, num_classes)
        nn.init.normal_(self.weight, std=0.01)
        self.scale = scale
        self.margin = margin
        self.momentum = momentum
        self.register_buffer("t", torch.tensor(0.0))

    def plain_logits(self, embedding: Tensor) -> Tensor:
        """s cos(theta_j) for all classes, (N, C)."""
        return self.scale * (polar(embedding)[1] @ self.unit_weight(embedding.dtype).T)

    def classify(self, embedding: Tensor, label: Tensor) -> HeadOutput:
        """cos(theta + m) for the target class, cos theta (t + cos theta) for harder other classes, with t a running
        mean of the target cosine."""
        cosine = polar(embedding)[1] @ self.unit_weight(embedding.dtype).T
        target = label[:, None]
        own = cosine.gather(1, target)
        if self.training:
            values = wide(own.detach())
            total, count = over_ranks(torch.stack([values, torch.ones_like(values)]).sum((1, 2)))
            # Not in place: a compiled backward pass may read it again (pytorch/pytorch#197039).
            self.t = self.t + self.momentum * ((total / count).to(self.t) - self.t)
        theta = angle(own) + self.margin
        shifted = torch.cos(theta)
        psi = torch.where(theta <= math.pi, shifted, own - self.margin * math.sin(self.margin))
        others = torch.where(cosine > shifted, cosine * (self.t + cosine), cosine)
        logits = self.scale * others.scatter(1, target, psi)
        return HeadOutput(cross_entropy(logits, label), logits, cosine.detach())
