"""MagFace: a margin that grows with the embedding norm, which thereby learns to measure quality."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.linalg import vector_norm

from kdface.heads.frame import (
    Classifier,
    EmbeddingSize,
    GradientRule,
    HeadOutput,
    NonNegative,
    NumClasses,
    Positive,
    angle,
    polar,
)
from kdface.signature import checked


class MagFace(Classifier):
    """Margin by norm: psi = cos(theta + m(a)) if cos(theta) > 0, else cos(theta); a = clip(|f|, l_a, u_a).

    m(a) = l_m + (u_m - l_m) (a - l_a) / (u_a - l_a), g(a) = a / u_a^2 + 1 / a, and

        loss = cross-entropy of (s psi, s cos theta_j) + lambda_g * mean over the batch of g(a)

    Follows Meng et al., "MagFace" (CVPR 2021) as released: the gradient reaches the norm through m and g, and is 0
    outside [l_a, u_a]; w / |w| is differentiated and the class weights are initialised at unit norm. Here the gradient
    is finite at the poles.

    BatchNorm on the embedding keeps the norm near sqrt(D): lower the range if D is below l_a^2.

    Args:
        embedding_size: D, injected.
        num_classes: C, injected.
        scale: s.
        norms: (l_a, u_a), the range of norms.
        margins: (l_m, u_m) in radians, the margins at its ends.
        norm_weight: lambda_g; 35 in the released run, 20 by default in the released code.
        gradient: "exact" differentiates psi; "detached" replaces d psi / d cos by 1. The gradient of psi with respect
            to m(a), from which the norm learns, is exact under both rules.
    """

    ADDED_LATER: ClassVar[dict[str, Any]] = {"gradient": "exact"}

    projected = False

    @checked
    def __init__(
        self,
        embedding_size: EmbeddingSize,
        num_classes: NumClasses,
        scale: Positive = 64.0,
        norms: tuple[Positive, Positive] = (10.0, 110.0),
        margins: tuple[NonNegative, NonNegative] = (0.45, 0.8),
        norm_weight: NonNegative = 35.0,
        gradient: GradientRule = "exact",
    ) -> None:
        if norms[0] >= norms[1] or margins[0] > margins[1]:
            raise ValueError(f"MagFace: norms are {norms} and margins {margins}; each must rise.")
        super().__init__(embedding_size, num_classes)
        with torch.no_grad():  # as published: directions drawn from the cube
            self.weight.uniform_(-1.0, 1.0)
            self.weight.div_(vector_norm(self.weight, dim=1, keepdim=True))
        self.scale = scale
        self.norms = norms
        self.margins = margins
        self.norm_weight = norm_weight
        self.gradient = gradient

    def quality(self, embedding: Tensor) -> Tensor:
        """(N, D) embeddings, not normalised -> (N,) their norms, not clipped; higher is better."""
        norms: Tensor = vector_norm(embedding.to(torch.promote_types(embedding.dtype, torch.float32)), dim=1)
        return norms

    def plain_logits(self, embedding: Tensor) -> Tensor:
        """s cos(theta_j) for all classes, (N, C)."""
        return self.scale * (polar(embedding)[1] @ self.unit_weight(embedding.dtype).T)

    def classify(self, embedding: Tensor, label: Tensor) -> HeadOutput:
        """cos(theta + m(a)) with a margin linear in a = clip(|x|), plus lambda_g g(a), which rewards long features."""
        norm, direction = polar(embedding)
        (low, high), (least, most) = self.norms, self.margins
        length = norm.clamp(low, high)
        margin = least + (most - least) * (length - low) / (high - low)

        def psi(own: Tensor) -> Tensor:
            shifted = torch.cos(angle(own if self.gradient == "exact" else own.detach()) + margin)
            if self.gradient == "detached":
                shifted = shifted + (own - own.detach())
            return torch.where(own > 0, shifted, own)

        out = self.margin_softmax(direction, label, self.scale, psi)
        penalty = (length / high**2 + 1.0 / length).mean()
        return out._replace(loss=out.loss + self.norm_weight * penalty)
