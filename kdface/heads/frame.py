"""The framework shared by all heads: class weights, cosines, and the margin softmax.

A margin-softmax head makes five choices (Liu et al., "SphereFace Revived", TPAMI 2023):

    psi       function of the target's angle               (default cos)
    eta       function of the other classes' angles        (default cos)
    rho       the magnitude of the logits                  (a fixed scale, or the norm of the embedding)
    gradient  whether psi and eta act on the gradient too  ("exact") or on the value alone ("detached")
    weight    how class weights are normalised             (projected in place, or normalised in the graph)

    logit_j = rho * (psi(theta_y) if j == y else eta(theta_j))
    loss    = loss_scale * mean over the batch of -log softmax(logit)_y  (+ a regulariser)
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Annotated, ClassVar, Literal, NamedTuple

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize, softplus

from kdface.heads.chunks import tally

EmbeddingSize = Annotated[int, Ge(1)]
NumClasses = Annotated[int, Ge(2)]
Positive = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
AngleFactor = Annotated[float, Ge(1)]  # a multiplicative margin; below 1 it would pull classes together
GradientRule = Literal["detached", "exact"]

MANY_CLASSES = 10_000  # from here on a loss without logits is faster
_MIN_NORM = 1e-8  # embeddings with a smaller norm have no direction
_MIN_SINE = 4.47e-3  # sine at cos = 1 - 1e-5, where OpenSphere clamps the cosine before acos


class _Fields(NamedTuple):
    loss: Tensor
    kept: Tensor | None
    cosine: Tensor | None
    predicted: Tensor | None = None
    zeros: Tensor | None = None
    sampled: bool = False
    decided_among_some: bool = False
    own: Tensor | None = None


class HeadOutput(_Fields):
    """Output of a head.

    Attributes:
        loss: scalar, including `loss_scale` and regularisers.
        kept: `logits`, or None if the loss was computed without them (`Classifier.keeps_logits`).
        cosine: see below; given None if it was not kept (`Classifier.keeps_cosine`).
        predicted: (N,), the predicted class, if it is not the argmax of `cosine` or that was not kept.
        own: (N,), the cosines with the target class, detached, if `cosine` was not kept.
        sampled: whether `logits` and `cosine` cover only a sample of the classes.
        decided_among_some: whether `predicted` was chosen among only a sample of the classes.
        zeros: int64 scalar, number of embeddings without a direction (`polar`).
    """

    __slots__ = ()

    @property
    def logits(self) -> Tensor:
        """(N, C), as used by the loss, including the margin.

        Raises:
            RuntimeError: the loss was computed without them.
        """
        if self.kept is None:
            raise RuntimeError("the loss was computed without its logits; head.keeps_logits = True keeps them")
        return self.kept

    @property
    def cosine(self) -> Tensor:
        """(N, C), between embeddings and class weights, without margin, detached: for accuracies and logs.

        Raises:
            RuntimeError: it was not kept.
        """
        kept = self[2]
        if kept is None:
            raise RuntimeError("the loss was computed without keeping its cosines; head.keeps_cosine = True keeps them")
        return kept

    def accuracy(self, label: Tensor) -> Tensor:
        """Share of correct predictions for labels (N,), without margin."""
        predicted = self.cosine.argmax(1) if self.predicted is None else self.predicted
        return (predicted == label).float().mean()

    def metrics(self, label: Tensor) -> dict[str, Tensor]:
        """Values to log by name: `accuracy`, or `accuracy_sampled` if over sampled classes only, which is higher;
        `target_cosine`, the mean cosine of embeddings and their class, if `cosine` covers all classes;
        `zero_embeddings`, the number without a direction."""
        told = {"accuracy_sampled" if self.decided_among_some else "accuracy": self.accuracy(label)}
        if self.zeros is not None:
            told["zero_embeddings"] = self.zeros
        if not self.sampled:
            told["target_cosine"] = (self.cosine.gather(1, label[:, None]) if self.own is None else self.own).mean()
        return told


def straight_through(value: Tensor, source: Tensor) -> Tensor:
    """A tensor that equals `value` exactly and passes its gradient to `source` unchanged."""
    return value.detach() + (source - source.detach())


def angle(cosine: Tensor) -> Tensor:
    """The angle acos(cosine) in radians, with a finite gradient everywhere.

    The derivative is -1 / max(sin(theta), 4.47e-3). The value is not clamped away from the poles, so functions of
    the angle are exact at cos = 1 and cos = -1.
    """
    value = cosine.detach().clamp(-1.0, 1.0)
    theta = torch.acos(value)
    if not cosine.requires_grad:
        return theta
    sine = ((1.0 - value) * (1.0 + value)).sqrt().clamp_min(_MIN_SINE)
    return theta - (cosine - cosine.detach()) / sine


def without_direction(embedding: Tensor) -> Tensor:
    """Number of embeddings (N, D) with a norm below 1e-8, as an int64 scalar."""
    short: Tensor = torch.linalg.vector_norm(embedding.detach(), dim=1) < _MIN_NORM
    return short.sum()


def polar(embedding: Tensor) -> tuple[Tensor, Tensor]:
    """Norm (N, 1) and direction (N, D) of embeddings (N, D).

    An embedding with a norm below 1e-8 gets a zero direction (hence zero cosines) and no gradient. Dividing by a small
    constant instead would yield a gradient that dominates the batch.
    """
    norm = torch.linalg.vector_norm(embedding, dim=1, keepdim=True)
    return norm, embedding / norm.masked_fill(norm < _MIN_NORM, math.inf)


@torch.no_grad()
def project(weight: Tensor) -> None:
    """Normalise class weights (C, D) in place, without a copy.

    Modifies `data`, so that autograd does not invalidate an earlier forward pass without its backward: its weights
    were already on the sphere.
    """
    weight.data.div_(torch.linalg.vector_norm(weight, dim=1, keepdim=True).clamp_min(1e-12))


def over_ranks(sums: Tensor) -> Tensor:
    """All-reduce (sum) of a tensor; the tensor itself on a single rank."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(sums)
    return sums


class Head(nn.Module, ABC):
    """(embedding, label) -> `HeadOutput`. Owns the class weights, checks its input, disables autocast.

    Computes in float32 (float64 if embedding or weights are), also under autocast: in half precision angles
    near 0 have a resolution of 0.03 rad. Labels outside 0..C-1 raise torch's index error.

    Attributes:
        num_classes: C.
        weight: (C, D), one row per class (`kernel` (D, C) of published ElasticFace headers is its
            transpose). Xavier-normal initialised.
        loss_scale: factor included in the loss; account for it when comparing learning rates of heads.
        projected: how weights are normalised.
            True (OpenSphere): a training forward pass renormalises `weight` in place, and the gradient
            is passed to it unchanged. This is projected gradient descent: every step starts on the unit
            sphere, so its angle does not shrink as a free norm would grow, and gradient and momentum
            keep their published radial part. The loss uses exact unit vectors in eval mode too, where
            `weight` may be one step off the sphere, or an average, and is not modified.
            False (ElasticFace, InsightFace): w / |w| is differentiated and the norm is free.
    """

    projected: bool = True
    loss_scale: float = 1.0

    def __init__(self, embedding_size: int, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.weight = nn.Parameter(torch.empty(num_classes, embedding_size))
        nn.init.xavier_normal_(self.weight)

    def forward(self, embedding: Tensor, label: Tensor) -> HeadOutput:
        """Loss and logits of unnormalised embeddings (N, D) with labels (N,) int64.

        Raises:
            ValueError: wrong shapes or label type.
        """
        num_classes, size = self.num_classes, self.weight.shape[1]
        if embedding.ndim != 2 or embedding.shape[1] != size or embedding.shape[0] == 0:
            raise ValueError(
                f"{type(self).__name__}: embeddings have shape {tuple(embedding.shape)}, "
                f"expected (N, {size}) with N > 0"
            )
        if label.shape != embedding.shape[:1] or label.dtype != torch.int64:
            raise ValueError(
                f"{type(self).__name__}: labels have shape {tuple(label.shape)} and type {label.dtype}, "
                f"expected ({embedding.shape[0]},) and torch.int64 (class indices 0..{num_classes - 1})"
            )
        dtype = torch.promote_types(torch.promote_types(embedding.dtype, self.weight.dtype), torch.float32)
        with torch.autocast(embedding.device.type, enabled=False):
            embedding = embedding.to(dtype)
            return self.classify(embedding, label)._replace(zeros=without_direction(embedding))

    @abstractmethod
    def classify(self, embedding: Tensor, label: Tensor) -> HeadOutput:
        """`forward` on checked input in full precision."""

    def unit_weight(self, dtype: torch.dtype) -> Tensor:
        """The class weights (C, D) at unit norm; see `projected`."""
        weight = self.weight.to(dtype)
        if not self.projected:
            return normalize(weight)
        unit = normalize(weight.detach())
        if self.training:
            self.weight.detach().copy_(unit)  # in place: optimiser, EMA and DDP keep their references
        return straight_through(unit, weight)


class Classifier(Head):
    """A head with one softmax over all classes.

    Attributes:
        keeps_logits: whether `HeadOutput` holds the logits. Set it to False if they are not needed: from 10,000
            classes on the loss is then computed without them (`kdface.heads.chunks`), in about half the time and
            memory. The values are equal up to rounding.
        keeps_cosine: whether `HeadOutput` holds the cosines in that case. Set it to False if only its metrics are
            needed: the gradient of the class weights then takes the memory of the cosines if it can
            (`kdface.heads.chunks.tally`), and its backward pass may run only once.
        uses_cosine: the head's own loss reads the cosines, so they are kept.
    """

    keeps_logits: bool = True
    keeps_cosine: bool = True
    uses_cosine: ClassVar[bool] = False

    @abstractmethod
    def plain_logits(self, embedding: Tensor) -> Tensor:
        """(N, D) in full precision -> (N, C) logits without margin."""

    def logits(self, embedding: Tensor) -> Tensor:
        """(N, D) embeddings, not normalised -> (N, C), without margin; their softmax gives class probabilities.

        Computed in float32 (float64 if embedding or weights are), also under autocast.
        """
        dtype = torch.promote_types(torch.promote_types(embedding.dtype, self.weight.dtype), torch.float32)
        with torch.autocast(embedding.device.type, enabled=False):
            return self.plain_logits(embedding.to(dtype))

    def margin_softmax(
        self,
        direction: Tensor,
        label: Tensor,
        rho: Tensor | float,
        psi: Callable[[Tensor], Tensor],
        eta: Callable[[Tensor], Tensor] = lambda cosine: cosine,
    ) -> HeadOutput:
        """Cross-entropy with logits rho psi(cos) for the target class and rho eta(cos) for the others.

        Args:
            direction: (N, D) of the embeddings, see `polar`.
            label: (N,).
            rho: the magnitude, a number or (N, 1).
            psi: applied to the target cosines (N, 1).
            eta: applied elementwise to the others.
        """
        if not self.keeps_logits and self.num_classes >= MANY_CLASSES:
            if self.projected and self.training:
                project(self.weight)
            keep = self.keeps_cosine or self.uses_cosine
            found = tally(direction, self.weight, label, rho, eta, through_norm=not self.projected, keep=keep)
            target = (psi(found.own[:, None]) * rho)[:, 0]
            # from 40 on log(1 + e^d) is d, in float64 too; from 20 on, as is the default, it is not
            loss = softplus(found.others - target, threshold=40).mean()
            own = None if keep else found.own.detach()
            return HeadOutput(loss, None, found.cosine, found.predicted, own=own)
        cosine = direction @ self.unit_weight(direction.dtype).T
        place = label[:, None]
        logits = eta(cosine).scatter(1, place, psi(cosine.gather(1, place))) * rho
        return HeadOutput(cross_entropy(logits, label), logits, cosine.detach())


class MarginSoftmax(Classifier):
    """The margin softmax of the module docstring. Subclasses override `psi`, `eta` or `regulariser`.

    Args:
        embedding_size: D.
        num_classes: C.
        scale: the logits' magnitude rho; None makes it the norm of each embedding.
        gradient: "detached" is characteristic gradient detachment: with f_j the value of psi or eta,
            logit_j = rho * (cos_j + stopgrad(f_j - cos_j)), hence d logit_j / d cos_j = rho. The margin
            acts only through the softmax probabilities: no dead zone where f is flat, no blow-up where
            1 / sin(theta) is large. "exact" differentiates psi and eta. rho is differentiated in both.
        loss_scale: factor on the cross-entropy.
    """

    def __init__(
        self,
        embedding_size: int,
        num_classes: int,
        *,
        scale: float | None,
        gradient: GradientRule = "exact",
        loss_scale: float = 1.0,
    ) -> None:
        super().__init__(embedding_size, num_classes)
        self.scale = scale
        self.gradient = gradient
        self.loss_scale = loss_scale

    def psi(self, cosine: Tensor) -> Tensor | None:
        """psi of the target cosines (N, 1); None means the cosine itself."""
        return None

    def eta(self, cosine: Tensor) -> Tensor | None:
        """eta of all cosines (N, C), the target's being discarded; None means the cosine itself."""
        return None

    def regulariser(self, norm: Tensor) -> Tensor | None:
        """A term added to the loss, from embedding norms (N, 1)."""
        return None

    def advance(self) -> None:
        """Called first in each forward pass in training mode: schedules count here."""

    def classify(self, embedding: Tensor, label: Tensor) -> HeadOutput:
        """Cross-entropy of s psi(theta_y) and s eta(theta_j), plus the head's regulariser."""
        if self.training:
            self.advance()
        norm, direction = polar(embedding)
        psi, eta = partial(self.under_rule, self.psi), partial(self.under_rule, self.eta)
        out = self.margin_softmax(direction, label, norm if self.scale is None else self.scale, psi, eta)
        loss, extra = self.loss_scale * out.loss, self.regulariser(norm)
        return out._replace(loss=loss if extra is None else loss + extra)

    def plain_logits(self, embedding: Tensor) -> Tensor:
        """rho cos(theta_j) for all classes, (N, C)."""
        norm, direction = polar(embedding)
        return direction @ self.unit_weight(embedding.dtype).T * (norm if self.scale is None else self.scale)

    def under_rule(self, function: Callable[[Tensor], Tensor | None], cosine: Tensor) -> Tensor:
        """`function` of the cosine under the gradient rule."""
        exact = self.gradient == "exact"
        value = function(cosine if exact else cosine.detach())
        if value is None:
            return cosine
        return value if exact else straight_through(value, cosine)
