"""What every method is: a LightningModule that turns a batch of views into named loss terms."""

from __future__ import annotations

import copy
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from kdface.datasets.loading import Batch, Order, TrainingSet, shuffled
from kdface.errors import UserError, nearest
from kdface.evaluation import Embedder, Outcome
from kdface.faces import FaceSet, Preprocessing
from kdface.heads import Classifier, PartialFC
from kdface.heads.schedules import ScheduledMarginSoftmax
from kdface.methods.parts import freeze, in_groups, scales
from kdface.pixels import normalised
from kdface.randomness import derive
from kdface.teachers import Teacher

log = logging.getLogger("kdface")


@dataclass(frozen=True)
class Views:
    """Which view of the augmentation each network sees.

    Attributes:
        student: the view of the network that is trained.
        teacher: the view of the frozen network; null for methods without one.
    """

    student: str
    teacher: str | None = None

    def named(self) -> dict[str, str]:
        """role -> view, for the roles that are filled."""
        return {role: view for role, view in vars(self).items() if view is not None}


def untouched(loss: Tensor, parameters: Iterable[nn.Parameter]) -> Tensor:
    """The loss, whose gradient with respect to the parameters is 0 and not missing: ranks wait for every gradient."""
    for parameter in parameters:
        if parameter.requires_grad:
            loss = loss + 0.0 * parameter.flatten()[0].to(loss.dtype)
    return loss


class Term(NamedTuple):
    """One term of the loss, a scalar, and the weight it has in the sum."""

    value: Tensor
    weight: float = 1.0


@dataclass(frozen=True)
class Optimization:
    """How the parameters move. `optimizer` and `schedule` are made once Lightning has placed the parameters.

    Attributes:
        optimizer: parameters -> optimiser.
        schedule: (optimiser, steps in all, steps per epoch) -> schedule, stepped after each optimiser step.
        seed: of every random draw of the steps.
        total_steps, steps_per_epoch: null: what the Trainer estimates.
        lr_scale: what the learning rates of parts of the method are multiplied by, by name.
        gradient_clip: the largest gradient norm of parts of the method, by name; trainer.gradient_clip_val is that of
            all parameters together.
    """

    optimizer: Callable[[Iterable[Any]], Optimizer]
    schedule: Callable[[Optimizer, int, int], LRScheduler]
    seed: int
    total_steps: int | None = None
    steps_per_epoch: int | None = None
    gradient_clip: Mapping[str, float] = field(default_factory=dict)
    lr_scale: Mapping[str, float] = field(default_factory=dict)


class Method(pl.LightningModule, ABC):
    """Base of the methods. A subclass gives `terms`; the loss is the sum of value x weight.

    Attributes:
        preprocessing: the images of the student's view.
        teacher: the frozen network, for methods that have one; it is not a module, so it is never trained or saved.
        backbone: the network that is trained.
        embedder: the network that is evaluated and shipped: the backbone, or the average of its weights.
        head: class weights and loss; null for methods that have none.
        people: who the head's classes are, by name; set by whoever builds the method, empty where nobody knows.
        needs_head, needs_teacher: whether the method can do without (checked before anything is trained).
        noted: what `terms` finds beside the loss, detached; `training_step` logs it below train/.
        frozen: parts that stay in eval mode.
        started_from: SHA-256 of the weights that its backbone was given; empty if they were drawn.
        outcomes: what the last validation found, by test set.
    """

    needs_head: ClassVar[bool] = True
    needs_teacher: ClassVar[bool] = False

    def __init__(
        self,
        backbone: nn.Module,
        head: nn.Module | None,
        preprocessing: Preprocessing,
        views: Views,
        teacher: Teacher | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.preprocessing = preprocessing
        self.views = views
        self.teacher = teacher
        self.people: tuple[str, ...] = ()
        self.averaged: nn.Module | None = None
        self.frozen: list[nn.Module] = []
        self.started_from = ""
        self.memory_format = torch.contiguous_format
        self.noted: dict[str, Tensor] = {}
        self.outcomes: dict[str, Outcome] = {}
        self._embedder = Embedder(self.embed)
        self._optimization: Optimization | None = None

    @abstractmethod
    def terms(self, batch: Batch) -> dict[str, Term]:
        """Loss terms by name, each a scalar that is a mean over the batch unless the method says otherwise."""

    def order(self, labels: NDArray[np.int64], batch_size: int, seed: int, parts: int = 1) -> Order:
        """Which images each step sees: epoch -> (steps, batch_size) indices. By default every image once an epoch.

        A row is split into `parts`, one after the other; the loss sees each by itself.
        """
        del parts
        return shuffled(len(labels), batch_size, seed)

    @property
    def embedder(self) -> nn.Module:
        """What is shipped and evaluated: the average of the weights where there is one, else the trained backbone."""
        return self.averaged if self.averaged is not None else self.backbone

    @property
    def sees(self) -> tuple[Preprocessing, ...]:
        """The kinds of image that it can be evaluated on."""
        return (self.preprocessing,)

    def pixels(self, images: Tensor) -> Tensor:
        """(N, H, W, 3) uint8 RGB -> (N, 3, H, W), (pixel - mean) / std, in the networks' colours and memory format."""
        return normalised(images, self.preprocessing, self.memory_format, next(self.backbone.parameters()).dtype)

    def embed(self, images: Tensor, preprocessing: Preprocessing) -> Tensor:
        """(N, H, W, 3) uint8 RGB, of a kind that it `sees` -> (N, D) embeddings, not normalised."""
        del preprocessing  # one network sees one kind
        embedding: Tensor = self.embedder(self.pixels(images))
        return embedding

    @property
    def grades(self) -> bool:
        """Whether it gives face-image quality."""
        return hasattr(self.head, "quality")

    def quality(self, images: Tensor, preprocessing: Preprocessing) -> Tensor:
        """(N, H, W, 3) uint8 RGB of the student's kind -> (N,) face-image quality, higher is better.

        Raises `UserError` where it gives none, and for images of another kind.
        """
        self.preprocessing.require_equal(preprocessing, "the grading network", "the images")
        grade = getattr(self.head, "quality", None)
        if grade is None:
            raise UserError(
                "this network gives no face-image quality.",
                fix="take a run whose method or head grades: aikd, magface or crfiqa",
            )
        score: Tensor = grade(self.embedder(self.pixels(images)))
        return score

    @property
    def classifies(self) -> bool:
        """Whether it tells its training people apart by a softmax."""
        return isinstance(self.head, Classifier)

    def head_for(self, preprocessing: Preprocessing) -> nn.Module | None:
        """The head that classifies images of a kind that it `sees`."""
        self.preprocessing.require_equal(preprocessing, "the classifier", "the images")
        return self.head

    def logits(self, images: Tensor, preprocessing: Preprocessing) -> Tensor:
        """(N, H, W, 3) uint8 RGB, of a kind that it `sees` -> (N, C) logits of `people`, without any margin.

        Where weights are averaged, the head is that of the last step, before the averaged backbone.

        Raises `UserError` where the head is no softmax, or there is none.
        """
        head = self.head_for(preprocessing)
        if not isinstance(head, Classifier):
            raise UserError(
                f"this network gives no logits of people: its head is {type(head).__name__}.",
                expected="a softmax over all classes",
                fix="take a run with a softmax or a margin softmax for its head",
            )
        return head.logits(self.embed(images, preprocessing))

    def before_training(self, training: TrainingSet) -> None:
        """Called once the networks are where they will be trained; `training.faces` are as the dataset gives them."""
        del training

    def on_fit_start(self) -> None:
        """Bring the teacher to the device, and have its first answer checked."""
        if self.teacher is not None:
            self.teacher.to(self.device)
            self.teacher.check_next()  # in this precision, on these images

    def use_memory_format(self, channels_last: bool) -> None:
        """Lay weights and images out as NHWC (channels_last) or NCHW; the hardware profile says which is faster."""
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.to(memory_format=self.memory_format)
        if self.teacher is not None:
            self.teacher.use_memory_format(self.memory_format)

    def parameter_groups(self) -> list[Any]:
        """What the optimiser moves. A method may return several groups, `lr_scale` being relative to optimizer.lr."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def moved_groups(self) -> list[Any]:
        """`parameter_groups`, divided if parts have their own learning rates."""
        groups = self.parameter_groups()
        scale = self.optimization.lr_scale
        return in_groups(groups, scales(self, scale)) if scale else groups

    def freeze_parts(self, names: Sequence[str]) -> None:
        """Leave parts of the backbone as they are: their weights, and the statistics of their normalisation.

        Raises `UserError` for a name that no part has, and where nothing is left to train.
        """
        self.frozen = [*self.frozen, *freeze(self, names)]
        self.train()  # Lightning leaves each module in the mode in which it finds it

    def optimize_with(self, optimization: Optimization) -> None:
        """Set before training."""
        self._optimization = optimization
        scales(self, optimization.lr_scale)
        for name in optimization.gradient_clip:
            self._require_clippable(name)

    @property
    def total_steps(self) -> int:
        """Optimiser steps of the whole training: given, or what the Trainer estimates."""
        return self.optimization.total_steps or int(self.trainer.estimated_stepping_batches)

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps in an epoch."""
        return self.optimization.steps_per_epoch or max(1, self.total_steps // max(1, self.trainer.max_epochs or 1))

    def add_average(self) -> None:
        """Add the averaged copy of the backbone: not trained itself, evaluated and shipped in its place."""
        self.averaged = copy.deepcopy(self.backbone).requires_grad_(False).eval()

    def configure_optimizers(self) -> Any:
        """The optimiser over the parameters that move, learning rates scaled by group, and its schedule by step."""
        plan = self.optimization
        optimizer = plan.optimizer(self.moved_groups())
        for group in optimizer.param_groups:
            group["lr"] *= group.pop("lr_scale", 1.0)
        schedule = plan.schedule(optimizer, self.total_steps, self.steps_per_epoch)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Scale the gradients of each part in `gradient_clip` to its norm, then do what the Trainer is asked to.

        Lightning calls it once gradients are summed over accumulated parts and ranks and are without half precision's
        scale.
        """
        for name, largest in self.optimization.gradient_clip.items():
            clip_grad_norm_(self.get_submodule(name).parameters(), largest)
        self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def _require_clippable(self, name: str) -> None:
        """Raise `UserError` unless a part of the method has that name, is trained, and has its whole gradient here."""
        parts = dict(self.named_modules())
        known = [each for each, part in parts.items() if each and any(True for _ in part.parameters())]
        if name not in known:
            short = [key for key in known if "." not in key]
            raise UserError(
                f"gradient_clip names {name!r}, and {type(self).__name__} has no such part.",
                expected=f"one of {', '.join(short)}, or a part of these such as {max(known[:9], key=len)}",
                nearest=nearest(name, known),
                fix=f"gradient_clip={{{nearest(name, known) or short[0]}:5.0}}",
            )
        if any(isinstance(module, PartialFC) and module.world > 1 for module in parts[name].modules()):
            raise UserError(
                f"gradient_clip.{name} needs the norm of a whole gradient, and those of class weights are divided over "
                "the ranks.",
                fix="gradient_clip={backbone:5.0}, or a head that is not divided (kdface list head)",
            )

    @property
    def normalises(self) -> bool:
        """Whether it trains a batch normalisation, whose statistics are those of the part of a batch that it sees."""
        kinds = (nn.BatchNorm1d, nn.BatchNorm2d, nn.SyncBatchNorm)
        return any(isinstance(part, kinds) and part.training for part in self.modules())

    @property
    def normalises_vectors(self) -> bool:
        """Whether one of these needs two images: a vector, unlike a map, has no other values of a channel."""
        return any(isinstance(part, nn.BatchNorm1d) and part.training for part in self.modules())

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """A step's draws (dropout, margins) depend on (seed, step, part, rank): a resume needs no generator's state.

        Schedules of heads stand at the optimiser step, however many parts its batch has.

        Raises `UserError` for a batch of one image that a batch normalisation cannot take.
        """
        if len(batch.label) == 1 and self.normalises_vectors:
            left = f", for others are broken ({batch.skipped[0]})" if batch.skipped else ""
            raise UserError(
                f"one image is left of this part of a batch{left}: batch normalisation needs two.",
                fix="repair the data (kdface data verify DATASET), and the same command goes on"
                if batch.skipped
                else "a larger loader.batch_size",
            )
        for module in self.modules():
            if isinstance(module, ScheduledMarginSoftmax):
                module.stand_at(self.trainer.global_step + 1)
        seed = derive(self.optimization.seed, "step", self.trainer.global_step, batch_idx, self.global_rank)
        # torch.manual_seed asks every kind of device, and writes the call stack down for those that are not there.
        (torch.default_generator.manual_seed if self.device.type == "cpu" else torch.manual_seed)(seed)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss. Logs train/loss, and of each term train/NAME, not weighted, and train/NAME_weight, and what is
        noted; at the steps that are recorded they are means over the ranks, each having as many images."""
        del batch_idx
        terms = self.terms(batch)
        loss = torch.stack([term.value * term.weight for term in terms.values()]).sum()
        if self.attached:
            values: dict[str, Any] = {"loss": loss.detach()}
            values |= {name: term.value.detach() for name, term in terms.items()}
            values |= {f"{name}_weight": term.weight for name, term in terms.items()}
            values |= {name: value for name, value in self.noted.items()}
            step = self.trainer.global_step + 1
            recorded = step % steps_between_records(self.trainer) == 0 or step == self.optimization.total_steps
            if self.trainer.world_size > 1 and recorded:
                values = mean_over_ranks(values)
            self.log_dict(
                {
                    f"train/{name}": value
                    if not isinstance(value, Tensor) or value.is_floating_point()
                    else value.float()
                    for name, value in values.items()
                },
                batch_size=len(batch.label),
            )
        return loss

    @property
    def attached(self) -> bool:
        """Whether a Trainer trains it."""
        try:
            return self.trainer is not None
        except RuntimeError:
            return False

    def embed_for(self, rank: int = 0, world: int = 1) -> Embedder:
        """What protocols embed with: the evaluated network, where it is now."""
        return Embedder(
            self.embed,
            next(self.backbone.parameters()).device,
            rank=rank,
            world=world,
            quality_network=self.quality,
            classifier=self.logits,
            people=self.people,
        )

    def on_validation_start(self) -> None:
        """Give all ranks rank 0's buffers, which are saved, and make the embedder."""
        if self.trainer.world_size > 1:  # each rank has normalised by its own images; rank 0 is what is saved
            for buffer in self.buffers():
                torch.distributed.broadcast(buffer, 0)
        self._embedder = self.embed_for(self.trainer.global_rank, self.trainer.world_size)

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Embed a batch of the images that the datamodule's validation protocols read (`kdface.lightning.FaceData`);
        without protocols, log the loss of the batch as val/loss."""
        del batch_idx
        if sets := self._validation_sets():
            self._embedder.add(sets[dataloader_idx][0], batch.keys, batch.views["image"])
        else:
            terms = self.terms(batch).values()
            loss = torch.stack([term.value * term.weight for term in terms]).sum()
            self.log("val/loss", loss, batch_size=len(batch.label), sync_dist=True)

    def on_validation_epoch_end(self) -> None:
        """Run the protocols and log their metrics under the names of results.json, the same on every rank."""
        self.outcomes = {}
        protocols = getattr(self.trainer.datamodule, "validation", {})  # type: ignore[attr-defined]
        if self.trainer.sanity_checking or not protocols:
            return
        for faces, keys in self._validation_sets():
            if missing := self._embedder.share(faces, keys):
                log.warning(
                    "validation: %d of %d images of %s were left out by trainer.limit_val_batches, so it has no result",
                    *(missing, len(keys), faces.name),
                )
                return
        with self.trainer.precision_plugin.forward_context():
            self.outcomes = {name: protocol.evaluate(self._embedder) for name, protocol in protocols.items()}
        self.log_dict(
            {
                f"{name}/{key}": float(metric.value)
                for name, outcome in self.outcomes.items()
                for key, metric in outcome.metrics.items()
                if metric.value is not None
            },
            batch_size=1,
            sync_dist=self.trainer.world_size > 1,
        )

    def _validation_sets(self) -> list[tuple[FaceSet, list[str]]]:
        return getattr(self.trainer.datamodule, "validation_sets", [])  # type: ignore[attr-defined]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """A checkpoint holds the optimiser's state of class weights that are divided over ranks whole."""
        self._convert_sharded(checkpoint, PartialFC.whole)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take this rank's part of a head that is divided over ranks."""
        self._convert_sharded(checkpoint, PartialFC.own)

    def _convert_sharded(self, checkpoint: dict[str, Any], convert: Callable[[PartialFC, Tensor], Tensor]) -> None:
        heads = {
            id(module.weight): module for module in self.modules() if isinstance(module, PartialFC) and module.world > 1
        }
        groups = [group["params"] if isinstance(group, dict) else [group] for group in self.moved_groups()]
        for index, parameter in enumerate(each for group in groups for each in group):
            head = heads.get(id(parameter))
            for state in (each["state"] for each in checkpoint.get("optimizer_states", [])):
                if head is not None and index in state:
                    state[index] = {
                        name: convert(head, value) if isinstance(value, Tensor) and value.ndim else value
                        for name, value in state[index].items()
                    }

    def train(self, mode: bool = True) -> Method:
        """The averaged copy and what is frozen stay in eval mode whatever the rest does."""
        super().train(mode)
        self.hold_frozen()
        return self

    def hold_frozen(self) -> None:
        """What is not trained stays in eval mode: its normalisation statistics do not move."""
        for module in self.frozen if self.averaged is None else (*self.frozen, self.averaged):
            module.eval()

    @property
    def optimization(self) -> Optimization:
        """How the parameters move. Raises `UserError` before `optimize_with`."""
        if self._optimization is None:
            raise UserError("the method has not been told how to optimise.", fix="call optimize_with(...) first")
        return self._optimization


def steps_between_records(trainer: pl.Trainer) -> int:
    """trainer.log_every_n_steps, which Lightning's type lacks; 1 if nothing is logged."""
    return int(getattr(trainer, "log_every_n_steps", 1) or 1)


def mean_over_ranks(values: dict[str, Any]) -> dict[str, float]:
    """Each value's mean over the ranks that have it, the same on every rank."""
    own = {name: float(value) for name, value in values.items()}
    of_ranks: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(of_ranks, own)
    return {name: fmean(rank[name] for rank in of_ranks if name in rank) for name in own}
