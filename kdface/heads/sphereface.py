"""Multiplicative angular margins before SphereFace-R: SphereFace, its 2017 form, SphereFace+,
GA-Softmax."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize

from kdface.heads.frame import (
    AngleFactor,
    EmbeddingSize,
    GradientRule,
    HeadOutput,
    MarginSoftmax,
    NonNegative,
    NumClasses,
    Positive,
    angle,
    polar,
    straight_through,
)
from kdface.heads.schedules import ScheduledMarginSoftmax, annealed_lambda
from kdface.signature import checked


def monotone_cosine(theta: Tensor) -> Tensor:
    """cos extended monotonically past pi: (-1)^k cos(theta) - 2k with k = floor(theta / pi).

    psi_0(theta) = monotone_cosine(m theta) is the target function of SphereFace (CVPR 2017), for any real
    m >= 1.
    """
    k = torch.floor(theta.detach() / math.pi)
    return (1.0 - 2.0 * torch.remainder(k, 2.0)) * torch.cos(theta) - 2.0 * k


class SphereFace(MarginSoftmax):
    """SphereFace with a fixed scale: psi = (-1)^k cos(m theta) - 2k with k = floor(m theta / pi).

    Follows the SphereFace head of OpenSphere: real margin, no annealing, loss weight 1. It is
    `SphereFaceR` with form "v0", hard feature normalisation and loss_weight = scale.

    Args:
        embedding_size: D, injected.
        num_classes: C, injected.
        scale: s.
        margin: m >= 1, factor on the target's angle.
        gradient: see `MarginSoftmax`.
    """

    @checked
    def __init__(
        self,
        embedding_size: EmbeddingSize,
        num_classes: NumClasses,
        scale: Positive = 30.0,
        margin: AngleFactor = 1.5,
        gradient: GradientRule = "detached",
    ) -> None:
        super().__init__(embedding_size, num_classes, scale=scale, gradient=gradient)
        self.margin = margin

    def psi(self, cosine: Tensor) -> Tensor:
        """(-1)^k cos(m theta) - 2k for theta in [k pi/m, (k+1) pi/m]."""
        return monotone_cosine(self.margin * angle(cosine))


class SphereFacePlus(SphereFace):
    """SphereFace plus the hyperspherical energy of the classes: loss + energy_weight * mean of angle^-2.

    The mean is over unordered pairs of distinct classes in the batch; a batch of a single class has
    energy 0. Angles are at least 0.0045 rad. Follows Liu et al., "Learning towards Minimum Hyperspherical
    Energy" (NeurIPS 2018), as implemented in OpenSphere.

    Args:
        embedding_size: D, injected.
        num_classes: C, injected.
        scale: s.
        margin: m >= 1, factor on the target's angle.
        energy_weight: weight of the energy; 0.1 in OpenSphere's published configuration, 1 in its
            constructor.
        gradient: see `MarginSoftmax`.
    """

    @checked
    def __init__(
        self,
        embedding_size: EmbeddingSize,
        num_classes: NumClasses,
        scale: Positive = 30.0,
        margin: AngleFactor = 1.5,
        energy_weight: NonNegative = 0.1,
        gradient: GradientRule = "detached",
    ) -> None:
        super().__init__(embedding_size, num_classes, scale, margin, gradient)
        self.energy_weight = energy_weight

    def classify(self, embedding: Tensor, label: Tensor) -> HeadOutput:
        """SphereFace's loss plus the energy."""
        out = super().classify(embedding, label)
        return out._replace(loss=out.loss + self.energy_weight * self.energy(label))

    def energy(self, label: Tensor) -> Tensor:
        """Mean angle^-2 between the classes of labels (N,), a scalar."""
        # Masks instead of torch.unique: data-dependent shapes would break a compiled graph.
        first = ~(label[:, None] == label).tril(-1).any(1)
        pairs = (first[:, None] & first).triu(1)
        drawn = self.weight[label]
        rows = straight_through(normalize(drawn.detach()), drawn)
        cosine = (rows @ rows.T).masked_fill(~pairs, 0.0).clamp_max(1.0 - 1e-5)
        return angle(cosine).pow(-2).masked_fill(~pairs, 0.0).sum() / pairs.sum().clamp_min(1)


class SphereFace2017(ScheduledMarginSoftmax):
    """The first SphereFace: psi = (lambda cos(theta) + psi_0(theta)) / (1 + lambda), rho = |x|.

    psi_0 is psi of `SphereFace`; lambda(it) = max(lambda_min, base (1 + gamma it)^-power) is annealed over
    the training steps `it` (`ScheduledMarginSoftmax`). Follows Liu et al., "SphereFace" (CVPR 2017), with
    the defaults of the SphereFace-20 prototxt. Its Caffe layer rescales the gradient of psi by a heuristic
    factor; here the gradient is exact or detached.

    Args:
        embedding_size: D, injected.
        num_classes: C, injected.
        margin: m >= 1, factor on the target's angle; an integer in the paper.
        lambda_base: base.
        lambda_gamma: gamma.
        lambda_power: power.
        lambda_min: floor of lambda.
        gradient: see `MarginSoftmax`.
    """

    @checked
    def __init__(
        self,
        embedding_size: EmbeddingSize,
        num_classes: NumClasses,
        margin: AngleFactor = 4.0,
        lambda_base: NonNegative = 1000.0,
        lambda_gamma: NonNegative = 0.12,
        lambda_power: NonNegative = 1.0,
        lambda_min: NonNegative = 5.0,
        gradient: GradientRule = "exact",
    ) -> None:
        super().__init__(embedding_size, num_classes, scale=None, gradient=gradient)
        self.margin = margin
        self.annealing = (lambda_base, lambda_gamma, lambda_power, lambda_min)

    def psi(self, cosine: Tensor) -> Tensor:
        """(lambda cos theta + psi_SphereFace) / (1 + lambda), lambda decreasing with the iterations."""
        mix = annealed_lambda(self.iteration.to(cosine.dtype), *self.annealing)
        return (mix * cosine + monotone_cosine(self.margin * angle(cosine))) / (1.0 + mix)


class GASoftmax(MarginSoftmax):
    """Generalised angular softmax, linear in the angle: psi = 1 - (2/pi) m theta, eta = 1 - (2/pi) theta.

    Follows Liu et al., "Deep Hyperspherical Learning" (NeurIPS 2017). In OpenSphere's head m affects the
    value but, due to an aliased tensor, not the gradient, and the gradient norm is clipped at 5; with
    "exact" the margin affects both.

    Args:
        embedding_size: D, injected.
        num_classes: C, injected.
        scale: s.
        margin: m >= 1, factor on the target's angle.
        gradient: see `MarginSoftmax`.
    """

    @checked
    def __init__(
        self,
        embedding_size: EmbeddingSize,
        num_classes: NumClasses,
        scale: Positive = 30.0,
        margin: AngleFactor = 1.5,
        gradient: GradientRule = "exact",
    ) -> None:
        super().__init__(embedding_size, num_classes, scale=scale, gradient=gradient)
        self.margin = margin

    def psi(self, cosine: Tensor) -> Tensor:
        """1 - 2 m theta / pi."""
        return 1.0 - 2.0 / math.pi * self.margin * angle(cosine)

    def eta(self, cosine: Tensor) -> Tensor:
        """1 - 2 theta / pi."""
        return 1.0 - 2.0 / math.pi * angle(cosine)

    def plain_logits(self, embedding: Tensor) -> Tensor:
        """s (1 - (2/pi) theta_j) for all classes, (N, C): linear in the angle, without margin."""
        assert self.scale is not None
        return self.scale * self.eta(polar(embedding)[1] @ self.unit_weight(embedding.dtype).T)
