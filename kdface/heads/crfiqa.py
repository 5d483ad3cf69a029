"""CR-FIQA: a margin head that also regresses the certainty of its own classification."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, smooth_l1_loss

from kdface.heads.frame import (
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

EPS = 1e-9  # of the paper
BETA = 0.5  # of the smooth L1 loss, in the released code


def certainty_ratio(cosine: Tensor, label: Tensor) -> Tensor:
    """CR = CCS / (NNCCS + 1 + 1e-9), (N,), from cosines (N, C) to the class weights and labels (N,); no gradient.

    CCS is the cosine to the target class, NNCCS the largest to another. The released code omits the + 1 and floors
    NNCCS at -1e-12, so its ratio explodes if all other classes are more than 90 degrees away.
    """
    cosine = cosine.detach().clamp(-1.0, 1.0)
    target = label[:, None]
    nearest = cosine.scatter(1, target, -torch.inf).amax(1)
    return cosine.gather(1, target)[:, 0] / (nearest + 1.0 + EPS)


class CRFIQA(MarginSoftmax):
    """ArcFace's margin, psi = cos(theta + m), plus a regression of the certainty ratio.

        loss = cross-entropy of the logits + lambda * mean over the batch of smooth_l1(P - CR)

    with smooth_l1(d) = d^2 if |d| < 0.5, else |d| - 0.25; P = w_q . f + b_q of the unnormalised embedding, and CR as
    in `certainty_ratio`. The gradient of P reaches the backbone, CR is detached. As published, psi increases again
    beyond theta = pi - m, and w / |w| is differentiated.

    Follows Boutros et al., "CR-FIQA" (CVPR 2023).

    Args:
        embedding_size: D, injected.
        num_classes: C, injected.
        scale: s.
        margin: m in radians.
        quality_weight: lambda.
        gradient: see `MarginSoftmax`; does not affect P and CR.
    """

    ADDED_LATER: ClassVar[dict[str, Any]] = {"gradient": "exact"}

    projected = False
    uses_cosine = True

    @checked
    def __init__(
        self,
        embedding_size: EmbeddingSize,
        num_classes: NumClasses,
        scale: Positive = 64.0,
        margin: NonNegative = 0.5,
        quality_weight: NonNegative = 10.0,
        gradient: GradientRule = "exact",
    ) -> None:
        super().__init__(embedding_size, num_classes, scale=scale, gradient=gradient)
        nn.init.normal_(self.weight, std=0.01)  # as published
        self.margin = margin
        self.quality_weight = quality_weight
        self.regressor = nn.Linear(embedding_size, 1)

    def quality(self, embedding: Tensor) -> Tensor:
        """(N, D) embeddings, not normalised -> (N,) predicted certainty ratios P, unbounded; higher is better."""
        dtype = torch.promote_types(torch.promote_types(embedding.dtype, self.weight.dtype), torch.float32)
        with torch.autocast(embedding.device.type, enabled=False):
            return self._predict(embedding.to(dtype))

    def psi(self, cosine: Tensor) -> Tensor:
        """cos(theta + m)."""
        return torch.cos(angle(cosine) + self.margin)

    def classify(self, embedding: Tensor, label: Tensor) -> HeadOutput:
        """ArcFace's loss + lambda * smooth L1 of the predicted quality against the certainty ratio."""
        out = super().classify(embedding, label)
        off = smooth_l1_loss(self._predict(embedding), certainty_ratio(out.cosine, label), beta=BETA)
        return out._replace(loss=out.loss + self.quality_weight * off)

    def _predict(self, embedding: Tensor) -> Tensor:
        weight, bias = (parameter.to(embedding.dtype) for parameter in (self.regressor.weight, self.regressor.bias))
        return linear(embedding, weight, bias)[:, 0]
