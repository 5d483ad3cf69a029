"""The checkpoint that a run goes on from, bit for bit. The one file that looks into Lightning's loops."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint

from kdface.errors import DataError
from kdface.runs.interruption import Interruption

_LOOK_EVERY = 10  # steps between looks of several ranks, which each cost a message
_HERE = "<run>"  # in the place of the run's folder, so that it can be moved


class Resume(Checkpoint):
    """Writes one checkpoint every few steps, after each epoch, and when the run is asked to end: after the step, and
    then it raises `KeyboardInterrupt`. Several ranks look together whether one is, every few steps. Ends training after
    `total_steps`.

    Where a validation is due after a step, the checkpoint is written after it, so that a resumed run neither leaves it
    out nor repeats it; being a Checkpoint, this runs after all other callbacks, whose state is saved as they leave it.
    A training that a callback has stopped stays stopped. Paths below the run's folder that callbacks keep are written
    relative to it.

    Args:
        path: the checkpoint.
        every_n_train_steps: null: only after each epoch.
        total_steps: the last step; null: the Trainer's own end.
        about: plain values that are saved too, under `kdface`.
        interruption: whether the run is asked to end.

    Attributes:
        began: whether training has begun, and what was saved is restored.
    """

    def __init__(
        self,
        path: Path,
        every_n_train_steps: int | None = None,
        total_steps: int | None = None,
        about: Callable[[pl.Trainer], dict[str, Any]] | None = None,
        interruption: Interruption | None = None,
    ) -> None:
        super().__init__()
        self.path = path
        self.every = every_n_train_steps
        self.total = total_steps
        self.about = about
        self.interruption = interruption or Interruption()
        self._last_step = 0
        self._stopped = False
        self.began = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin to listen for signals; a run that had stopped stays stopped."""
        self.began = True
        self._last_step = trainer.global_step
        self.interruption.listen()
        if self._stopped:
            trainer.should_stop = True

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add what a resume needs beside Lightning's own, with paths below the run folder made relative."""
        about = self.about(trainer) if self.about is not None else {}
        checkpoint["kdface"] = {**about, "step": trainer.global_step, "stopped": self._stops(trainer)}
        checkpoint["callbacks"] = _replaced(checkpoint.get("callbacks", {}), str(self._folder), _HERE)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take it back."""
        self._stopped = bool(checkpoint.get("kdface", {}).get("stopped", False))
        checkpoint["callbacks"] = _replaced(checkpoint.get("callbacks", {}), _HERE, str(self._folder))

    def _stops(self, trainer: pl.Trainer) -> bool:
        """Whether a callback has ended training before its last step."""
        return bool(trainer.should_stop) and (self.total is None or trainer.global_step < self.total)

    @property
    def _folder(self) -> Path:
        return self.path.parent.parent

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save where a checkpoint is due or a signal asked for one; stop at the last step."""
        step = trainer.global_step
        stepped, self._last_step = step != self._last_step, step
        ended = self.total is not None and step >= self.total
        if ended:
            trainer.should_stop = True
        if not stepped or ended or batch_idx + 1 >= trainer.num_training_batches or _validates(trainer):
            return  # the end of the epoch, or the validation, which follows, saves
        self._save_if_due(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save after a validation in mid-epoch."""
        loop = trainer.fit_loop.epoch_loop
        if trainer.sanity_checking or trainer.state.fn != "fit" or loop._num_ready_batches_reached():
            return
        if trainer.should_stop:
            self._save(trainer)
        elif not loop._should_accumulate():
            self._save_if_due(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save at the end of every epoch. Raises `KeyboardInterrupt` if a signal asked to stop."""
        self._save(trainer)
        if self._asked(trainer):
            raise KeyboardInterrupt

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """A broken image ends training between two steps: what was trained so far is kept. Other ranks know nothing of
        it and would not take part."""
        if isinstance(exception, DataError) and trainer.world_size == 1 and trainer.global_step > 0:
            self._save(trainer)

    def _save_if_due(self, trainer: pl.Trainer) -> None:
        step = trainer.global_step
        asked = self._asked(trainer) if trainer.world_size == 1 or step % _LOOK_EVERY == 0 else False
        if asked or (self.every is not None and step % self.every == 0):
            self._save(trainer)
        if asked:
            raise KeyboardInterrupt

    def _asked(self, trainer: pl.Trainer) -> bool:
        """Whether any rank is asked to end: all of them save, or none."""
        return trainer.strategy.reduce_boolean_decision(self.interruption.asked, all=False)

    def _save(self, trainer: pl.Trainer) -> None:
        """Every rank takes part (sharded state is gathered); rank 0 writes."""
        trainer.save_checkpoint(str(self.path))


def _validates(trainer: pl.Trainer) -> bool:
    """Whether a validation follows the step that ends."""
    loop = trainer.fit_loop
    fetcher = loop._data_fetcher
    return fetcher is not None and bool(loop.epoch_loop._should_check_val_fx(fetcher))


def _replaced(value: Any, old: str, new: str) -> Any:
    """Plain containers with the beginning of paths replaced, in keys too."""
    if isinstance(value, dict):
        return {_replaced(key, old, new): _replaced(item, old, new) for key, item in value.items()}
    if isinstance(value, list):
        return [_replaced(item, old, new) for item in value]
    if isinstance(value, str) and (value == old or value.startswith(f"{old}/")):
        return new + value[len(old) :]
    return value
