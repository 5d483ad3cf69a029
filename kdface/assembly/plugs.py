"""Build callbacks, loggers and Trainer arguments of a run folder from their nodes."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdface.assembly.build import build
from kdface.config.locate import locate
from kdface.errors import UserError, nearest

if TYPE_CHECKING:
    import pytorch_lightning as pl
    from pytorch_lightning.loggers import Logger

    from kdface.runs.folder import RunFolder

log = logging.getLogger("kdface")
_PACKAGES = {"CometLogger": "comet-ml", "NeptuneLogger": "neptune"}  # loggers without an extra of kdface


def build_callbacks(nodes: Mapping[str, Any], validation: str, folder: RunFolder) -> list[pl.Callback]:
    """The callbacks of a configuration. Checkpoints are saved in the run folder; the metric `auto` is the equal error
    rate of the first validation set, `validation`. Raises `UserError` for arguments that a callback rejects."""
    from lightning_fabric.utilities.exceptions import MisconfigurationException

    made = []
    for name, node in nodes.items():
        given = dict(node)
        if given.get("monitor") == "auto":
            given["monitor"] = f"{validation}/eer"
        if _is_checkpoint(given["_target_"]) and given.get("dirpath") is None:
            given["dirpath"] = str(folder.last.parent)
        try:
            made.append(build(given, "callbacks", path=f"callbacks.{name}"))
        except MisconfigurationException as error:
            raise UserError(f"callbacks.{name} cannot be built: {error}") from None
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
