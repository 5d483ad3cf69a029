"""Base class of the methods: a LightningModule that turns a batch of views into named loss terms."""

from __future__ import annotations

import inspect
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kdface.datasets.loading import Batch, Order, TrainingSet, shuffled
from kdface.errors import UserError
from kdface.evaluation import EvaluationProtocol
from kdface.evaluation.protocol import datasets_of, outcome_of
from kdface.faces import FaceSet
from kdface.heads.schedules import ScheduledMarginSoftmax
from kdface.methods.optimization import Optimized
from kdface.randomness import derive

log = logging.getLogger("kdface")


def untouched(loss: Tensor, parameters: Iterable[nn.Parameter]) -> Tensor:
    """The loss with a gradient of 0 instead of None for these parameters: DDP waits for every gradient."""
    for parameter in parameters:
        if parameter.requires_grad:
            loss = loss + 0.0 * parameter.flatten()[0].to(loss.dtype)
    return loss


class Term(NamedTuple):
    """A scalar loss term and its weight in the sum."""

    value: Tensor
    weight: float = 1.0


class Method(Optimized, ABC):
    """Base class of the methods. Subclasses implement `terms`; the loss is the sum of value x weight.

    Attributes:
        needs_head, needs_teacher: whether the method requires one (checked before training).
        callbacks: those that a Trainer takes over from it (`kdface.build`).
    """

    needs_head: ClassVar[bool] = True
    needs_teacher: ClassVar[bool] = False
    callbacks: Sequence[pl.Callback] = ()
    _prepared_for: TrainingSet | None = None
    # Of the datamodule, for the current validation or test; the datasets are those of its loaders.
    _protocols: Mapping[str, EvaluationProtocol] = {}
    _sets: Sequence[tuple[FaceSet, list[str]]] = ()

    @classmethod
    def load_from_checkpoint(
        cls,
        checkpoint_path: Any,
        map_location: Any = None,
        hparams_file: Any = None,
        strict: bool | None = None,
        weights_only: bool | None = True,  # nothing in a file is executed unless it is asked for
        **parts: Any,
    ) -> Self:
        """As in Lightning, for inference. The parts are not in a checkpoint: give those of the constructor.

        Raises `UserError` without them.
        """
        try:
            return super().load_from_checkpoint(
                checkpoint_path, map_location, hparams_file, strict, weights_only, **parts
            )
        except TypeError as error:
            lacking = [name for name, part in inspect.signature(cls).parameters.items() if part.default is part.empty]
            if not (lacking := [name for name in lacking if name not in parts]):
                raise
            raise UserError(
                f"{checkpoint_path} has the weights of {cls.__name__} but not its parts: {', '.join(lacking)}.",
                fix="kdface.load(FOLDER), the folder of its run; or pass these parts by name as well",
            ) from error

    @abstractmethod
    def terms(self, batch: Batch) -> dict[str, Term]:
        """Loss terms by name: scalars, averaged over the batch unless the method documents otherwise."""

    def order(self, labels: NDArray[np.int64], batch_size: int, seed: int, parts: int = 1) -> Order:
        """The sampling order: epoch -> (steps, batch_size) indices. By default every image once per epoch.

        Each row is split into `parts` consecutive micro-batches; the loss is computed on each separately.
        """
        del parts
        return shuffled(len(labels), batch_size, seed)

    def before_training(self, training: TrainingSet) -> None:
        """Called once the networks are on the training device; `training.faces` are not augmented."""
        del training

    def require_people(self) -> None:
        """Raise `UserError` if the method needs a teacher of the same people, and `people` are others."""

    def prepare(self, training: TrainingSet) -> None:
        """Call `before_training` unless it was called with this training set."""
        if training is not self._prepared_for:
            self.before_training(training)
            self._prepared_for = training

    def configure_callbacks(self) -> Sequence[pl.Callback]:
        """`callbacks`; one of the same class in the Trainer gives way."""
        return self.callbacks

    def on_fit_start(self) -> None:
        """Move the teacher to the device and check its next output; `prepare` with the datamodule's training set."""
        if self.teacher is not None:
            self.teacher.to(self.device)
        training = getattr(getattr(self.trainer, "datamodule", None), "training", None)
        if isinstance(training, TrainingSet):
            self.prepare(training)
        if self.teacher is not None:
            self.teacher.check_next()  # in this precision, on these images

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed the step's draws (dropout, margins) by (seed, step, part, rank), so that resuming needs no RNG state.

        Head schedules follow the optimiser step, regardless of gradient accumulation.

        Raises `UserError` for a batch of one image if the network has batch normalisation, and for one that is no
        `Batch`.
        """
        self._require_batch(batch)
        if len(batch.label) == 1 and self.normalises_vectors:
            left = f" after skipping broken ones ({batch.skipped[0]})" if batch.skipped else ""
            raise UserError(
                f"this batch has only one image{left}: batch normalisation needs two.",
                fix="repair the data (kdface data verify DATASET), then rerun the same command to resume"
                if batch.skipped
                else "a larger loader.batch_size",
            )
        for module in self.modules():
            if isinstance(module, ScheduledMarginSoftmax):
                module.stand_at(self.trainer.global_step + 1)
        seed = derive(self.optimization.seed, "step", self.trainer.global_step, batch_idx, self.global_rank)
        # torch.manual_seed queries every device type and records a call stack for each missing one.
        (torch.default_generator.manual_seed if self.device.type == "cpu" else torch.manual_seed)(seed)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Compute the loss. Logs train/loss, for each term the unweighted train/NAME and train/NAME_weight, and the
        values in `noted`; at recorded steps these are means over the ranks, which have equal batch sizes."""
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

    def on_validation_start(self) -> None:
        """Broadcast rank 0's buffers, which are the ones saved; find the protocols and build the embedder."""
        if self.trainer.world_size > 1:  # normalisation statistics differ by rank; checkpoints save rank 0's
            for buffer in self.buffers():
                torch.distributed.broadcast(buffer, 0)
        self._embedder = self.embed_for(self.trainer.global_rank, self.trainer.world_size)
        held = getattr(self.trainer.datamodule, self._stage, None)  # type: ignore[attr-defined]
        self._protocols = held if isinstance(held, dict) else {}
        self._sets = datasets_of(self._protocols)
        if self.teacher is not None and not self._sets:
            self.teacher.to(self.device)  # for the loss

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Embed a batch for the datamodule's protocols (`kdface.lightning.FaceData`); without protocols, log its loss
        as val/loss or test/loss."""
        del batch_idx
        self._require_batch(batch)
        if self._sets:
            self._embedder.add(self._sets[dataloader_idx][0], batch.keys, batch.views["image"])
        else:
            terms = self.terms(batch).values()
            if terms:
                loss = torch.stack([term.value * term.weight for term in terms]).sum()
                self.log(
                    f"{'test' if self.trainer.testing else 'val'}/loss",
                    loss,
                    batch_size=len(batch.label),
                    sync_dist=True,
                )

    def on_validation_epoch_end(self) -> None:
        """Run the protocols and log their metrics under the names in results.json, identical on all ranks."""
        self.outcomes = {}
        if self.trainer.sanity_checking or not self._protocols:
            return
        for faces, keys in self._sets:
            if missing := self._embedder.share(faces, keys):
                log.warning(
                    "%s: %d of %d images of %s were left out by trainer.limit_%s_batches, so it has no result",
                    *(self._stage, missing, len(keys), faces.name, "test" if self.trainer.testing else "val"),
                )
                return
        group = "evaluation" if self.trainer.testing else "validation"
        with self.trainer.precision_plugin.forward_context():
            self.outcomes = {
                name: outcome_of(protocol, self._embedder, f"{group}.{name}")
                for name, protocol in self._protocols.items()
            }
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

    def _require_batch(self, batch: Any) -> None:
        if not (hasattr(batch, "views") and hasattr(batch, "label")):
            raise UserError(
                f"{type(self).__name__} was given a batch that is a {type(batch).__name__}.",
                expected="a kdface.datasets.loading.Batch, from the loaders of kdface.lightning.FaceData",
                fix="the module and the data that kdface.build returns; to embed a tensor of images: module(images)",
            )

    @property
    def _stage(self) -> str:
        return "test" if self.trainer.testing else "validation"

    on_test_start, test_step, on_test_epoch_end = on_validation_start, validation_step, on_validation_epoch_end

    def predict_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        """(N, D) embeddings, as `forward`, of a batch's student view, or of the images of a test loader.

        Raises `UserError` if the batch has neither, or if the method takes several kinds of test images.
        """
        del batch_idx, dataloader_idx
        self._require_batch(batch)
        for name in (self.views.student, *(["image"] if len(self.sees) == 1 else [])):
            if name in batch.views:
                return self.forward(batch.views[name])
        raise UserError(
            f"this batch has the views {', '.join(batch.views)}, and which network takes them is not known.",
            expected=f"the view {self.views.student}, as in data.train_dataloader()",
            fix="embed them with module.embed(images, preprocessing)",
        )


def steps_between_records(trainer: pl.Trainer) -> int:
    """trainer.log_every_n_steps, missing from Lightning's type hints; 1 if nothing is logged."""
    return int(getattr(trainer, "log_every_n_steps", 1) or 1)


def mean_over_ranks(values: dict[str, Any]) -> dict[str, float]:
    """The mean of each value over the ranks that have it, identical on all ranks."""
    own = {name: float(value) for name, value in values.items()}
    of_ranks: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(of_ranks, own)
    return {name: fmean(rank[name] for rank in of_ranks if name in rank) for name in own}
