"""SphereFace2: one binary classifier per class instead of a softmax."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt, Lt
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from kdface.heads.frame import (
    EmbeddingSize,
    GradientRule,
    Head,
    HeadOutput,
    NonNegative,
    NumClasses,
    Positive,
    angle,
    polar,
    straight_through,
)
from kdface.signature import checked


class SphereFace2(Head):
    """SphereFace2 (Wen et al., ICLR 2022), types C, A and M.

    With g(c) = 2 ((c + 1) / 2)^t - 1 and one learned bias b, the logits are

        C: r (g(cos theta_j) - m) + b for the target, r (g(cos theta_j) + m) + b for the others
        A: as C without m, the target's cosine being cos(min(theta + m, pi))
        M: as C without m, the target's cosine being cos(min(m theta, pi))

        loss = (lw / r) * mean over the batch of sum_j weight_j * BCE(logit_j, 1[j == y])

    with weight alpha for the target and 1 - alpha for the others (equal to OpenSphere's lw C / r times
    the mean over N x C). b is initialised to minimise the loss of embeddings orthogonal to all class
    weights: `initial_bias`.

    Args:
        embedding_size: D, injected.
        num_classes: C, injected.
        margin_type: C, A or M.
        scale: r.
        margin: m; radians for A, a factor >= 1 for M.
        power: t.
        positive_weight: alpha.
        loss_weight: lw.
        gradient: "detached": d logit_j / d cos_j = r. "exact": through g and the margin. OpenSphere's ICLR
            branch is exact for C and detached for A and M; its later branches detach all three.

    Raises:
        ValueError: margin below 1 with type M.
    """

    @checked
    def __init__(
        self,
        embedding_size: EmbeddingSize,
        num_classes: NumClasses,
        margin_type: Literal["C", "A", "M"] = "C",
        scale: Positive = 40.0,
        margin: NonNegative = 0.4,
        power: Annotated[float, Ge(1)] = 3.0,
        positive_weight: Annotated[float, Gt(0), Lt(1)] = 0.7,
        loss_weight: Positive = 50.0,
        gradient: GradientRule = "detached",
    ) -> None:
        if margin_type == "M" and margin < 1:
            raise ValueError(
                f"SphereFace2: margin is {margin}, but type M multiplies the angle by it: expected at least 1"
            )
        super().__init__(embedding_size, num_classes)
        self.margin_type = margin_type
        self.scale = scale
        self.margin = margin
        self.power = power
        self.positive_weight = positive_weight
        self.gradient = gradient
        self.loss_scale = loss_weight / scale
        self.bias = nn.Parameter(torch.tensor(self.initial_bias()))

    def initial_bias(self) -> float:
        """b = ln(2z) - a_i - ln(1 - z + sqrt((1 - z)^2 + 4 z e^(a_y - a_i))).

        z = alpha / ((1 - alpha) (C - 1)); a_y and a_i are the target's and the others' logits at
        theta = pi / 2, minus b.
        """
        orthogonal = torch.zeros(1, 2, dtype=torch.float64, device="cpu")
        a_y, a_i = map(float, self.logits_without_bias(orthogonal, torch.tensor([[0]], device="cpu"))[0])
        z = self.positive_weight / ((1.0 - self.positive_weight) * (len(self.weight) - 1))
        root = math.sqrt((1.0 - z) ** 2 + 4.0 * z * math.exp(a_y - a_i))
        if z < 1.0:
            return math.log(2.0 * z) - a_i - math.log(1.0 - z + root)
        # With few classes 1 - z + root cancels: use the conjugate.
        return math.log((z - 1.0 + root) / 2.0) - a_y

    def logits_without_bias(self, cosine: Tensor, target: Tensor) -> Tensor:
        """r g of the cosines (N, C), including the margin; `target` (N, 1) holds the labels."""
        own = cosine.gather(1, target)
        if self.margin_type == "A":
            cosine = cosine.scatter(1, target, torch.cos((angle(own) + self.margin).clamp_max(math.pi)))
        elif self.margin_type == "M":
            cosine = cosine.scatter(1, target, torch.cos((angle(own) * self.margin).clamp_max(math.pi)))
        similarity = 2.0 * ((cosine + 1.0) / 2.0).clamp_min(0.0).pow(self.power) - 1.0
        if self.margin_type == "C":
            shift = torch.full_like(cosine, self.margin).scatter(1, target, -self.margin)
            similarity = similarity + shift
        return self.scale * similarity

    def classify(self, embedding: Tensor, label: Tensor) -> HeadOutput:
        """One binary logistic loss per class, weighted alpha for the target class and 1 - alpha for the others."""
        cosine = polar(embedding)[1] @ self.unit_weight(embedding.dtype).T
        target = label[:, None]
        if self.gradient == "exact":
            logits = self.logits_without_bias(cosine, target)
        else:
            logits = straight_through(self.logits_without_bias(cosine.detach(), target), self.scale * cosine)
        logits = logits + self.bias.to(embedding.dtype)
        is_target = torch.zeros_like(logits).scatter(1, target, 1.0)
        weight = torch.full_like(logits, 1.0 - self.positive_weight).scatter(1, target, self.positive_weight)
        loss = binary_cross_entropy_with_logits(logits, is_target, weight, reduction="sum") / len(label)
        return HeadOutput(self.loss_scale * loss, logits, cosine.detach())
