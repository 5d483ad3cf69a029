"""SphereFace-R: three multiplicative margins under three regimes of feature normalisation."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from annotated_types import Ge
from torch import Tensor

from kdface.heads.frame import AngleFactor, EmbeddingSize, GradientRule, NonNegative, NumClasses, Positive, angle
from kdface.heads.schedules import ScheduledMarginSoftmax, stepped_margin
from kdface.heads.sphereface import monotone_cosine
from kdface.signature import checked

FeatureNorm = Literal["none", "hard", "soft"]

# (s, lw) as published for each regime: OpenSphere's only configuration (hard) and the defaults of its classes. The
# regime "none" ignores s.
PUBLISHED: dict[FeatureNorm, tuple[float, float]] = {"none": (60.0, 1.0), "hard": (60.0, 50.0), "soft": (30.0, 50.0)}


class SphereFaceR(ScheduledMarginSoftmax):
    """SphereFace-R: a multiplicative margin in three forms, under three regimes of feature normalisation.

    All forms share the decision boundary m theta_y = theta_j (for theta_y <= pi / m):

        form  psi (target)                                       eta (others)
        v0    (-1)^k cos(m theta) - 2k, k = floor(m theta / pi)  cos(theta)
        v1    cos(min(m theta, pi))                              cos(theta)
        v2    cos(theta)                                         cos(theta / m)

        feature_norm  rho  loss                                  loss_scale
        none (NFN)    |x|  lw CE                                 lw
        hard (HFN)    s    (lw / s) CE                           lw / s
        soft (SFN)    |x|  (lw / s) CE + t mean penalty(|x|, s)  lw / s

    Follows Liu et al., "SphereFace Revived" (TPAMI 2023), as implemented in OpenSphere. The defaults are those of
    the only published configuration (HFN, v2, s = 60, m = 1.4, lw = 50), with s and lw per regime; OpenSphere's
    authors call their NFN and SFN code not fully tested.

    Args:
        embedding_size: D, injected.
        num_classes: C, injected.
        form: the margin's form, as above.
        feature_norm: the regime, as above.
        scale: s: the logits' scale (hard), or the norm that features are pulled towards (soft). Ignored
            for "none". None: as published, 60 (hard) or 30 (soft).
        margin: m >= 1, the final margin.
        margin_steps: the margin rises from 1 to `margin` in equal increments, one after each of these
            training steps (`stepped_margin`); empty: constant.
        loss_weight: lw. None: as published, 50 (hard, soft) or 1 (none).
        penalty: for "soft": "l1", ||x| - s|, as in OpenSphere, or "squared", (|x| - s)^2.
        penalty_weight: t. Only "soft" uses it.
        gradient: see `MarginSoftmax`.
    """

    @checked
    def __init__(
        self,
        embedding_size: EmbeddingSize,
        num_classes: NumClasses,
        form: Literal["v0", "v1", "v2"] = "v2",
        feature_norm: FeatureNorm = "hard",
        scale: Positive | None = None,
        margin: AngleFactor = 1.4,
        margin_steps: tuple[Annotated[int, Ge(0)], ...] = (),
        loss_weight: Positive | None = None,
        penalty: Literal["l1", "squared"] = "l1",
        penalty_weight: NonNegative = 0.01,
        gradient: GradientRule = "detached",
    ) -> None:
        published_scale, published_weight = PUBLISHED[feature_norm]
        scale = published_scale if scale is None else scale
        loss_weight = published_weight if loss_weight is None else loss_weight
        super().__init__(
            embedding_size,
            num_classes,
            scale=scale if feature_norm == "hard" else None,
            gradient=gradient,
            loss_scale=loss_weight if feature_norm == "none" else loss_weight / scale,
        )
        self.form = form
        self.feature_norm = feature_norm
        self.margin = margin
        self.margin_steps = margin_steps
        self.target_norm = scale
        self.penalty = penalty
        self.penalty_weight = penalty_weight

    def psi(self, cosine: Tensor) -> Tensor | None:
        """v0: monotone cos(m theta); v1: cos(min(m theta, pi)); None for v2, which changes the others."""
        if self.form == "v2":
            return None
        theta = self._current_margin(cosine) * angle(cosine)
        return monotone_cosine(theta) if self.form == "v0" else torch.cos(theta.clamp_max(math.pi))

    def eta(self, cosine: Tensor) -> Tensor | None:
        """v2: cos(theta / m); None otherwise."""
        if self.form != "v2":
            return None
        return torch.cos(angle(cosine) / self._current_margin(cosine))

    def regulariser(self, norm: Tensor) -> Tensor | None:
        """Soft feature normalisation: t * mean | |x| - s | (l1) or its square; None for hard or none."""
        if self.feature_norm != "soft":
            return None
        gap = norm - self.target_norm
        return self.penalty_weight * (gap.abs() if self.penalty == "l1" else gap.square()).mean()

    def _current_margin(self, like: Tensor) -> float | Tensor:
        return stepped_margin(self.iteration.to(like.dtype), self.margin, self.margin_steps)
