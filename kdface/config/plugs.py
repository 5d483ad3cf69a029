"""Build callbacks, loggers and Trainer arguments of a run folder from their nodes."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdface.config.build import build
from kdface.config.locate import locate
from kdface.errors import UserError, nearest

if TYPE_CHECKING:
    import pytorch_lightning as pl
    from pytorch_lightning.loggers import Logger

    from kdface.runs.folder import RunFolder

log = logging.getLogger("kdface")
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


_PACKAGES = {"CometLogger": "comet-ml", "NeptuneLogger": "neptune"}  # loggers without an extra of kdface


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


def build_callbacks(nodes: Mapping[str, Any], validation: str, folder: RunFolder) -> list[pl.Callback]:
    """The callbacks of a configuration. Checkpoints are saved in the run folder; the metric `auto` is the equal error
    rate of the first validation set, `validation`."""
    made = []
    for node in nodes.values():
        given = dict(node)
        if given.get("monitor") == "auto":
            given["monitor"] = f"{validation}/eer"
        if _is_checkpoint(given["_target_"]) and given.get("dirpath") is None:
            given["dirpath"] = str(folder.last.parent)
        made.append(build(given, "callbacks"))
    return made


def build_loggers(nodes: Mapping[str, Any], tags: Sequence[str], folder: RunFolder) -> list[Logger]:
    """The loggers of a configuration, which are told its tags. A logger that fails to start is skipped with a warning,
    unless the user can fix it."""
    from kdface.lightning.loggers import guarded, placed, with_allowed_names

    made = []
    for name, node in nodes.items():
        target = str(node["_target_"])
        try:
            logger = build({**node, **placed(target, node, folder.root, folder.name, tags)}, "logger")
        except UserError:
            raise
        except ModuleNotFoundError as error:
            package = _PACKAGES.get(target.rpartition(".")[2], f'"kdface[{name}]"')
            raise UserError(f"logger={name}: {str(error).splitlines()[0]}.", fix=f"pip install {package}") from None
        except Exception as error:  # every logger raises its own errors
            log.warning("logger %s failed to start and is skipped (%s); metrics.jsonl has all records", name, error)
            continue
        made.append(guarded(with_allowed_names(logger)))
    return made


def build_arguments(trainer: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of the Trainer, with parts (a profiler, plugins) built."""

    def made(value: Any) -> Any:
        if isinstance(value, Mapping) and "_target_" in value:
            return build(value, "trainer")
        return [made(item) for item in value] if isinstance(value, list) else value

    return {name: made(value) for name, value in trainer.items()}


def named_checkpoint(run: Path, name: str) -> Path:
    """A checkpoint of a run: last, best (of its first ModelCheckpoint), or a name in checkpoints/ or in a folder below.

    Raises `UserError` if there is none.
    """
    from kdface.lightning.resume import HERE
    from kdface.runs.checkpoint import read_checkpoint
    from kdface.runs.folder import find_run

    folder = find_run(run)
    home = folder.last.parent
    there = sorted(_named(path.relative_to(home)) for path in home.rglob("*.ckpt"))
    if name == "best":
        states = read_checkpoint(folder.last).get("callbacks", {}).values()
        found = [Path(str(state["best_model_path"])) for state in states if state.get("best_model_path")]
        if not found:
            raise UserError(f"{folder.root} has no best checkpoint.", fix="kdface train ... callbacks=best")
        best, own = found[0], Path(HERE) / home.name
        inside = best.is_relative_to(own)
        name = _named(best.relative_to(own)) if inside else best.stem
        if name not in there and not inside and best.is_file():
            raise UserError(
                f"the best checkpoint of {folder.root} lies outside it: {best}.",
                fix=f"copy it into {home}",
            )
    name = name.removesuffix(".ckpt")
    if name not in there:
        raise UserError(
            f"{folder.root} has no checkpoint {name!r}.",
            expected=f"one of {', '.join(there)}, or best",
            nearest=nearest(name, there),
        )
    return home / f"{name}.ckpt"


def _named(path: Path) -> str:
    """What a checkpoint below checkpoints/ is called."""
    return path.as_posix().removesuffix(".ckpt")


def _is_checkpoint(target: str) -> bool:
    from pytorch_lightning.callbacks import ModelCheckpoint

    part = locate(target)
    return isinstance(part, type) and issubclass(part, ModelCheckpoint)
