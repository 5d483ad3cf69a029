"""CKD: a periocular and a face network that share a trunk and distil into each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn
from torch.nn.functional import log_softmax, softmax

from kdface.backbones.backbone import Backbone
from kdface.backbones.paired import Norm, Paired, Stages
from kdface.datasets.loading import Batch
from kdface.errors import UserError
from kdface.faces import Preprocessing
from kdface.heads import HeadOutput, PartialFC
from kdface.losses import tempered_kl
from kdface.methods.base import Method, Term
from kdface.methods.networks import Views
from kdface.pixels import normalised

Weight = Annotated[float, Ge(0)]
Temperature = Annotated[float, Gt(0)]


class CKD(Method):
    """Consistent knowledge distillation from face to periocular images, in one stage and from scratch.

        L = ce_face CE(y, z_f) + ce_periocular CE(y, z_p)
          + kl_face_to_periocular t^2 KL(sg(p_f^t) || p_p^t) + kl_periocular_to_face t^2 KL(sg(p_p^t) || p_f^t)

    with z the heads' logits, p^t = softmax(z / t), sg the stop-gradient, CE each head's loss and KL averaged over the
    batch. The logits are the loss's inputs: with a margin head both sides of the KL include the margin. Terms of
    weight 0 are not computed. The two networks share their first stages (`kdface.backbones.paired.Paired`). The
    periocular student is evaluated and exported; the face teacher is trained alongside it. Test sets may contain
    either kind of image; each is embedded by its network.

    Jung, Park, Low, Chai, Tiong, Teoh, "Periocular Embedding Learning with Consistent Knowledge Distillation from
    Face", arXiv 2012.06746, after the official code.

    Logs for each head `accuracy_...` (top-1 accuracy on the batch: by logit, or for a margin head by cosine, without
    margin), and `learned_smoothing_...` and `sparsity_...`, the components of its loss by `as_label_smoothing`. The
    latter two are logged only if its cross-entropy and divergence have weight 1 and the other head is detached;
    otherwise its loss does not decompose this way.

    Args:
        networks, heads, inputs: by role (student, teacher): networks of one architecture, their heads, their images.
        shared: number of shared stages, including the stem; 0 is deep mutual learning.
        norm: batch normalisation in the shared stages, see `Paired`.
        synchronised: synchronise the statistics of both networks over all ranks, as trainer.sync_batchnorm does.
        temperature: t; or a pair, for face to periocular and for periocular to face.
        ce_face, ce_periocular, kl_face_to_periocular, kl_periocular_to_face: weights of the terms.
        detach_face, detach_periocular: stop the gradient into that modality when it teaches the other.
    """

    def __init__(
        self,
        networks: Mapping[str, nn.Module],
        heads: Mapping[str, nn.Module],
        preprocessing: Preprocessing,
        inputs: Mapping[str, Preprocessing],
        views: Views,
        shared: Stages = 4,
        norm: Norm = "pooled",
        synchronised: bool = False,
        temperature: Temperature | tuple[Temperature, Temperature] = 2.5,
        ce_face: Weight = 1.0,
        ce_periocular: Weight = 1.0,
        kl_face_to_periocular: Weight = 1.0,
        kl_periocular_to_face: Weight = 1.0,
        detach_face: bool = True,
        detach_periocular: bool = True,
    ) -> None:
        if views.teacher is None:
            raise UserError("method.views.teacher is null: CKD trains two networks.", fix="method.views.teacher=face")
        if not any((ce_face, ce_periocular, kl_face_to_periocular, kl_periocular_to_face)):
            raise UserError("all loss weights of CKD are 0.", expected="at least one term")
        if any(isinstance(head, PartialFC) for head in heads.values()):
            raise UserError(
                "CKD compares the logits of all classes, but head=partial_fc samples them.",
                fix="another head (kdface list head)",
            )
        # Face first: the official order, which `modality_statistics` depends on.
        pair = Paired({role: networks[role] for role in ("teacher", "student")}, shared, norm, synchronised)
        super().__init__(pair, heads["student"], preprocessing, views)
        self.teacher_head = heads["teacher"]
        self.inputs = dict(inputs)
        both = temperature if isinstance(temperature, tuple) else (temperature, temperature)
        self.temperature = {"periocular": both[0], "face": both[1]}  # by the taught head
        self.ce_face = ce_face
        self.ce_periocular = ce_periocular
        self.kl_face_to_periocular = kl_face_to_periocular
        self.kl_periocular_to_face = kl_periocular_to_face
        self.detach_face = detach_face
        self.detach_periocular = detach_periocular
        # Without its own term a network gets no gradient past the shared stages, and DDP would wait for it.
        if not (ce_face or kl_periocular_to_face or (kl_face_to_periocular and not detach_face)):
            self.teacher_head.requires_grad_(False)
            pair.own["teacher"].requires_grad_(False)
        if not (ce_periocular or kl_face_to_periocular or (kl_periocular_to_face and not detach_periocular)):
            heads["student"].requires_grad_(False)
            pair.own["student"].requires_grad_(False)

    @property
    def sees(self) -> tuple[Preprocessing, ...]:
        """The preprocessing of both views."""
        return tuple(self.inputs.values())

    @property
    def pair(self) -> Paired:
        """Both networks, with averaged weights if there are any."""
        pair = self.averaged if self.averaged is not None else self.backbone
        assert isinstance(pair, Paired)
        return pair

    @property
    def embedder(self) -> Backbone:
        """The student as an ordinary backbone: the shared stages and its own."""
        return self.pair.path("student")

    def embed(self, images: Tensor, preprocessing: Preprocessing) -> Tensor:
        """(N, H, W, 3) uint8 RGB -> (N, D) embeddings of the network for that kind of image, not normalised.

        If both networks take the same kind, the student embeds.
        """
        role = self._role(preprocessing)
        embedding: Tensor = self.pair.path(role)(self._seen(images, role))
        return embedding

    def head_for(self, preprocessing: Preprocessing) -> nn.Module | None:
        """The head of the view with this preprocessing."""
        return self.head if self._role(preprocessing) == "student" else self.teacher_head

    def _role(self, preprocessing: Preprocessing) -> str:
        for role in ("student", "teacher"):
            if self.inputs[role] == preprocessing:
                return role
        self.preprocessing.require_equal(preprocessing, "the student", "the images to be embedded")
        return "student"

    def _seen(self, images: Tensor, role: str) -> Tensor:
        return normalised(images, self.inputs[role], self.memory_format, next(self.backbone.parameters()).dtype)

    def terms(self, batch: Batch) -> dict[str, Term]:
        """Cross-entropy of both views, and t^2 KL between their tempered logits in both directions, weighted."""
        assert self.head is not None and self.views.teacher is not None
        views = {"student": self.views.student, "teacher": self.views.teacher}
        seen = {role: self._seen(batch.views[view], role) for role, view in views.items()}
        if self.views.student == self.views.teacher and self.inputs["student"] == self.inputs["teacher"]:
            seen["teacher"] = seen["student"]  # one tensor: the shared stages compute it once
        embeddings = self.backbone(seen)
        periocular: HeadOutput = self.head(embeddings["student"], batch.label)
        face: HeadOutput = self.teacher_head(embeddings["teacher"], batch.label)
        terms: dict[str, Term] = {}
        if self.ce_face:
            terms["ce_face"] = Term(face.loss, self.ce_face)
        if self.ce_periocular:
            terms["ce_periocular"] = Term(periocular.loss, self.ce_periocular)
        if self.kl_face_to_periocular:
            target = face.logits.detach() if self.detach_face else face.logits
            divergence = tempered_kl(periocular.logits, target, self.temperature["periocular"])
            terms["kl_face_to_periocular"] = Term(divergence, self.kl_face_to_periocular)
        if self.kl_periocular_to_face:
            target = periocular.logits.detach() if self.detach_periocular else periocular.logits
            divergence = tempered_kl(face.logits, target, self.temperature["face"])
            terms["kl_periocular_to_face"] = Term(divergence, self.kl_periocular_to_face)
        self.noted = self._record(periocular, face, batch.label)
        return terms

    @torch.no_grad()
    def _record(self, periocular: HeadOutput, face: HeadOutput, label: Tensor) -> dict[str, Tensor]:
        learns_by_parts = {
            "periocular": self.detach_face and self.ce_periocular == self.kl_face_to_periocular == 1,
            "face": self.detach_periocular and self.ce_face == self.kl_periocular_to_face == 1,
        }
        record: dict[str, Tensor] = {}
        for name, mine, other in (("periocular", periocular, face), ("face", face, periocular)):
            record[f"accuracy_{name}"] = mine.accuracy(label)
            if learns_by_parts[name]:
                smoothing, sparsity, _ = as_label_smoothing(mine.logits, other.logits, label, self.temperature[name])
                record |= {f"learned_smoothing_{name}": smoothing, f"sparsity_{name}": sparsity}
        return record


def as_label_smoothing(
    student: Tensor, teacher: Tensor, label: Tensor, temperature: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Decompose cross-entropy plus tempered KL into learned label smoothing, a sparsity regulariser and a constant.

    With p = softmax(z), q = softmax(z_teacher / t) and one-hot y,

        CE(y, p) + t^2 KL(q || p^t) = (1 + t) H(y~, p) + R(p) - t^2 H(q),
        y~ = (y + t q) / (1 + t),   R(p) = t^2 log sum_c p_c^(1/t) = t log ||p||_(1/t),

    with H the (cross-) entropy. For t > 1, R >= 0 is minimal for one-hot p and counteracts the smoothing; at t = 1 it
    is 0. y~ moves a mass of t / (1 + t) away from the label.

    Args:
        student, teacher: logits (N, C).
        label: (N,) int64.
        temperature: t.

    Returns:
        (1 + t) H(y~, p), R(p) and t^2 H(q), scalars averaged over the batch.
    """
    log_p = log_softmax(student, dim=1)
    log_q = log_softmax(teacher / temperature, dim=1)
    q = softmax(teacher / temperature, dim=1)
    hit = log_p.gather(1, label[:, None])[:, 0]
    smoothing = -(hit + temperature * (q * log_p).sum(1))
    sparsity = temperature**2 * torch.logsumexp(log_p / temperature, dim=1)
    entropy = -(q * log_q).sum(1)
    return smoothing.mean(), sparsity.mean(), (temperature**2 * entropy).mean()
