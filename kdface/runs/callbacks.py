"""What happens around the training steps: records and progress, evaluation, checkpoints."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable
from statistics import fmean
from typing import Any

import pytorch_lightning as pl
import torch

from kdface.datasets.loading import Batch, ResumableLoader
from kdface.errors import DataError, UserError
from kdface.evaluation import Outcome
from kdface.evaluation.health import Unhealthy
from kdface.faces import FaceSet
from kdface.heads import Head
from kdface.methods import Method
from kdface.progress import Meter
from kdface.runs.checkpoint import CHECKPOINT_FORMAT
from kdface.runs.folder import RunFolder, write_json
from kdface.runs.interruption import Interruption
from kdface.runs.records import Records, read

log = logging.getLogger("kdface")
_LOOK_EVERY = 10  # steps between looks of several ranks, which each cost a message
_FOLDED = -0.5  # a mean cosine to the own class that training which learns never has
_ZEROS = "zero_embeddings"  # a metric of heads: told of, and recorded, only where it is not 0


class Recorder(pl.Callback):
    """Writes a record every few steps and shows progress. Values are those of the step itself, not of a window, so
    that a resumed run writes what an uninterrupted one writes; over ranks they are means, each rank having as many
    images. Of an accumulated batch they are those of its last part."""

    def __init__(self, records: Records, every: int, total_steps: int, batch_size: int) -> None:
        self.records = records
        self.every = every
        self.total = total_steps
        self.batch_size = batch_size
        self.meter: Meter | None = None
        self._last_step = -1
        self._told = False
        self._zeros: torch.Tensor | int = 0
        self._told_of_zeros = False
        self._since: tuple[float, int] = (0.0, 0)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            done = trainer.global_step * self.batch_size
            self.meter = Meter("training", self.total * self.batch_size, done)
        self._since = (time.monotonic(), trainer.global_step)
        self._last_step = trainer.global_step
        for name, head in heads_of(pl_module).items():
            if trainer.is_global_zero:
                log.info("%s (%s): loss scale %.4g", name, type(head).__name__, head.loss_scale)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, Method)
        step = trainer.global_step
        self._zeros = self._zeros + pl_module.last_metrics.get(_ZEROS, 0)  # a tensor: reading it would wait for a GPU
        if batch.skipped:
            log.warning("left out %d broken image(s): %s", len(batch.skipped), "; ".join(batch.skipped))
            if trainer.is_global_zero:
                self.records.write("skipped", step, epoch=trainer.current_epoch, images=batch.skipped)
        if step == self._last_step:
            return  # a part of an accumulated batch
        self._last_step = step
        if step == 1 and trainer.is_global_zero and (heads := heads_of(pl_module)):
            self.records.write("heads", step, loss_scale={name: head.loss_scale for name, head in heads.items()})
        if step % self.every == 0 or step == self.total:
            self._record(trainer, pl_module, step)
        if self.meter is not None:
            self.meter.advance(self.batch_size)

    def _record(self, trainer: pl.Trainer, method: Method, step: int) -> None:
        assert method.last_loss is not None
        recorded, terms, metrics = _over_ranks(
            {"loss": float(method.last_loss)},
            {name: float(term.value) for name, term in method.last_terms.items()},
            {name: float(value) for name, value in method.last_metrics.items()},
        )
        loss = recorded["loss"]
        if loss != loss or loss in (float("inf"), float("-inf")):
            raise UserError(
                f"the loss is {loss} at step {step}: training has diverged.",
                mend=f"a smaller optimizer.lr (now {trainer.optimizers[0].param_groups[0]['lr']:g}), a longer warm-up, "
                "a smaller margin, or trainer.gradient_clip_val=5",
            )
        if not trainer.is_global_zero:
            return
        if (zeros := int(self._zeros)) and not self._told_of_zeros:
            self._told_of_zeros = True
            log.warning(
                "up to step %d: %d embedding(s) of zeros. They have no direction, so the head learns nothing from "
                "them. Usual causes: dead ReLUs after too large an optimizer.lr, overflow in half precision",
                step,
                zeros,
            )
        if not metrics.get(_ZEROS, 0):
            metrics.pop(_ZEROS, None)
        cosine = metrics.get("target_cosine", 0.0)
        if cosine < _FOLDED and not self._told:
            self._told = True
            log.warning(
                "step %d: embeddings point away from their own class (mean cosine %.2f). A margin cos(theta + m) rises "
                "again beyond pi - m, so the loss has a false minimum where all classes are one direction and all "
                "embeddings its opposite. Usual mends: head.monotone=true (ElasticFace), a smaller head.margin, a "
                "smaller optimizer.lr",
                step,
                cosine,
            )
        now = time.monotonic()
        rate = (step - self._since[1]) * self.batch_size / max(1e-9, now - self._since[0])
        self._since = (now, step)
        self.records.write(
            "train",
            step,
            epoch=trainer.current_epoch,
            loss=loss,
            terms={
                name: {"raw": value, "weighted": value * method.last_terms[name].weight}
                for name, value in terms.items()
            },
            **metrics,
            lr=float(trainer.optimizers[0].param_groups[0]["lr"]),
            images_per_second=round(rate, 1),
        )
        if self.meter is not None:
            self.meter.note = f"epoch {trainer.current_epoch + 1}  loss {loss:.3f}"

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.meter is not None:
            self.meter.close()


def heads_of(method: pl.LightningModule) -> dict[str, Head]:
    """A method's heads by where they stand in it."""
    return {name: each for name, each in method.named_modules() if isinstance(each, Head)}


def _over_ranks(*values: dict[str, float]) -> list[dict[str, float]]:
    """Each value's mean over the ranks that have it, the same on every rank."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return list(values)
    of_ranks: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(of_ranks, values)
    return [
        {name: fmean(each[name] for each in group if name in each) for name in own}
        for own, group in zip(values, zip(*of_ranks, strict=True), strict=True)
    ]


class Evaluations(pl.Callback):
    """Evaluates before the first step and after every few epochs, and writes what it finds into the record.

    Args:
        run, validate: evaluate the module on all ranks, before the first step and on the way, and return the outcomes.
        records: where they are written.
        every_epochs: null: not during training.
        untrained: evaluate before the first step.
    """

    def __init__(
        self,
        run: Callable[[Method, pl.Trainer], dict[str, Outcome]],
        validate: Callable[[Method, pl.Trainer], dict[str, Outcome]],
        records: Records,
        every_epochs: int | None,
        untrained: bool,
    ) -> None:
        self.run = run
        self.validate = validate
        self.records = records
        self.every = every_epochs
        self.untrained = untrained

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.untrained and trainer.global_step == 0:
            self._evaluate(trainer, pl_module, self.run)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Raises `Unhealthy` where the embeddings say nothing: the rest of the training would be for nothing."""
        epoch = trainer.current_epoch + 1
        if self.every is None or epoch % self.every or epoch == trainer.max_epochs:
            return
        for name, outcome in self._evaluate(trainer, pl_module, self.validate).items():
            if outcome.symptoms:
                raise Unhealthy(
                    f"{name} after epoch {epoch}: " + "\n".join(outcome.symptoms),
                    mend="look at loss and learning rate in metrics.jsonl; a smaller optimizer.lr is the usual cure",
                )

    def _evaluate(self, trainer: pl.Trainer, module: pl.LightningModule, run: Any) -> dict[str, Outcome]:
        assert isinstance(module, Method)
        outcomes: dict[str, Outcome] = run(module, trainer)
        if trainer.is_global_zero:
            record_evaluation(self.records, trainer.global_step, outcomes)
            for name, outcome in outcomes.items():
                shown = ", ".join(f"{key} {metric.value:.4f}" for key, metric in headline(outcome).items())
                log.info("%s at step %d: %s", name, trainer.global_step, shown)
        return outcomes


def headline(outcome: Outcome) -> dict[str, Any]:
    """The metrics worth a line: the first one, and the equal error rate where there is one."""
    first = next(iter(outcome.metrics.items()), None)
    chosen = dict([first]) if first else {}
    if "eer" in outcome.metrics:
        chosen["eer"] = outcome.metrics["eer"]
    return {key: metric for key, metric in chosen.items() if metric.value is not None}


def record_evaluation(records: Records, step: int, outcomes: dict[str, Outcome]) -> None:
    for name, outcome in outcomes.items():
        records.write(
            "evaluation",
            step,
            test=name,
            metrics={f"{name}/{key}": metric.to_dict() for key, metric in outcome.metrics.items()},
            counts=outcome.counts,
        )


def untrained_metrics(folder: RunFolder) -> dict[str, Any]:
    """What the untrained network scored, from the record; empty where it was not evaluated."""
    found: dict[str, Any] = {}
    for record in read(folder.metrics):
        if record["kind"] == "evaluation" and record["step"] == 0:
            found.update(record["metrics"])
    return found


def skipped_images(folder: RunFolder) -> list[str]:
    """The broken images that training left out, each once, "key: reason"."""
    return sorted({each for record in read(folder.metrics) if record["kind"] == "skipped" for each in record["images"]})


class SameConfiguration(pl.Callback):
    """Every rank must train the same configuration: their SHA-256 are compared before the first step.

    Those of several ranks, of the JSON with sorted keys, are kept in ranks.json: {"config": [of rank 0, ...]}.
    """

    def __init__(self, folder: RunFolder, config: dict[str, Any]) -> None:
        self.folder = folder
        self.config = config

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.world_size == 1:
            return
        text = json.dumps(self.config, sort_keys=True)
        of_ranks: list[Any] = [None] * trainer.world_size
        torch.distributed.all_gather_object(of_ranks, hashlib.sha256(text.encode()).hexdigest())
        other = next((rank for rank, each in enumerate(of_ranks) if each != of_ranks[0]), None)
        if other is not None:
            raise UserError(
                f"rank {other} read another {self.folder.config} than rank 0.",
                mend="give all machines one shared folder of runs",
            )
        if trainer.is_global_zero:
            write_json(self.folder.root / "ranks.json", {"config": of_ranks})


class Checkpoints(pl.Callback):
    """Writes checkpoints/last.ckpt atomically, every few steps, after each epoch, and when the run is asked to end:
    after the step, and then it raises `KeyboardInterrupt`. Several ranks look together whether one is, every few steps.
    Ends training after `total` steps.

    Besides Lightning's state the file holds plain values under `kdface`: format, configuration, preprocessing, step.
    No generator's state is needed: every draw is a function of (seed, step) or (seed, epoch, key).
    """

    def __init__(
        self,
        folder: RunFolder,
        config: dict[str, Any],
        faces: FaceSet,
        loader: ResumableLoader,
        every: int | None,
        total: int,
        interruption: Interruption,
    ) -> None:
        self.interruption = interruption
        self.total = total
        self.folder = folder
        self.config = config
        self.faces = faces
        self.loader = loader
        self.every = every
        self._last_step = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._last_step = trainer.global_step
        self.interruption.listen()

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint["kdface"] = {
            "format": CHECKPOINT_FORMAT,
            "config": self.config,
            "preprocessing": self.faces.preprocessing.to_dict(),
            "num_classes": len(self.faces.people),
            "people": list(self.faces.people),
            "seed": self.config["seed"],
            "step": trainer.global_step,
            "batches": self.loader.delivered,
            "rng": "derived from (seed, step, rank)",
            "torch": str(torch.__version__),
        }

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        step = trainer.global_step
        stepped, self._last_step = step != self._last_step, step
        ended = step >= self.total
        if ended:
            trainer.should_stop = True
        if not stepped or ended or batch_idx + 1 >= trainer.num_training_batches:
            return  # the end of the epoch, which follows, saves
        asked = self._asked(trainer) if trainer.world_size == 1 or step % _LOOK_EVERY == 0 else False
        if asked or (self.every is not None and step % self.every == 0):
            self._save(trainer)
        if asked:
            raise KeyboardInterrupt

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._save(trainer)
        if self._asked(trainer):
            raise KeyboardInterrupt

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """A broken image ends training between two steps: what was trained so far is kept. Other ranks know nothing of
        it and would not take part."""
        if isinstance(exception, DataError) and trainer.world_size == 1 and trainer.global_step > 0:
            self._save(trainer)

    def _asked(self, trainer: pl.Trainer) -> bool:
        """Whether any rank is asked to end: all of them save, or none."""
        return trainer.strategy.reduce_boolean_decision(self.interruption.asked, all=False)

    def _save(self, trainer: pl.Trainer) -> None:
        """Every rank takes part (sharded state is gathered); rank 0 writes."""
        trainer.save_checkpoint(str(self.folder.last))
