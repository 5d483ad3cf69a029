"""A student taught by a frozen network: a head's loss, and the distance of two embeddings of one face."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from annotated_types import Ge
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from kdface.datasets.loading import Batch
from kdface.errors import UserError
from kdface.faces import Preprocessing
from kdface.losses import embedding_mse
from kdface.methods.base import Method, Optimization, Term, Views
from kdface.teachers import Teacher


class Distillation(Method):
    """loss = head(student view) + guidance * embedding distance between student and teacher.

    The teacher sees its own view of the same face: the bare one of a masked face, the whole one of a pair of eyes, the
    aligned one of a misaligned crop. The distance is the mean over batch and components of the squared difference of
    unit embeddings (`kdface.losses.embedding_mse`) = 2 / D * mean(1 - cosine).

    Its record holds `guidance`, as it weighs the term at that step, and `agreement`, the mean cosine of student and
    teacher.

    Args:
        guidance: lambda, the weight of the distance for an embedding of `reference_size` components.
        reference_size: the mean over D components makes the pull of a given lambda on the angle shrink as 1 / D; the
            weight is therefore guidance * D / reference_size. Null: guidance itself.
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
    ) -> None:
        super().__init__(backbone, head, preprocessing, views, teacher)
        self.guidance = guidance
        self.reference_size = reference_size
        # Embeddings of other sizes are compared through a linear map, which is trained along and not shipped.
        size = int(backbone.embedding_size)  # type: ignore[arg-type]
        self.projection: nn.Module = nn.Identity()
        if teacher is None:  # built for use: the projection is not shipped
            self.register_load_state_dict_pre_hook(_without_projection)  # type: ignore[no-untyped-call]
        elif teacher.embedding_size != size:
            self.projection = nn.Linear(size, teacher.embedding_size, bias=False)
        if head is None and guidance == 0:
            raise UserError(
                "there is no head and no guidance: nothing is learned.", mend="head=..., or method.guidance=100"
            )

    def terms(self, batch: Batch) -> dict[str, Term]:
        assert self.teacher is not None and self.views.teacher is not None
        embedding = self.backbone(self.pixels(batch.views[self.views.student]))
        terms: dict[str, Term] = {}
        metrics: dict[str, Tensor] = {}
        if self.head is not None:
            output = self.head(embedding, batch.label)
            terms["classification"] = Term(output.loss)
            metrics["accuracy"] = (output.cosine.argmax(1) == batch.label).float().mean()
        weight = self.weight(terms)
        if weight > 0:
            target = self.teacher.embed(batch.views[self.views.teacher])
            projected = self.projection(embedding)
            terms["distillation"] = Term(embedding_mse(projected, target), weight)
            metrics["agreement"] = cosine_similarity(projected.detach().float(), target.float()).mean()
        self.last_metrics = {**metrics, "guidance": torch.tensor(weight)}
        return terms

    def optimize_with(self, optimization: Optimization) -> None:
        super().optimize_with(optimization)
        if not self.is_guided:  # ranks would wait for its gradient
            self.projection.requires_grad_(False)

    @property
    def is_guided(self) -> bool:
        """Whether the teacher has a say at any time."""
        return self.guidance > 0

    def weight(self, terms: dict[str, Term]) -> float:
        """The weight of the distance at this step, given the other terms."""
        del terms
        return self.scaled(self.guidance)

    def scaled(self, guidance: float) -> float:
        """lambda for this teacher's embedding size."""
        assert self.teacher is not None
        if self.reference_size is None:
            return guidance
        return guidance * self.teacher.embedding_size / self.reference_size


def _without_projection(module: nn.Module, state: dict[str, Tensor], prefix: str, *rest: object) -> None:
    for name in [each for each in state if each.startswith(f"{prefix}projection.")]:
        del state[name]
