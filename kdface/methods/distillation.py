"""Distillation from a frozen teacher: a head's loss plus the distance of student and teacher embeddings."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from kdface.datasets.loading import Batch
from kdface.errors import UserError
from kdface.faces import Preprocessing
from kdface.heads import Classifier, PartialFC
from kdface.losses import embedding_mse
from kdface.losses.transfer import Computed, Transfer
from kdface.methods.base import Method, Term
from kdface.methods.networks import Views
from kdface.methods.optimization import Optimization
from kdface.teachers import StoredTeacher, Teacher


class Distillation(Method):
    """loss = head(student view) + guidance * distance(student, teacher).

    The teacher sees its own view of the same face: unmasked for a masked face, the full face for a periocular crop,
    aligned for a misaligned crop. The distance is the mean over batch and components of the squared difference of unit
    embeddings (`kdface.losses.embedding_mse`) = 2 / D * mean(1 - cosine), or the loss of `transfer`.

    Logs `guidance`, the weight at that step, and, without a `transfer`, `agreement`, the mean cosine of student and
    teacher.

    Args:
        guidance: lambda, the weight of the distance for an embedding of `reference_size` components.
        reference_size: the mean over D components scales the effect of lambda on the angle by 1 / D; the weight is
            therefore guidance * D / reference_size. Null, or with a `transfer`: guidance itself.
        transfer: replaces the embedding distance; one of the `Transfer`s in `kdface.losses`.
    """

    needs_head: ClassVar[bool] = False
    needs_teacher: ClassVar[bool] = True

    def __init__(
        self,
        backbone: nn.Module,
        head: nn.Module | None,
        preprocessing: Preprocessing,
        views: Views,
        teacher: Teacher | None,
        guidance: Annotated[float, Ge(0)] = 100.0,
        reference_size: Annotated[int, Ge(1)] | None = 512,
        transfer: Transfer | None = None,
    ) -> None:
        super().__init__(backbone, head, preprocessing, views, teacher)
        if isinstance(head, Classifier):
            head.keeps_logits = transfer is not None and transfer.needs_logits
            head.keeps_cosine = False
        self.guidance = guidance
        self.reference_size = reference_size
        self.transfer = transfer
        # Embeddings of different sizes are compared through a linear map, trained with the student and not exported.
        size = int(backbone.embedding_size)  # type: ignore[arg-type]
        self.projection: nn.Module = nn.Identity()
        if teacher is None:  # for inference: modules used only for the comparison are not exported
            self.register_load_state_dict_pre_hook(_without_comparison)  # type: ignore[no-untyped-call]
        elif transfer is not None:
            self._prepare(transfer, teacher)
        elif teacher.embedding_size != size:
            self.projection = nn.Linear(size, teacher.embedding_size, bias=False)
        if head is None and guidance == 0:
            raise UserError(
                "there is neither a head nor guidance: nothing to learn.", fix="head=..., or method.guidance=100"
            )

    def terms(self, batch: Batch) -> dict[str, Term]:
        """classification: the head's loss; distillation: the loss of `transfer`, or the squared difference of unit
        embeddings."""
        assert self.teacher is not None and self.views.teacher is not None
        pixels = self.pixels(batch.views[self.views.student])
        embedding, maps = with_maps(self.backbone, pixels, self.transfer.stages if self.transfer else ())
        terms: dict[str, Term] = {}
        metrics: dict[str, Tensor] = {}
        logits: Tensor | None = None
        if self.head is not None:
            output = self.head(embedding, batch.label)
            logits = output.kept
            terms["classification"] = Term(output.loss)
            metrics = output.metrics(batch.label)
        weight = self.weight(terms)
        if weight > 0 and self.transfer is not None:
            shown = self._shown(self.transfer, batch.views[self.views.teacher], batch)
            terms["distillation"] = Term(self.transfer(Computed(embedding, logits, maps), shown), weight)
        elif weight > 0:
            target = self.teacher.embed_view(batch.views[self.views.teacher], batch.keys)
            projected = self.projection(embedding)
            terms["distillation"] = Term(embedding_mse(projected, target), weight)
            metrics["agreement"] = cosine_similarity(projected.detach().float(), target.float()).mean()
        self.noted = {**metrics, "guidance": torch.tensor(weight)}
        return terms

    def optimize_with(self, optimization: Optimization) -> None:
        """As in `Optimized`; without guidance the comparison's modules are frozen."""
        super().optimize_with(optimization)
        if not self.is_guided:  # DDP would wait for its gradient
            for module in (self.projection, self.transfer):
                if module is not None:
                    module.requires_grad_(False)

    def require_people(self) -> None:
        """Raise `UserError` if logits are compared and class k of the teacher, where its people are known, is another
        person."""
        if self.transfer is None or not self.transfer.needs_logits or self.teacher is None:
            return
        own, its = self.people, self.teacher.people
        if not own or not its or own == its:
            return
        first = next(k for k, pair in enumerate(zip(own, its, strict=False)) if pair[0] != pair[1])
        raise UserError(
            f"{type(self.transfer).__name__} compares logits, but class {first} is {own[first]!r} for the student and "
            f"{its[first]!r} for the teacher.",
            expected="a teacher trained on these people, in this order",
            fix="teacher=run teacher.run=FOLDER of a run on this dataset, or method.transfer=null",
        )

    @property
    def is_guided(self) -> bool:
        """Whether the teacher contributes to the loss at any time."""
        return self.guidance > 0

    def weight(self, terms: dict[str, Term]) -> float:
        """Weight of the distance at this step, given the other terms."""
        del terms
        return self.scaled(self.guidance)

    def scaled(self, guidance: float) -> float:
        """lambda scaled to this teacher's embedding size."""
        assert self.teacher is not None
        if self.reference_size is None or self.transfer is not None:
            return guidance
        return guidance * self.teacher.embedding_size / self.reference_size

    def _prepare(self, transfer: Transfer, teacher: Teacher) -> None:
        """Check that both networks provide what `transfer` compares, and build its trainable modules."""
        if transfer.needs_logits and isinstance(self.head, PartialFC):
            raise UserError(
                f"{type(transfer).__name__} compares the logits of all classes, but head=partial_fc samples them.",
                fix="head=softmax, or a margin softmax (kdface list head)",
            )
        if transfer.needs_logits:
            own, its = (getattr(head, "num_classes", None) for head in (self.head, teacher.head))
            if own is None or own != its:
                raise UserError(
                    f"{type(transfer).__name__} compares logits, but student and teacher have {own or 'no'} and "
                    f"{its or 'no'} classes.",
                    expected="a head on each, for the same people",
                    fix="head=softmax, or a margin softmax (kdface list head)"
                    if own is None
                    else "teacher=run teacher.run=FOLDER of a run with a head, trained on these people",
                )
        if transfer.stages and isinstance(teacher, StoredTeacher):
            raise UserError(
                f"{type(transfer).__name__} compares maps of the stages {', '.join(transfer.stages)}, but a file of "
                "embeddings has none.",
                expected="a transfer of embeddings: RelationalTransfer, ProbabilisticTransfer, or null",
                fix="method.transfer=null, or method.transfer={_target_:kdface.losses.RelationalTransfer}",
            )
        for network, whose in ((self.backbone, "student"), (teacher.network, "teacher")):
            if transfer.stages and not hasattr(network, "with_maps"):
                raise UserError(
                    f"{type(transfer).__name__} compares maps of the stages {', '.join(transfer.stages)}, but the "
                    f"{whose}'s {type(network).__name__} has no with_maps.",
                    expected="with_maps(images, stages) -> (embeddings (N, D), {stage: map (N, C, H, W)}), as in "
                    "every kdface.backbones.Backbone",
                    fix="a backbone of kdface (kdface list backbone), or a transfer of embeddings",
                )
        sides = ((self.backbone, self.preprocessing), (teacher.network, teacher.preprocessing))
        transfer.prepare(*(_channels(network, preprocessing.size, transfer.stages) for network, preprocessing in sides))

    @torch.no_grad()
    def _shown(self, transfer: Transfer, images: Tensor, batch: Batch) -> Computed:
        """The teacher's outputs for its view."""
        assert self.teacher is not None
        if not transfer.stages and not transfer.needs_logits:
            return Computed(self.teacher.embed_view(images, batch.keys))
        self.teacher.network.eval()
        embedding, maps = with_maps(self.teacher.network, self.teacher.pixels(images), transfer.stages)
        head = self.teacher.head if transfer.needs_logits else None
        logits = None if head is None else head(embedding, batch.label).logits
        self.teacher.check("outputs", embedding, *maps.values(), *([] if logits is None else [logits]))
        return Computed(embedding, logits, maps)


def with_maps(network: nn.Module, images: Tensor, stages: Collection[str]) -> tuple[Tensor, dict[str, Tensor]]:
    """(N, 3, H, W) -> (N, D) embeddings and the feature maps of the named stages, if any."""
    if not stages:
        return network(images), {}
    found: tuple[Tensor, dict[str, Tensor]] = network.with_maps(images, stages)  # type: ignore[operator]
    return found


@torch.no_grad()
def _channels(network: nn.Module, size: tuple[int, int], stages: Collection[str]) -> dict[str, int]:
    if not stages:
        return {}
    mode = network.training
    _, maps = with_maps(network.eval(), torch.zeros(1, 3, *size), stages)
    network.train(mode)
    return {stage: feature.shape[1] for stage, feature in maps.items()}


def _without_comparison(module: nn.Module, state: dict[str, Tensor], prefix: str, *rest: object) -> None:
    for name in [key for key in state if key.startswith((f"{prefix}projection.", f"{prefix}transfer."))]:
        del state[name]
