"""Heads without an angular factor: softmax, NormFace, CosFace, ArcFace."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.linalg import vector_norm
from torch.nn.functional import cross_entropy

from kdface.heads.frame import (
    Classifier,
    EmbeddingSize,
    GradientRule,
    HeadOutput,
    MarginSoftmax,
    NonNegative,
    NumClasses,
    Positive,
    angle,
)
from kdface.signature import checked


class Softmax(Classifier):
    """Linear classifier: logit_j = w_j . x + b_j, loss = cross-entropy. Nothing is normalised.

    Predicts the class with the largest logit, which depends on norms and biases.

    Args:
        embedding_size: D, injected.
        num_classes: C, injected.
        bias: learn b (C,), initially zero. OpenSphere's first branch has a bias, its main branch does not.
        init_std: initialise w from N(0, init_std^2) and b from U(-1/sqrt(D), 1/sqrt(D)), torch's default; CKD's
            official code uses 0.01. None: Xavier and zero.
    """

    ADDED_LATER: ClassVar[dict[str, Any]] = {
        "gradient": "exact",
        "init_std": None,
    }

    @checked
    def __init__(
        self,
        embedding_size: EmbeddingSize,
        num_classes: NumClasses,
        bias: bool = True,
        init_std: Positive | None = None,
    ) -> None:
        super().__init__(embedding_size, num_classes)
        self.bias = nn.Parameter(torch.zeros(num_classes)) if bias else None
        if init_std is not None:
            nn.init.normal_(self.weight, std=init_std)
            if self.bias is not None:
                nn.init.uniform_(self.bias, -(embedding_size**-0.5), embedding_size**-0.5)

    def classify(self, embedding: Tensor, label: Tensor) -> HeadOutput:
        """Cross-entropy of W x + b, neither normalised."""
        weight = self.weight.to(embedding.dtype)
        product = embedding @ weight.T
        lengths = vector_norm(embedding.detach(), dim=1, keepdim=True) * vector_norm(weight.detach(), dim=1)
        cosine = product.detach() / lengths.clamp_min(torch.finfo(lengths.dtype).tiny)
        logits = product if self.bias is None else product + self.bias.to(embedding.dtype)
        return HeadOutput(cross_entropy(logits, label), logits, cosine, logits.detach().argmax(1))

    def plain_logits(self, embedding: Tensor) -> Tensor:
        """w_j . x + b_j, (N, C)."""
        product = embedding @ self.weight.to(embedding.dtype).T
        return product if self.bias is None else product + self.bias.to(embedding.dtype)


class NormFace(MarginSoftmax):
    """Normalised softmax: logit_j = s cos(theta_j).

    Follows Wang et al., "NormFace" (ACM MM 2017), without its trained scale; identical to CocoLoss
    (Liu et al., 2017).

    Args:
        embedding_size: D, injected.
        num_classes: C, injected.
        scale: s.
    """

    ADDED_LATER: ClassVar[dict[str, Any]] = {"gradient": "exact"}

    @checked
    def __init__(
        self,
        embedding_size: EmbeddingSize,
        num_classes: NumClasses,
        scale: Positive = 30.0,
    ) -> None:
        super().__init__(embedding_size, num_classes, scale=scale)


class CosFace(MarginSoftmax):
    """Additive cosine margin: psi = cos(theta) - m.

    Follows Wang et al., "CosFace" (CVPR 2018), also known as AM-Softmax.

    Args:
        embedding_size: D, injected.
        num_classes: C, injected.
        scale: s.
        margin: m.
    """

    ADDED_LATER: ClassVar[dict[str, Any]] = {"gradient": "detached"}

    @checked
    def __init__(
        self,
        embedding_size: EmbeddingSize,
        num_classes: NumClasses,
        scale: Positive = 64.0,
        margin: NonNegative = 0.35,
    ) -> None:
        super().__init__(embedding_size, num_classes, scale=scale)
        self.margin = margin

    def psi(self, cosine: Tensor) -> Tensor:
        """cos theta - m."""
        return cosine - self.margin


class ArcFace(MarginSoftmax):
    """Additive angular margin: psi = cos(min(theta + m, pi)).

    Follows Deng et al., "ArcFace" (CVPR 2019), as implemented in OpenSphere: flat at -1 beyond
    theta = pi - m, gradient detached.

    Args:
        embedding_size: D, injected.
        num_classes: C, injected.
        scale: s.
        margin: m in radians.
        gradient: see `MarginSoftmax`.
    """

    @checked
    def __init__(
        self,
        embedding_size: EmbeddingSize,
        num_classes: NumClasses,
        scale: Positive = 64.0,
        margin: NonNegative = 0.5,
        gradient: GradientRule = "detached",
    ) -> None:
        super().__init__(embedding_size, num_classes, scale=scale, gradient=gradient)
        self.margin = margin

    def psi(self, cosine: Tensor) -> Tensor:
        """cos(min(theta + m, pi))."""
        return torch.cos((angle(cosine) + self.margin).clamp_max(math.pi))
