"""Train a job in its run folder, from scratch or from its last checkpoint, and evaluate it at the end."""

from __future__ import annotations

import gc
import logging
import math
import os
import re
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, Timer
from pytorch_lightning.loggers import Logger

from kdface.assembly.job import Job
from kdface.assembly.plugs import build_callbacks, build_loggers
from kdface.atomic import write_json
from kdface.backbones.synchronised_norm import synchronise
from kdface.config.locate import locate
from kdface.datasets.workers import lost_worker
from kdface.errors import UserError, nearest, of_memory
from kdface.evaluation import Outcome
from kdface.hardware import Profile
from kdface.heads.partial_fc import shard_heads
from kdface.lightning import Health, MetricRecords, Progress, Resume, WeightAverage
from kdface.lightning.interruption import Interruption
from kdface.lightning.loggers import attempt, close, finish, goes_on, started
from kdface.lightning.records import record_evaluation
from kdface.runs.checkpoint import CHECKPOINT_FORMAT, read_checkpoint, require_finite
from kdface.runs.environment import environment, note_environment
from kdface.runs.folder import RunFolder
from kdface.runs.named import require_one_run
from kdface.runs.ranks import launched_rank, require_launched
from kdface.runs.records import Records, read
from kdface.training.callbacks import SameConfiguration, ToldValidations, Untrained
from kdface.training.outcomes import evaluate, results_of, write_scores
from kdface.training.rank_watch import watched
from kdface.training.trainer import machine, make_trainer, profiles, quiet_libraries, require_whole_gradients

log = logging.getLogger("kdface")
# Errors that Lightning raises for an inconsistent checkpoint state.
_OF_A_BAD_STATE = (LookupError, TypeError, AttributeError, ValueError, AssertionError, RuntimeError)
# Lightning's words for a metric that a callback monitors in vain.
_UNKNOWN_METRIC = re.compile(
    r"(conditioned on metric `|ModelCheckpoint\(monitor=')(.+?)[`'].* (not available|not find)"
)
Protocols = Callable[[pl.Trainer], dict[str, Outcome]]


def train(
    job: Job,
    folder: RunFolder,
    draw: Callable[[], None] = lambda: None,
    note: Callable[[str], object] = lambda _: None,
) -> dict[str, Any]:
    """Train to the end, evaluate, write and plot the results. Returns the results.

    An interrupted run resumes from its last checkpoint and is bit-identical to an uninterrupted one on the same
    hardware and number of ranks. `note` receives the loss of a rank, which stops this process at once.
    """
    require_launched(job.settings, job.config["seed"])
    profile, threads = machine(job.settings)
    quiet_libraries()
    # Deterministic mode also fills new memory with NaN, which costs 6 % here without benefit.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # a module property
    rank, world = launched_rank(), job.settings.world
    if rank == 0:
        note_environment(folder, environment(profile, threads, world))
    _prepare(job, profile, rank)
    method, total = job.method, job.method.total_steps
    records, interruption = Records(folder.metrics), Interruption()

    def run_protocols(trainer: pl.Trainer) -> dict[str, Outcome]:
        return evaluate(job.data.test, method, profile, trainer.global_rank, trainer.world_size)

    resume = Resume(folder.last, job.settings.resume.every_n_train_steps, total, lambda _: _about(job), interruption)
    loggers = build_loggers(job.config.get("logger") or {}, job.config.get("tags") or (), folder)
    trainer = make_trainer(
        job.settings,
        profile,
        [*_callbacks(job, folder, records, run_protocols), resume],
        loggers,
        math.ceil(total / method.steps_per_epoch),
        bool(job.data.validation),
        folder,
    )
    checkpoint, step = _resumed(job, folder)
    _begin(job, folder, records, loggers, step, rank)
    status = "failed"
    try:
        began = time.monotonic()
        launched = partial(getattr, trainer.strategy.launcher, "procs", [])  # Lightning adds further ranks' processes
        watch = partial(watched, rank, world, launched, lambda: interruption.asked, note)
        gc.enable()  # off while starting up (`kdface.startup`)
        with interruption.restored(), watch():
            _fit(job, trainer, checkpoint, resume, interruption)
        spent = time.monotonic() - began
        if trainer.global_step == 0:
            raise UserError(
                f"training was stopped by {_stopped_by(trainer, job)} before its first step.", fix="a later stop"
            )
        if rank == 0:
            for report in profiles(trainer):
                log.info("profile: %s", report)
        method.to(trainer.strategy.root_device)  # Lightning moves it to the CPU after training
        with watch():
            outcomes = run_protocols(trainer)
        results = {
            **results_of(outcomes),
            "step": trainer.global_step,
            "seed": job.config["seed"],
            "skipped": [],
            "train_seconds": round(spent, 1),
            "resumed_at": None if checkpoint is None else step,
        }
        if trainer.global_step < total:
            results["stopped"] = {"by": _stopped_by(trainer, job), "total_steps": total}
        if rank == 0:
            _conclude(job, folder, records, loggers, outcomes, results, draw)
        status = "success"
    finally:
        for logger in loggers:
            attempt(partial(close, status=status), logger)
    return results


def _prepare(job: Job, profile: Profile, rank: int) -> None:
    """Shard, lay out, compile and place the networks."""
    settings, method = job.settings, job.method
    if settings.trainer.get("sync_batchnorm") and settings.world > 1:
        synchronise(method)
    require_whole_gradients(method, settings, profile.precision)
    if settings.world > 1:
        shard_heads(method, rank, settings.world)
    method.use_memory_format(profile.channels_last)
    if settings.hardware.compile:
        method.backbone.compile()
    if method.teacher is not None:
        local = os.environ.get("LOCAL_RANK", "0")
        method.teacher.to(f"cuda:{local}" if profile.accelerator == "gpu" else "cpu")
    method.prepare(job.data.training)
    if rank == 0:
        _tell_parts(job)


def _callbacks(job: Job, folder: RunFolder, records: Records, run_protocols: Protocols) -> list[pl.Callback]:
    """kdface's own callbacks around the configured ones, whose values are recorded with the step that they are of; then
    a progress display unless there is one."""
    settings, total = job.settings, job.method.total_steps
    callbacks: list[pl.Callback] = [
        *([WeightAverage(settings.ema.decay)] if settings.ema.decay is not None else []),
        SameConfiguration(folder, job.config),
        *([Untrained(run_protocols, records)] if settings.evaluate_untrained else []),
        ToldValidations(),
        *build_callbacks(job.config.get("callbacks") or {}, next(iter(job.data.validation), ""), folder),
        MetricRecords(records, total, settings.loader.batch_size),
        Health(total),
    ]
    if settings.trainer.get("enable_progress_bar") is not False and not any(
        isinstance(callback, pl.callbacks.ProgressBar) for callback in callbacks
    ):
        callbacks.append(Progress(total, settings.loader.batch_size))
    return callbacks


def _about(job: Job) -> dict[str, Any]:
    """The metadata of a checkpoint."""
    faces = job.data.training.faces
    return {
        "format": CHECKPOINT_FORMAT,
        "config": job.config,
        "preprocessing": faces.preprocessing.to_dict(),
        "num_classes": len(faces.people),
        "people": list(faces.people),
        "seed": job.config["seed"],
        "batches": job.data.state_dict()["delivered"],
        "rng": "derived from (seed, step, rank)",
        "torch": str(torch.__version__),
    }


def _resumed(job: Job, folder: RunFolder) -> tuple[Path | None, int]:
    """The last checkpoint, verified to be from this run, and its step, with the loader at its position; None and -1 at
    the start of a run."""
    if not folder.last.is_file():
        return None, -1
    content = read_checkpoint(folder.last)
    require_finite(job.method, content["state_dict"], folder.last)
    saved = content["kdface"]
    require_one_run(folder, job.config, saved, folder.last)
    # Lightning restores the position of the loader only in the middle of an epoch.
    job.data.load_state_dict({"delivered": int(saved["batches"])})
    return folder.last, int(saved["step"])


def _begin(job: Job, folder: RunFolder, records: Records, loggers: list[Logger], step: int, rank: int) -> None:
    """Drop records after the step that a killed run resumes from, or -1, and report the start of the run to loggers."""
    if rank == 0:
        records.rewind(step, job.method.total_steps, job.data.test.keys() - job.data.validation.keys())
        for path in folder.last.parent.rglob("*.ckpt"):  # later ones are written again
            if path != folder.last and int(read_checkpoint(path)["kdface"]["step"]) > step:
                path.unlink()
        if step >= 0:
            log.info("resuming at step %d of %d", step, job.method.total_steps)
    for logger in loggers:
        if rank == 0:
            attempt(partial(started, folder=folder.root), logger)
            if step > 0:
                attempt(partial(goes_on, records=read(folder.metrics), step=step), logger)
        logger.log_hyperparams(job.config)


def _fit(job: Job, trainer: pl.Trainer, checkpoint: Path | None, resume: Resume, interruption: Interruption) -> None:
    """Train; raise the actual cause of an early end: an interruption, a lost worker, a bad checkpoint."""
    try:
        trainer.fit(job.method, datamodule=job.data, ckpt_path=checkpoint, weights_only=True)
    except SystemExit as leave:
        if trainer.interrupted:  # Lightning would turn Ctrl-C into exit code 1
            raise KeyboardInterrupt from leave
        raise
    except Exception as error:
        if interruption.asked:  # loader processes received the signal too and have exited
            raise KeyboardInterrupt from error
        if (lost := lost_worker(error)) is not None:  # torch raises it at an arbitrary point
            raise lost from None
        if of_memory(error) is not None:
            raise
        if unknown := _UNKNOWN_METRIC.search(str(error)):
            raise _unmeasured(unknown[1], job, trainer) from None
        if checkpoint is not None and not resume.began and isinstance(error, _OF_A_BAD_STATE):
            raise UserError(
                f"resuming from {checkpoint} failed: {type(error).__name__}: {' '.join(str(error).split())}.",
                expected="the state saved by this run; without that file it starts over",
            ) from error
        raise


def _unmeasured(metric: str, job: Job, trainer: pl.Trainer) -> UserError:
    """The error for a metric that a callback monitors and that has not been logged."""
    measured = sorted(trainer.callback_metrics)
    near = nearest(metric, measured)
    nodes = (job.config.get("callbacks") or {}).items()
    keys = [f"callbacks.{name}.monitor" for name, node in nodes if node.get("monitor") == metric]
    return UserError(
        f"{', '.join(keys) or 'a callback'} = {metric}: no such metric is measured.",
        expected=f"one of {', '.join(measured)}",
        fix=" ".join(f"{key}={near}" for key in keys) if near else "",
    )


def _stopped_by(trainer: pl.Trainer, job: Job) -> str:
    """What ended training before its last step: the key of a limit of time, of early stopping, or another callback."""

    def named(kind: type[pl.Callback]) -> list[str]:
        nodes = (job.config.get("callbacks") or {}).items()
        kinds = {f"callbacks.{name}": locate(node["_target_"]) for name, node in nodes}
        return [name for name, part in kinds.items() if isinstance(part, type) and issubclass(part, kind)]

    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, Timer) and (left := callback.time_remaining()) is not None and left <= 0:
            return next(iter(named(Timer)), "trainer.max_time")
    return " or ".join(named(EarlyStopping)) or "a callback"


def _conclude(
    job: Job,
    folder: RunFolder,
    records: Records,
    loggers: list[Logger],
    outcomes: dict[str, Outcome],
    results: dict[str, Any],
    draw: Callable[[], None],
) -> None:
    """Record, write and draw the results, and finish the loggers."""
    step, rows = results["step"], list(read(folder.metrics))
    validated = {row["test"] for row in rows if row["kind"] == "evaluation" and row["step"] == step}
    record_evaluation(records, step, {name: outcome for name, outcome in outcomes.items() if name not in validated})
    for logger in loggers:
        logger.log_metrics(
            {name: metric["value"] for name, metric in results["metrics"].items() if metric["value"] is not None},
            step=step - 1,
        )
    untrained = [row["metrics"] for row in rows if row["kind"] == "evaluation" and row["step"] == 0]
    results["untrained"] = {name: metric for metrics in untrained for name, metric in metrics.items()}
    results["skipped"] = sorted({image for row in rows if row["kind"] == "skipped" for image in row["images"]})
    folder.require_there()
    write_scores(folder.scores, outcomes)
    write_json(folder.results, results)
    draw()
    shown = partial(
        finish,
        folder=folder.root,
        figures=sorted(folder.figures.glob("*.png")),
        metrics=results["metrics"],
        nodes=job.config.get("logger") or {},
    )
    for logger in loggers:
        attempt(shown, logger)


def _tell_parts(job: Job) -> None:
    """Log how loader.batch_size is composed if it is split."""
    settings = job.settings
    parts, batch = settings.world * settings.accumulate, settings.loader.batch_size
    if parts > 1:
        log.info(
            "effective batch of %d images = %d rank(s) x %d part(s) x %d images",
            *(batch, settings.world, settings.accumulate, batch // parts),
        )
    if settings.accumulate > 1 and job.method.normalises:
        log.warning(
            "trainer.accumulate_grad_batches=%d: BatchNorm sees parts of %d images, so the result differs from that of "
            "whole batches of %d",
            *(settings.accumulate, batch // settings.accumulate, batch),
        )
