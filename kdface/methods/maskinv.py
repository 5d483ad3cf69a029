"""MaskInv: mask-invariant embeddings, with a guidance weight that may be raised late in training."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn
from torch.optim import Optimizer

from kdface.datasets.loading import Batch
from kdface.errors import UserError
from kdface.faces import Preprocessing
from kdface.methods.base import Term, untouched
from kdface.methods.distillation import Distillation
from kdface.methods.networks import Views
from kdface.methods.optimization import Optimization
from kdface.precision import KeptTypes
from kdface.teachers import Teacher


class MaskInv(KeptTypes, Distillation):
    """MaskInv (Huber, Boutros, Kirchbuchner, Damer, "Mask-invariant Face Recognition through Template-level Knowledge
    Distillation", FG 2021): L = ElasticFace-Arc + lambda * L_KD over all samples of the batch, masked and unmasked.

    Low guidance (LG): lambda = 100 throughout. High guidance (HG): raised to 3000 once the margin loss is stable; the
    paper states no step, and the published configuration continues a student trained for 20 of 26 epochs. Here it is a
    single run with one optimiser: lambda is raised at the start of epoch `raise_epoch` or, with `raise_when_stable`,
    after the first window of steps whose mean head loss is less than `stable_change` (relative) below the previous
    window's. Aug: lambda = 0.

    Args:
        guidance, reference_size: as in `Distillation`.
        raised_guidance: lambda after it is raised; null: never raised.
        raise_epoch: the epoch, counted from 0, at whose first step it is raised.
        raise_when_stable: steps per window; null: raise at `raise_epoch`.
        stable_change: see above.
    """

    kept: ClassVar[tuple[str, ...]] = ("watched",)

    def __init__(
        self,
        backbone: nn.Module,
        head: nn.Module | None,
        preprocessing: Preprocessing,
        views: Views,
        teacher: Teacher | None,
        guidance: Annotated[float, Ge(0)] = 100.0,
        reference_size: Annotated[int, Ge(1)] | None = 512,
        raised_guidance: Annotated[float, Ge(0)] | None = None,
        raise_epoch: Annotated[int, Ge(0)] | None = None,
        raise_when_stable: Annotated[int, Ge(1)] | None = None,
        stable_change: Annotated[float, Gt(0)] = 0.01,
    ) -> None:
        super().__init__(backbone, head, preprocessing, views, teacher, guidance, reference_size)
        if raised_guidance is None and (raise_epoch is not None or raise_when_stable is not None):
            raise UserError(
                "method.raise_epoch or method.raise_when_stable is set, but method.raised_guidance = null.",
                fix="method.raised_guidance=3000",
            )
        if raised_guidance is not None and (raise_epoch is None) == (raise_when_stable is None):
            raise UserError(
                f"method.raised_guidance = {raised_guidance:g} with method.raise_epoch = {raise_epoch} and "
                f"method.raise_when_stable = {raise_when_stable}.",
                expected="exactly one of method.raise_epoch and method.raise_when_stable",
                fix="method.raise_epoch=20, as published for 26 epochs",
            )
        if raise_when_stable is not None and head is None:
            raise UserError(
                "method.raise_when_stable monitors the head's loss, but there is no head.", fix="head=elasticface_arc"
            )
        self.raised_guidance = raised_guidance
        self.raise_epoch = raise_epoch
        self.window = raise_when_stable
        self.stable_change = stable_change
        self._unguided = False
        # State of the rule, checkpointed: count and sum of losses in this window, mean of the last, decision.
        self.watched: Tensor
        self.register_buffer("watched", torch.tensor([0.0, 0.0, float("inf"), 0.0], dtype=torch.float64))

    @property
    def is_guided(self) -> bool:
        """Whether the teacher ever contributes to the loss, before or after guidance is raised."""
        return self.guidance > 0 or bool(self.raised_guidance)

    def optimize_with(self, optimization: Optimization) -> None:
        """As in `Distillation`. Raises `UserError` if guidance would never be raised."""
        super().optimize_with(optimization)
        if optimization.total_steps is None or optimization.steps_per_epoch is None:
            return  # known once a Trainer is attached
        epochs = optimization.total_steps / optimization.steps_per_epoch
        if self.raise_epoch is not None and self.raise_epoch >= epochs:
            raise UserError(
                f"method.raise_epoch = {self.raise_epoch}, but training stops after {epochs:g} epochs: the guidance "
                "would never be raised.",
                fix=f"method.raise_epoch={max(0, int(epochs) - 1)}, or a larger trainer.max_epochs",
            )

    def terms(self, batch: Batch) -> dict[str, Term]:
        """Until guidance starts, the map between embeddings enters the loss with a factor of 0: DDP waits for its
        gradient from the first step on."""
        terms = super().terms(batch)
        self._unguided = self.is_guided and "distillation" not in terms
        if self._unguided:
            value, weight = terms["classification"]
            terms["classification"] = Term(untouched(value, self.projection.parameters()), weight)
        return terms

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Parameters whose gradient is None are skipped by the optimiser, weight decay included."""
        del optimizer
        if self._unguided:
            for parameter in self.projection.parameters():
                parameter.grad = None

    def weight(self, terms: dict[str, Term]) -> float:
        """`guidance`, or `raised_guidance` from `raise_epoch` on or once the classification loss is stable."""
        if self.raised_guidance is None:
            return self.scaled(self.guidance)
        if self.raise_epoch is not None:
            raised = self.trainer.global_step >= self.raise_epoch * self.steps_per_epoch
        else:
            raised = self._stable(terms["classification"].value.detach())
        return self.scaled(self.raised_guidance if raised else self.guidance)

    def _stable(self, loss: Tensor) -> bool:
        """Record this micro-batch's loss over all ranks; true once the rule held in an earlier step. Outside training
        nothing is recorded."""
        assert self.window is not None
        if not self.training:
            return bool(self.watched[3])
        parts = self.trainer.accumulate_grad_batches if self.attached else 1
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            loss = loss.double()
            torch.distributed.all_reduce(loss)
            loss = loss / torch.distributed.get_world_size()
        count, total, before, raised = self.watched.tolist()
        held = bool(raised)
        count, total = count + 1, total + float(loss)
        if count >= self.window * parts:
            mean = total / count
            raised = max(raised, float(mean > before * (1 - self.stable_change)))
            count, total, before = 0.0, 0.0, mean
        self.watched.copy_(torch.tensor([count, total, before, raised], dtype=torch.float64))
        return held
