"""AdaFace: a margin that depends on the embedding norm as a proxy of image quality."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

import torch
from annotated_types import Gt, Le
from torch import Tensor
from torch.linalg import vector_norm

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

_SHORTEST, _LONGEST = 1e-3, 100.0  # norms are clipped to this range in the released code
_EPS = 1e-3  # added to the standard deviation in the released code


class AdaFace(KeptTypes, Classifier):
    """Margin by norm: psi = cos(theta + g_angle) - g_add, with the norm's z-score in the batch,

        z = clip(h (|f| - mu) / (sigma + 1e-3), -1, 1),   g_angle = -m z,   g_add = m + m z.

    For long embeddings (z > 0) the margin emphasises hard samples, for short ones it is ArcFace-like and de-emphasises
    them. mu and sigma are moving averages of the mean and standard deviation (n - 1) of the norms, clipped to
    [1e-3, 100], over the batches of all ranks; z is detached. As released, w / |w| is differentiated and the class
    weights are initialised at unit norm. The released code also clips all cosines to +-(1 - 1e-3) and theta + g_angle
    to [1e-3, pi - 1e-3]; here the angle is clipped to [0, pi], and its gradient is finite at the poles.

    Follows Kim, Jain, Liu, "AdaFace" (CVPR 2022), equation 16, and its released code.

    Args:
        embedding_size: D, injected.
        num_classes: C, injected.
        scale: s.
        margin: m.
        concentration: h.
        momentum: weight of the batch in the moving averages; 0.01 in the released runs, 0.99 in the paper's text.

    Attributes:
        mean, std: float32 scalars, mu and sigma; initially 20 and 100. Not updated in eval mode.
    """

    projected = False
    kept: ClassVar[tuple[str, ...]] = ("mean", "std")
    mean: Tensor
    std: Tensor

    @checked
    def __init__(
        self,
        embedding_size: EmbeddingSize,
        num_classes: NumClasses,
        scale: Positive = 64.0,
        margin: NonNegative = 0.4,
        concentration: NonNegative = 0.333,
        momentum: Annotated[float, Gt(0), Le(1)] = 0.01,
    ) -> None:
        super().__init__(embedding_size, num_classes)
        with torch.no_grad():
            self.weight.uniform_(-1.0, 1.0)
            self.weight.div_(vector_norm(self.weight, dim=1, keepdim=True))
        self.scale = scale
        self.margin = margin
        self.concentration = concentration
        self.momentum = momentum
        self.register_buffer("mean", torch.tensor(20.0))
        self.register_buffer("std", torch.tensor(100.0))

    def plain_logits(self, embedding: Tensor) -> Tensor:
        """s cos(theta_j) for all classes, (N, C)."""
        return self.scale * (polar(embedding)[1] @ self.unit_weight(embedding.dtype).T)

    def classify(self, embedding: Tensor, label: Tensor) -> HeadOutput:
        """psi = cos(theta - m z) - m (1 + z) with z = clip(h (|x| - mean) / std, -1, 1), |x| detached."""
        norm, direction = polar(embedding)
        length = norm.detach().clamp(_SHORTEST, _LONGEST)
        if self.training:
            self._move(length)
        z = (self.concentration * (length - self.mean) / (self.std + _EPS)).clamp(-1.0, 1.0)

        def psi(own: Tensor) -> Tensor:
            theta = (angle(own) - self.margin * z).clamp(0.0, math.pi)
            return torch.cos(theta) - self.margin * (1.0 + z)

        return self.margin_softmax(direction, label, self.scale, psi)

    def _move(self, length: Tensor) -> None:
        """Update the moving averages with a batch's norms (N, 1), unless it has one image: no standard deviation."""
        values = wide(length)
        count, total, squares = over_ranks(torch.stack([torch.ones_like(values), values, values**2]).sum((1, 2)))
        mean = total / count
        variance = (squares - count * mean**2) / (count - 1).clamp_min(1)
        weight = torch.where(count > 1, self.momentum, 0.0)
        # Not in place: a compiled backward pass may read them again (pytorch/pytorch#197039).
        self.mean = self.mean + (weight * (mean - self.mean)).to(self.mean)
        self.std = self.std + (weight * (variance.clamp_min(0.0).sqrt() - self.std)).to(self.std)
