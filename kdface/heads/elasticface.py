"""ElasticFace: a random margin per sample. Boutros et al., "ElasticFace" (CVPR Workshops 2022)."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from kdface.heads.frame import EmbeddingSize, GradientRule, MarginSoftmax, NonNegative, NumClasses, Positive, angle
from kdface.signature import checked

PlusPermutation = Literal["correct", "official"]


def reorder_margins(margin: Tensor, cosine: Tensor, permutation: PlusPermutation) -> Tensor:
    """Assign the drawn margins (N, 1) by target cosine (N, 1): ElasticFace+.

    "correct" follows the paper: the larger a sample's angle to its class, the larger its margin.
    "official" follows the released code, which applies the sorting permutation instead of its inverse;
    margins and cosines are then uncorrelated. Both sort within one process's batch.
    """
    nearest_first = cosine.argsort(dim=0, descending=True, stable=True)
    ascending = margin.sort(dim=0).values
    if permutation == "official":
        return ascending.gather(0, nearest_first)
    return torch.empty_like(margin).scatter(0, nearest_first, ascending)


class _ElasticFace(MarginSoftmax):
    """Margin sampling shared by both forms.

    Attributes:
        generator: used to draw margins; None, the default, is torch's default generator of the
            embedding's device.
    """

    projected = False  # the published code differentiates w / |w|

    def __init__(
        self,
        embedding_size: int,
        num_classes: int,
        *,
        scale: float,
        margin: float,
        sigma: float,
        plus_permutation: PlusPermutation | None,
        gradient: GradientRule,
    ) -> None:
        super().__init__(embedding_size, num_classes, scale=scale, gradient=gradient)
        nn.init.normal_(self.weight, std=0.01)  # as published
        self.margin = margin
        self.sigma = sigma
        self.plus_permutation = plus_permutation
        self.generator: torch.Generator | None = None

    def draw_margins(self, cosine: Tensor) -> Tensor:
        """E ~ N(m, sigma^2), (N, 1), not clamped; in eval mode m, for a reproducible validation loss."""
        if not self.training:
            return torch.full_like(cosine, self.margin)
        noise = torch.randn(cosine.shape, generator=self.generator, dtype=cosine.dtype, device=cosine.device)
        margin = self.margin + self.sigma * noise
        if self.plus_permutation is None:
            return margin
        return reorder_margins(margin, cosine.detach(), self.plus_permutation)


class ElasticFaceArc(_ElasticFace):
    """ElasticFace-Arc and -Arc+: psi = cos(theta + E), E ~ N(m, sigma^2) drawn per sample and step.

    As published, psi increases again beyond theta = pi - E. The gradient is finite at the poles.

    Args:
        embedding_size: D, injected.
        num_classes: C, injected.
        scale: s.
        margin: m in radians.
        sigma: standard deviation of the margin in radians; 0.05, and 0.0175 for Arc+.
        plus_permutation: None for -Arc; for -Arc+ see `reorder_margins`.
        monotone: use cos(theta) - E sin(E) beyond theta = pi - E, as InsightFace's ArcFace does.
        gradient: see `MarginSoftmax`.
    """

    @checked
    def __init__(
        self,
        embedding_size: EmbeddingSize,
        num_classes: NumClasses,
        scale: Positive = 64.0,
        margin: NonNegative = 0.5,
        sigma: NonNegative = 0.05,
        plus_permutation: PlusPermutation | None = None,
        monotone: bool = False,
        gradient: GradientRule = "exact",
    ) -> None:
        super().__init__(
            embedding_size,
            num_classes,
            scale=scale,
            margin=margin,
            sigma=sigma,
            plus_permutation=plus_permutation,
            gradient=gradient,
        )
        self.monotone = monotone

    def psi(self, cosine: Tensor) -> Tensor:
        """cos(theta + m), m drawn per image."""
        margin = self.draw_margins(cosine)
        theta = angle(cosine) + margin
        if not self.monotone:
            return torch.cos(theta)
        return torch.where(theta > math.pi, cosine - margin * margin.sin(), torch.cos(theta))


class ElasticFaceCos(_ElasticFace):
    """ElasticFace-Cos and -Cos+: psi = cos(theta) - E, E ~ N(m, sigma^2) drawn per sample and step.

    Args:
        embedding_size: D, injected.
        num_classes: C, injected.
        scale: s.
        margin: m.
        sigma: standard deviation of the margin; 0.05, and for Cos+ 0.025 in the paper, 0.02 in the
            released configuration.
        plus_permutation: None for -Cos; for -Cos+ see `reorder_margins`.
    """

    ADDED_LATER: ClassVar[dict[str, Any]] = {"gradient": "exact"}

    @checked
    def __init__(
        self,
        embedding_size: EmbeddingSize,
        num_classes: NumClasses,
        scale: Positive = 64.0,
        margin: NonNegative = 0.35,
        sigma: NonNegative = 0.05,
        plus_permutation: PlusPermutation | None = None,
    ) -> None:
        super().__init__(
            embedding_size,
            num_classes,
            scale=scale,
            margin=margin,
            sigma=sigma,
            plus_permutation=plus_permutation,
            gradient="exact",
        )

    def psi(self, cosine: Tensor) -> Tensor:
        """cos theta - m, m drawn per image."""
        return cosine - self.draw_margins(cosine)
