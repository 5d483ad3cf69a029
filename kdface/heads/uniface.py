"""UniFace: a unified cross-entropy, with one threshold shared by all positive and negative pairs."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from kdface.heads.frame import EmbeddingSize, Head, HeadOutput, NonNegative, NumClasses, Positive, polar
from kdface.signature import checked


class UniFace(Head):
    """Unified cross-entropy (UCE) with CosFace's margin and the balance of negatives, lambda:

        loss = mean over the batch of [ log(1 + exp(-z_y)) + lambda * sum over j != y of log(1 + exp(z_j)) ],
        z_y = s (cos(theta_y) - m) - b,   z_j = s cos(theta_j) - b

    with one learned b for all classes, which separates positive from negative pairs: b / s is a verification threshold.
    b is initialised to ln(10 C). As released, w / |w| is differentiated. The released code also clips z to +-s, which
    does not change either term's value in float32. Predicts the class with the largest cosine.

    Follows Zhou et al., "UniFace: Unified Cross-Entropy Loss for Deep Face Recognition" (ICCV 2023), and its released
    code; its sampling of negatives is not implemented.

    Args:
        embedding_size: D, injected.
        num_classes: C, injected.
        scale: s.
        margin: m.
        negative_weight: lambda; 1: unbalanced.
    """

    projected = False

    @checked
    def __init__(
        self,
        embedding_size: EmbeddingSize,
        num_classes: NumClasses,
        scale: Positive = 64.0,
        margin: NonNegative = 0.4,
        negative_weight: Positive = 1.0,
    ) -> None:
        super().__init__(embedding_size, num_classes)
        nn.init.kaiming_normal_(self.weight, a=1)  # as released
        self.scale = scale
        self.margin = margin
        self.negative_weight = negative_weight
        self.bias = nn.Parameter(torch.tensor(math.log(10.0 * num_classes)))

    def classify(self, embedding: Tensor, label: Tensor) -> HeadOutput:
        """log(1 + e^-(s (cos theta_y - m) - b)) + w * sum over others of log(1 + e^(s cos theta_j - b))."""
        cosine = polar(embedding)[1] @ self.unit_weight(embedding.dtype).T
        target = label[:, None]
        own = cosine.gather(1, target) - self.margin
        logits = self.scale * cosine.scatter(1, target, own) - self.bias.to(embedding.dtype)
        positive = softplus(-logits.gather(1, target))
        negative = softplus(logits).scatter(1, target, 0.0).sum(1, keepdim=True)
        return HeadOutput((positive + self.negative_weight * negative).mean(), logits, cosine.detach())
