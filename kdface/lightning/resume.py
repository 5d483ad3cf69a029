"""The checkpoint for bit-exact resume. The only file that accesses Lightning's loops."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint

from kdface.errors import DataError
from kdface.lightning.interruption import Interruption

_LOOK_EVERY = 10  # steps between checks with several ranks, each of which costs a message
HERE = "<run>"  # placeholder for the run folder, so that it can be moved


class Resume(Checkpoint):
    """Write a checkpoint every few steps, after each epoch, and on a stop request, after the step, followed by
    `KeyboardInterrupt`. Several ranks check for requests jointly, every few steps. Stops training after `total_steps`.

    If a validation is due after a step, the checkpoint is written after it, so that a resumed run neither skips nor
    repeats it; as a Checkpoint, it runs after all other callbacks and saves their final state. Training stopped by a
    callback stays stopped on resume. Paths below the run folder in callback states are stored relative to it, and
    restored with symbolic links resolved, as in ModelCheckpoint.

    Args:
        path: the checkpoint.
        every_n_train_steps: null: only after each epoch.
        total_steps: the last step; null: as defined by the Trainer.
        about: plain values to save under `kdface`.
        interruption: whether a stop is requested.

    Attributes:
        began: whether training has started, and saved state is restored.
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
        self._validated = -1
        self.began = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start listening for signals; a run stopped by a callback stays stopped."""
        self.began = True
        self._last_step = trainer.global_step
        self.interruption.listen()
        if self._stopped:
            trainer.should_stop = True
        if self._ended(trainer):  # a kill between the last step and the end of its epoch
            _end(trainer)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the state needed to resume in addition to Lightning's, with paths relative to the run folder."""
        about = self.about(trainer) if self.about is not None else {}
        checkpoint["kdface"] = {
            **about,
            "step": trainer.global_step,
            "stopped": self._stops(trainer),
            "validated": self._validated,
        }
        state = checkpoint.get("callbacks", {})
        for folder in (self._folder.resolve(), self._folder):
            state = _replaced(state, str(folder), HERE)
        checkpoint["callbacks"] = state

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Restore that state."""
        saved = checkpoint.get("kdface", {})
        self._stopped, self._validated = bool(saved.get("stopped", False)), int(saved.get("validated", -1))
        checkpoint["callbacks"] = _replaced(checkpoint.get("callbacks", {}), HERE, str(self._folder.resolve()))

    def _stops(self, trainer: pl.Trainer) -> bool:
        """Whether a callback has stopped training before its last step."""
        return bool(trainer.should_stop) and not self._ended(trainer)

    def _ended(self, trainer: pl.Trainer) -> bool:
        return self.total is not None and trainer.global_step >= self.total

    @property
    def _folder(self) -> Path:
        return self.path.parent.parent

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save if a checkpoint is due or a signal requested one; stop at the last step."""
        step = trainer.global_step
        stepped, self._last_step = step != self._last_step, step
        if ended := self._ended(trainer):
            _end(trainer)
        if not stepped or ended or batch_idx + 1 >= trainer.num_training_batches or _validates(trainer):
            return  # saved at the end of the epoch, or after the validation that follows
        self._save_if_due(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save after a validation in mid-epoch."""
        loop = trainer.fit_loop.epoch_loop
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        self._validated = trainer.global_step
        if loop._num_ready_batches_reached():
            return
        if trainer.should_stop:
            self._save(trainer)
        elif not loop._should_accumulate():
            self._save_if_due(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save at the end of every epoch. Raises `KeyboardInterrupt` if a signal requested a stop."""
        self._save(trainer)
        if self._asked(trainer):
            raise KeyboardInterrupt

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Save if a broken image stops training between two steps. Only with one rank: others would not take part."""
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
        """Whether any rank has a stop request: all of them save, or none."""
        return trainer.strategy.reduce_boolean_decision(self.interruption.asked, all=False)

    def _save(self, trainer: pl.Trainer) -> None:
        """Save; all ranks take part (to gather sharded state), rank 0 writes."""
        trainer.save_checkpoint(str(self.path))


def _end(trainer: pl.Trainer) -> None:
    """End training as Lightning's `max_steps` does: whatever the least number of epochs and steps."""
    trainer.should_stop = True
    trainer.fit_loop.min_epochs = 0
    trainer.fit_loop.epoch_loop.min_steps = None


def _validates(trainer: pl.Trainer) -> bool:
    """Whether a validation follows the current step."""
    loop = trainer.fit_loop
    fetcher = loop._data_fetcher
    return fetcher is not None and bool(loop.epoch_loop._should_check_val_fx(fetcher))


def _replaced(value: Any, old: str, new: str) -> Any:
    """Plain containers with path prefixes replaced, also in keys."""
    if isinstance(value, dict):
        return {_replaced(key, old, new): _replaced(item, old, new) for key, item in value.items()}
    if isinstance(value, list):
        return [_replaced(item, old, new) for item in value]
    if isinstance(value, str) and (value == old or value.startswith(f"{old}/")):
        return new + value[len(old) :]
    return value
