"""Build Lightning's Trainer with a run's arguments, adapted to the machine."""

from __future__ import annotations

import glob
import logging
import os
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.loggers import Logger
from pytorch_lightning.plugins import CheckpointIO, Precision
from pytorch_lightning.profilers import PassThroughProfiler

from kdface.assembly.job import Job
from kdface.assembly.plugs import build_arguments, build_callbacks
from kdface.atomic import flush
from kdface.config.origin import Origins
from kdface.config.settings import Settings
from kdface.config.trainer import arguments
from kdface.errors import UserError
from kdface.hardware import Profile, cores, keep_freed_memory, profile_for
from kdface.heads import PartialFC
from kdface.lightning import LocalDDP
from kdface.methods import Method
from kdface.runs.checkpoint import read_checkpoint, write_checkpoint
from kdface.runs.folder import RunFolder

# Arguments handled by kdface, which the Trainer must not apply again.
_OURS = ("max_steps", "sync_batchnorm", "limit_train_batches", "overfit_batches")


class RunCheckpoints(CheckpointIO):
    """Writes checkpoints in place, without temporary files elsewhere.

    Args:
        folder: of the run. Callbacks may save checkpoints anywhere.
    """

    def __init__(self, folder: RunFolder) -> None:
        super().__init__()
        self.folder = folder

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        """Save a checkpoint after flushing all earlier records to disk."""
        self.folder.require_there()
        if self.folder.metrics.is_file():
            flush(self.folder.metrics)
        write_checkpoint(checkpoint, Path(path))

    def load_checkpoint(
        self, path: str | os.PathLike[str], map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Load a checkpoint, verifying its checksum and executing nothing, whatever `weights_only` is."""
        return read_checkpoint(Path(path))

    def remove_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Remove a checkpoint if it exists."""
        Path(path).unlink(missing_ok=True)


def make_trainer(
    settings: Settings,
    profile: Profile,
    callbacks: list[pl.Callback],
    loggers: list[Logger],
    max_epochs: int,
    validates: bool,
    folder: RunFolder,
) -> pl.Trainer:
    """Build Lightning's Trainer with the run's arguments. Their parts are built anew: a Trainer changes its own.

    `max_steps` is not passed on: with it Lightning mistakes a checkpoint at the end of an epoch for one in the middle
    and resumes with too few steps. `Resume` stops training at the last step.
    """
    given = build_arguments({name: value for name, value in settings.trainer.items() if name not in _OURS})
    plugins = given.pop("plugins", None) or []
    plugins = plugins if isinstance(plugins, list) else [plugins]
    for plugin in plugins:
        if isinstance(plugin, Precision):
            raise UserError(
                f"trainer.plugins: {type(plugin).__name__} sets the precision, which tests use too.",
                fix=f"remove trainer.plugins, and add trainer.precision={plugin.precision}",
            )
    fixed: dict[str, Any] = {
        "accelerator": profile.accelerator,
        "strategy": _strategy(given.get("strategy", "auto"), settings.world),
        "precision": profile.precision,
        "max_epochs": max_epochs,
        "callbacks": callbacks,
        "plugins": [RunCheckpoints(folder), *plugins],
        "logger": loggers or False,
        "enable_progress_bar": any(isinstance(callback, pl.callbacks.ProgressBar) for callback in callbacks),
        "use_distributed_sampler": False,  # the loader already splits each batch over the ranks
    }
    if not validates:
        fixed["limit_val_batches"] = 0
    try:
        trainer = pl.Trainer(**{"enable_model_summary": False, "num_sanity_val_steps": 0, **given, **fixed})
    except (MisconfigurationException, ValueError, TypeError, ImportError) as error:
        raise UserError(
            f"Lightning's Trainer rejected its arguments: {error}",
            expected="compatible arguments, supported by this machine",
        ) from None
    _place_profile(trainer, folder)
    return trainer


def _place_profile(trainer: pl.Trainer, folder: RunFolder) -> None:
    """A profiler writes its report into the run's folder, unless its node says where: Lightning would log it, and is
    quiet."""
    profiler: Any = trainer.profiler  # type: ignore[attr-defined]
    if not isinstance(profiler, PassThroughProfiler):
        profiler.dirpath = profiler.dirpath or str(folder.profile)
        profiler.filename = profiler.filename or "profile"


def profiles(trainer: pl.Trainer) -> list[Path]:
    """The reports of a run's profiler, a file for each rank."""
    profiler: Any = trainer.profiler  # type: ignore[attr-defined]
    if isinstance(profiler, PassThroughProfiler):
        return []
    return sorted(Path(profiler.dirpath).glob(f"fit-{glob.escape(profiler.filename)}*.txt"))


def _strategy(name: Any, world: int) -> Any:
    """Replace Lightning's DDP by kdface's, which differs only in the address of its store."""
    if world > 1 and name in ("auto", "ddp", "ddp_find_unused_parameters_true"):
        return LocalDDP(find_unused_parameters=name == "ddp_find_unused_parameters_true")
    return name


def require_trainable(job: Job, folder: RunFolder, origins: Origins | None = None) -> None:
    """Build the Trainer and its callbacks, without writing anything.

    Raises `UserError` for arguments that do not fit each other, the method or this machine, such as a missing
    accelerator, too many devices or an unsupported precision.

    Args:
        folder: of the run; need not exist.
        origins: of the configuration's values.
    """
    quiet_libraries()
    profile = machine(job.settings)[0]
    try:
        _try_trainer(job.config, job, folder)
    except UserError as error:
        _blame(error, job, folder, origins or Origins())
        raise
    require_whole_gradients(job.method, job.settings, profile.precision)


def _try_trainer(tree: Mapping[str, Any], job: Job, folder: RunFolder) -> None:
    """Build the Trainer of a configuration, which may lack arguments and callbacks of the job's. Raises `UserError`."""
    settings, validation = replace(job.settings, trainer=tree["trainer"]), job.data.validation
    callbacks = build_callbacks(tree.get("callbacks") or {}, next(iter(validation), ""), folder)
    make_trainer(settings, machine(settings)[0], callbacks, [], 1, bool(validation), folder)


def _blame(error: UserError, job: Job, folder: RunFolder, origins: Origins) -> None:
    """Say which argument or callback the Trainer was rejected for: the first one without which it is not."""
    defaults = {f"trainer.{name}": parameter.default for name, parameter in arguments().items()}
    for group in ("trainer", "callbacks"):
        nodes: dict[str, Any] = job.config.get(group) or {}
        for name, value in nodes.items():
            key = f"{group}.{name}"
            if key in defaults and value == defaults[key]:
                continue
            less = {**job.config, group: {other: node for other, node in nodes.items() if other != name}}
            try:
                _try_trainer(less, job, folder)
            except UserError:
                continue
            error.origin = error.origin or origins.of((origins.under(key) or [key])[-1])
            default = defaults.get(key)
            absent = f"~{key}" if key not in defaults else f"{key}={'null' if default is None else default}"
            error.fix = error.fix or (f"remove {key}" if error.origin.startswith("command line") else absent)
            return


def machine(settings: Settings) -> tuple[Profile, int]:
    """Apply and return the hardware profile and the CPU threads per rank."""
    keep_freed_memory()
    given = settings.trainer
    profile = profile_for(settings.hardware.profile, given.get("accelerator", "auto"), given.get("precision"))
    threads = settings.hardware.threads or max(1, cores() // settings.devices)
    torch.set_num_threads(threads)
    return profile, threads


def require_whole_gradients(method: Method, settings: Settings, precision: str) -> None:
    """Check sharded class weights, whose gradients exist only on their own rank.

    Raises `UserError` if a method has such weights and its settings or precision need the complete gradient.
    """
    parts = dict(method.named_modules())
    divided = [name for name, part in parts.items() if isinstance(part, PartialFC)]
    if settings.world == 1 or not divided:
        return
    of_all = "of all gradients, but those of class weights are sharded over the ranks"
    other_head = "or a head that is not sharded (kdface list head)"
    for name in method.optimization.gradient_clip:
        if any(f"{part}.".startswith(f"{name}.") for part in divided):
            raise UserError(
                f"gradient_clip.{name} needs the norm {of_all}.", fix=f"gradient_clip={{backbone:5.0}}, {other_head}"
            )
    if settings.trainer.get("gradient_clip_val") is not None:
        raise UserError(
            f"trainer.gradient_clip_val needs the norm {of_all}.",
            fix=f"trainer.gradient_clip_val=null, {other_head}",
        )
    if precision == "16-mixed":
        raise UserError(
            "with precision 16-mixed each rank skips steps based on its own gradients, but class weights are sharded "
            "over the ranks.",
            fix="trainer.precision=bf16-mixed",
        )


def quiet_libraries() -> None:
    """Silence Lightning's messages that duplicate kdface's records or advertise; problems raise errors instead."""
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning.fabric", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("pytorch_lightning.callbacks").setLevel(logging.INFO)  # what their `verbose` asks for
    for message in (
        "does not have many workers",
        "`ckpt_path` .* you might lose ",
        "LeafSpec",
        "Total length of `list` across ranks is zero",  # no validation
        "smaller than the logging interval",
        "Checkpoint directory .* exists and is not empty",
        "`srun` command is available",  # SLURM need not be used
        "in eval mode at the start of training",  # frozen and averaged networks
    ):
        warnings.filterwarnings("ignore", message=f".*{message}.*")
