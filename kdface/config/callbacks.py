"""Check the callbacks of a configuration before anything is built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kdface.errors import UserError

# class -> why it is not supported, and what to use instead
_REFUSED = {
    "StochasticWeightAveraging": (
        "it adds an epoch to collect batch statistics, and its state is not resumed bit-identically",
        "callbacks=none ema.decay=0.999",
    ),
    "WeightAveraging": ("it saves the average instead of the weights", "callbacks=none ema.decay=0.999"),
    "EMAWeightAveraging": ("it saves the average instead of the weights", "callbacks=none ema.decay=0.999"),
    "GradientAccumulationScheduler": (
        "it would change the number of steps, and thus the schedule, during training",
        "trainer.accumulate_grad_batches=N",
    ),
    "Resume": ("every run already has it", "resume.every_n_train_steps=N"),
}


def check_callbacks(nodes: Mapping[str, Any], validates: bool) -> None:
    """Raise `UserError` for a callback that is not supported, or monitors a metric that is not measured."""
    for name, node in nodes.items():
        kind = str(node["_target_"]).rpartition(".")[2]
        if kind in _REFUSED:
            why, instead = _REFUSED[kind]
            raise UserError(f"callbacks.{name} ({kind}) is not supported: {why}.", fix=instead)
        if node.get("save_last"):
            raise UserError(
                f"callbacks.{name}.save_last: a run always saves its last checkpoint to checkpoints/last.ckpt.",
                fix=f"callbacks.{name}.save_last=false",
            )
        if node.get("filename") == "last":
            raise UserError(
                f"callbacks.{name}.filename=last is the name of the run's own last checkpoint.",
                fix=f"callbacks.{name}.filename=best",
            )
        if node.get("monitor") == "auto" and not validates:
            raise UserError(
                f"callbacks.{name} monitors a validation metric, but validation is none.",
                fix=f"validation=people, or callbacks.{name}.monitor=train/loss",
            )
