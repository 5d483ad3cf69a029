"""Harmonic embedding: a new network whose embeddings remain comparable with those of an old one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Ge, Len
from torch import Tensor, nn
from torch.optim import Optimizer

from kdface.backbones import Backbone
from kdface.datasets.loading import Batch
from kdface.errors import UserError, nearest
from kdface.faces import Preprocessing
from kdface.losses import Miner, Triplets
from kdface.losses.triplet import Margin, Reduction
from kdface.methods.base import Term, untouched
from kdface.methods.facenet import FaceNet, direction
from kdface.methods.networks import Views
from kdface.methods.optimization import Optimization
from kdface.teachers import Teacher
from kdface.teachers.frozen import LoadNetwork


class Harmonic(FaceNet):
    """Triplets over the embeddings of two networks (Schroff et al., "FaceNet", arXiv 1503.03832v3, appendix).

    The old network v1, `teacher`, is frozen. The new network v2 starts from an independently trained network with a
    reinitialised last layer. For a batch of N images the 2 N points v2(x) and v1(x) are mined as one batch, so anchor,
    positive and negative may come from either network, and v1(x) is a positive of v2(x). Triplets whose anchor and
    positive both come from v1 are dropped: their distance cannot change. First only the last layer is trained, then
    all of v2.

    The last layer is the backbone's stage `embedding` including its normalisation, or the modules in `last_layer`.
    While only it is trained, the rest of the backbone is frozen, including normalisation statistics, and no gradients
    are computed for it.

    Logs the values of `FaceNet`, with distances over the 2 N points, and `agreement`, the mean cosine of v2(x) and
    v1(x), and `whole`, 1 once the whole network is trained.

    Args:
        miner, margin, reduction, people_per_batch, images_per_person, head_weight: as in `FaceNet`.
        start_from: the run of the independently trained v2; its embedding size may differ.
        load_network: loads a run's network, injected; null: built for inference, not for training.
        last_layer_epochs: epochs in which only the last layer is trained; not specified in the paper.
        last_layer: backbone modules that form the last layer, such as (linear, bn) in MobileFaceNet, whose stage
            `embedding` has two more convolutions; null: the stage.
    """

    ADDED_LATER: ClassVar[dict[str, Any]] = {"last_layer": None}

    needs_teacher: ClassVar[bool] = True

    def __init__(
        self,
        backbone: nn.Module,
        head: nn.Module | None,
        preprocessing: Preprocessing,
        views: Views,
        teacher: Teacher | None,
        miner: Miner,
        start_from: Path,
        load_network: LoadNetwork | None = None,
        last_layer_epochs: Annotated[int, Ge(0)] = 5,
        margin: Margin = 0.2,
        reduction: Reduction = "mean_active",
        people_per_batch: Annotated[int, Ge(2)] = 45,
        images_per_person: Annotated[int, Ge(2)] = 40,
        head_weight: Annotated[float, Ge(0)] = 1.0,
        last_layer: Annotated[tuple[str, ...], Len(1)] | None = None,
    ) -> None:
        if not isinstance(backbone, Backbone) or "embedding" not in backbone.layout:
            raise UserError(
                f"{type(backbone).__name__} does not define its last layer.",
                expected="a backbone with a stage named embedding (kdface list backbone)",
            )
        super().__init__(
            backbone,
            head,
            preprocessing,
            views,
            miner,
            margin,
            reduction,
            people_per_batch,
            images_per_person,
            head_weight,
        )
        self.teacher = teacher
        self.last_layer_epochs = last_layer_epochs
        self._last = last_layer or backbone.layout["embedding"]
        self._parts = [name for names in backbone.layout.values() for name in names]
        for name in self._last:
            if name not in self._parts:
                raise UserError(
                    f"method.last_layer contains {name!r}, but {type(backbone).__name__} has no such module.",
                    expected=f"some of {', '.join(self._parts)}",
                    nearest=nearest(name, self._parts),
                )
        self._agreement = torch.zeros(())
        if teacher is not None and teacher.embedding_size != backbone.embedding_size:
            raise UserError(
                f"the new embedding has {backbone.embedding_size} components and the old one "
                f"{teacher.embedding_size}: they cannot be compared.",
                fix=f"backbone.embedding_size={teacher.embedding_size}",
            )
        if load_network is not None:
            start = load_network(start_from)
            start.preprocessing.require_equal(preprocessing, "the network to start from", f"the view {views.student}")
            _start_as(start.network, backbone, self._last)

    def optimize_with(self, optimization: Optimization) -> None:
        """As in `Optimized`. Raises `UserError` if training would stop before the whole network is trained."""
        super().optimize_with(optimization)
        if optimization.total_steps is None or optimization.steps_per_epoch is None:
            return  # known once a Trainer is attached
        epochs = optimization.total_steps / optimization.steps_per_epoch
        if self.last_layer_epochs >= epochs:
            raise UserError(
                f"method.last_layer_epochs = {self.last_layer_epochs}, but training stops after {epochs:g} epochs: "
                "the whole network would never be trained.",
                fix=f"method.last_layer_epochs={max(0, int(epochs) - 1)}, or a larger trainer.max_epochs",
            )

    @property
    def _trains_whole(self) -> bool:
        return not self.attached or self.trainer.global_step >= self.last_layer_epochs * self.steps_per_epoch

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Keep the modules that are not trained yet in eval mode."""
        super().on_train_batch_start(batch, batch_idx)
        whole = self._trains_whole
        for name, module in self.backbone.named_children():
            module.train(whole or name in self._last)
        self.hold_frozen()

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Parameters whose gradient is None are skipped by the optimiser, weight decay included."""
        del optimizer
        if not self._trains_whole:
            for name, parameter in self.backbone.named_parameters():
                if name.partition(".")[0] not in self._last:
                    parameter.grad = None

    def terms(self, batch: Batch) -> dict[str, Term]:
        """As in `FaceNet`; also logs the agreement of new and old embeddings."""
        terms = super().terms(batch)
        whole = self._trains_whole
        if not whole and self.trainer.world_size > 1:
            trunk = [
                value for name, value in self.backbone.named_parameters() if name.partition(".")[0] in self._before
            ]
            value, weight = terms["triplet"]
            terms["triplet"] = Term(untouched(value, trunk), weight)
        self.noted |= {"agreement": self._agreement, "whole": torch.tensor(float(whole))}
        return terms

    def embedding_of(self, pixels: Tensor) -> Tensor:
        """While only the last layer is trained, the layers before it run without gradients."""
        if self._trains_whole:
            return super().embedding_of(pixels)
        with torch.no_grad():
            for name in self._before:
                pixels = getattr(self.backbone, name)(pixels)
        for name in self._parts[len(self._before) :]:
            pixels = getattr(self.backbone, name)(pixels)
        return pixels

    @property
    def _before(self) -> list[str]:
        """The backbone's modules before its last layer, in order."""
        return self._parts[: min(map(self._parts.index, self._last))]

    def points(self, embedding: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """(n, D) -> (2 n, D): the points of v2, then those of v1, detached."""
        assert self.teacher is not None and self.views.teacher is not None
        old = direction(self.teacher.embed_view(batch.views[self.views.teacher], batch.keys))
        both, label = self._of_all_ranks(torch.cat([direction(embedding), old], dim=1), batch)
        new, old = both.chunk(2, dim=1)
        self._agreement = (new.detach() * old.detach()).sum(dim=1).mean()
        return torch.cat([new, old.detach()]), label.repeat(2)

    def mined(self, distances: Tensor, label: Tensor) -> Triplets:
        """The mined triplets whose anchor or positive is embedded by the new network: the others cannot change."""
        mined = super().mined(distances, label)
        new = len(label) // 2
        moves = (mined.anchor < new) | (mined.positive < new)
        return Triplets(mined.anchor[moves], mined.positive[moves], mined.negative[moves])

    def _watch(self, distances: Tensor, label: Tensor) -> None:
        """Watch v2 alone: the frozen v1 would hide a collapse."""
        new = len(distances) // 2
        super()._watch(distances[:new, :new], label[:new])


def _start_as(trained: nn.Module, backbone: Backbone, last_layer: tuple[str, ...]) -> None:
    """Copy all weights except the last layer's. Raises `UserError` if the architectures differ elsewhere."""
    last = tuple(f"{name}." for name in last_layer)
    own: dict[str, Any] = {key: value for key, value in backbone.state_dict().items() if key.startswith(last)}
    rest = {key: value for key, value in trained.state_dict().items() if not key.startswith(last)}
    try:
        backbone.load_state_dict({**rest, **own}, strict=True)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip()
        raise UserError(
            f"the network to start from has a different architecture: {first}",
            expected="the backbone (and its options, except the embedding's size) that the run was trained with",
            fix="backbone=..., or another method.start_from",
        ) from None
