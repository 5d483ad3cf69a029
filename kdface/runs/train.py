"""Train a job in its run folder, from the start or from its last checkpoint, and evaluate it at the end."""

from __future__ import annotations

import logging
import math
import os
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.loggers import Logger

from kdface.backbones.synchronised_norm import synchronise
from kdface.datasets.workers import lost_worker
from kdface.errors import UserError, of_memory
from kdface.evaluation import EvaluationProtocol, Outcome
from kdface.hardware import Profile, cores, forward_context, keep_freed_memory, profile_for
from kdface.heads.partial_fc import shard_heads
from kdface.lightning import Health, LocalDDP, MetricRecords, Progress, Resume, WeightAverage
from kdface.lightning.loggers import attempt, close, finish, replay, started, starts_anew
from kdface.lightning.records import record_evaluation
from kdface.methods import Method
from kdface.runs.callbacks import SameConfiguration, ToldValidations, Untrained, skipped_images, untrained_metrics
from kdface.runs.checkpoint import CHECKPOINT_FORMAT, read_checkpoint, require_finite
from kdface.runs.checkpoint_io import RunCheckpoints
from kdface.runs.environment import environment
from kdface.runs.folder import RunFolder, write_atomic, write_json
from kdface.runs.interruption import Interruption
from kdface.runs.job import Job
from kdface.runs.named import require_one_run
from kdface.runs.rank_watch import watched
from kdface.runs.ranks import launched_rank, require_launched
from kdface.runs.records import Records, read
from kdface.runs.settings import Settings

log = logging.getLogger("kdface")
# Arguments that training heeds itself: the Trainer must not heed them once more.
_OURS = ("max_steps", "sync_batchnorm", "limit_train_batches", "overfit_batches")
# What Lightning raises if a checkpoint's state is not what it wrote.
_OF_A_BAD_STATE = (LookupError, TypeError, AttributeError, ValueError, AssertionError, RuntimeError)


def train(
    job: Job,
    folder: RunFolder,
    draw: Callable[[], None] = lambda: None,
    note: Callable[[str], object] = lambda _: None,
) -> dict[str, Any]:
    """Train to the end, evaluate, write the results, draw them. Returns them.

    A run that was interrupted goes on at its last checkpoint and ends with the bytes of one that was not, on the
    same hardware and number of ranks. `note` receives the loss of a rank, which ends this process at once.
    """
    settings = job.settings
    require_launched(settings)
    profile, threads = machine(settings)
    quiet_libraries()
    # Deterministic mode also fills fresh memory with NaN, which costs 6 % here and guards against nothing of ours.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # a module property
    rank = launched_rank()
    rank_zero = rank == 0
    if rank_zero:
        note_environment(folder, environment(profile, threads, settings.world))

    method = job.method
    if settings.trainer.get("sync_batchnorm") and settings.world > 1:
        synchronise(method)
    if settings.world > 1 and shard_heads(method, rank, settings.world):
        require_whole_gradients(settings, profile)
    method.use_memory_format(profile.channels_last)
    if settings.hardware.compile:
        method.backbone.compile()

    if method.teacher is not None:
        local = os.environ.get("LOCAL_RANK", "0")
        method.teacher.to(f"cuda:{local}" if profile.accelerator == "gpu" else "cpu")
    method.before_training(job.data.training)

    records = Records(folder.metrics)
    total = method.total_steps

    def run_protocols(trainer: pl.Trainer) -> dict[str, Outcome]:
        return evaluate(job.protocols, method, profile, trainer.global_rank, trainer.world_size)

    interruption = Interruption()
    _tell_parts(settings, method)
    loggers = job.make_loggers(folder)
    callbacks: list[pl.Callback] = [
        *([WeightAverage(settings.ema.decay)] if settings.ema.decay is not None else []),
        MetricRecords(records, total, settings.loader.batch_size),
        Health(total),
        SameConfiguration(folder, job.config),
        *([Untrained(run_protocols, records)] if settings.evaluate_untrained else []),
        ToldValidations(),
        *job.make_callbacks(folder),
    ]
    if settings.trainer.get("enable_progress_bar") is not False and not any(
        isinstance(callback, pl.callbacks.ProgressBar) for callback in callbacks
    ):
        callbacks.append(Progress(total, settings.loader.batch_size))

    def about(trainer: pl.Trainer) -> dict[str, Any]:
        faces = job.data.training.faces
        return {
            "format": CHECKPOINT_FORMAT,
            "config": job.config,
            "preprocessing": faces.preprocessing.to_dict(),
            "num_classes": len(faces.people),
            "people": list(faces.people),
            "seed": job.seed,
            "batches": job.data.state_dict()["delivered"],
            "rng": "derived from (seed, step, rank)",
            "torch": str(torch.__version__),
        }

    resuming = Resume(folder.last, settings.resume.every_n_train_steps, total, about, interruption)
    callbacks.append(resuming)
    trainer = make_trainer(
        settings, profile, callbacks, loggers, math.ceil(total / method.steps_per_epoch), bool(job.data.validation)
    )

    resume = folder.last if folder.last.is_file() else None
    step = -1
    if resume is not None:
        content = read_checkpoint(resume)
        require_finite(method, content["state_dict"], resume)
        saved = content["kdface"]
        require_one_run(folder, job.config, saved, resume)
        step = int(saved["step"])
        # Lightning hands the loader its position only in the middle of an epoch.
        job.data.load_state_dict({"delivered": int(saved["batches"])})
    if rank_zero:
        records.rewind(step, total)
        if resume is not None:
            log.info("resuming at step %d of %d", step, total)
            forget_later(folder, step)
    for logger in loggers:
        attempt(partial(started, folder=folder.root), logger)
        if starts_anew(logger) and step > 0 and rank_zero:
            replay(logger, read(folder.metrics))
        logger.log_hyperparams(job.config)
    began = time.monotonic()
    status = "failed"
    try:
        try:
            with interruption.restored(), watched(rank, settings.world, lambda: interruption.asked, note):
                trainer.fit(method, datamodule=job.data, ckpt_path=resume, weights_only=True)
        except SystemExit as leave:
            if trainer.interrupted:  # Lightning turns Ctrl-C into exit code 1
                raise KeyboardInterrupt from leave
            raise
        except Exception as error:
            if interruption.asked:  # loader processes were asked too, and have gone
                raise KeyboardInterrupt from error
            if (lost := lost_worker(error)) is not None:  # torch says it wherever the run is at that moment
                raise lost from None
            if of_memory(error) is not None:
                raise
            if resume is not None and not resuming.began and isinstance(error, _OF_A_BAD_STATE):
                raise UserError(
                    f"resuming from {resume} failed: {type(error).__name__}: {' '.join(str(error).split())}.",
                    expected="the state that this run saved; without that file it begins anew",
                ) from error
            raise
        spent = time.monotonic() - began
        method.to(trainer.strategy.root_device)  # Lightning moves it to the CPU when it has trained
        with watched(rank, settings.world, lambda: interruption.asked, note):
            outcomes = run_protocols(trainer)
        results: dict[str, Any] = {
            "metrics": metrics_of(outcomes),
            "counts": {name: outcome.counts for name, outcome in outcomes.items()},
            "symptoms": {name: outcome.symptoms for name, outcome in outcomes.items() if outcome.symptoms},
            "operating_points": points_of(outcomes),
            "choices": {name: outcome.choices for name, outcome in outcomes.items() if outcome.choices},
            "step": trainer.global_step,
            "seed": job.seed,
            "skipped": [],
            "train_seconds": round(spent, 1),
            "resumed_at": step if resume is not None else None,
        }
        if rank_zero:
            record_evaluation(records, trainer.global_step, outcomes, but=validated_at(folder, trainer.global_step))
            for logger in loggers:
                logger.log_metrics(
                    {name: each["value"] for name, each in results["metrics"].items() if each["value"] is not None},
                    step=trainer.global_step - 1,
                )
            results["untrained"] = untrained_metrics(folder)
            results["skipped"] = skipped_images(folder)
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
        status = "success"
    finally:
        for logger in loggers:
            attempt(partial(close, status=status), logger)
    return results


def validated_at(folder: RunFolder, step: int) -> set[str]:
    """The test sets that the record has at a step already."""
    return {row["test"] for row in read(folder.metrics) if row["kind"] == "evaluation" and row["step"] == step}


def forget_later(folder: RunFolder, step: int) -> None:
    """Remove checkpoints of after the step that a killed run goes on from: it writes them again."""
    for path in folder.last.parent.glob("*.ckpt"):
        if path != folder.last and int(read_checkpoint(path)["kdface"]["step"]) > step:
            path.unlink()


def _tell_parts(settings: Settings, method: Method) -> None:
    """Of what loader.batch_size is made where that is not plain to see."""
    parts, batch = settings.world * settings.accumulate, settings.loader.batch_size
    if parts > 1 and launched_rank() == 0:
        log.info(
            "effective batch of %d images = %d rank(s) x %d part(s) x %d images",
            *(batch, settings.world, settings.accumulate, batch // parts),
        )
    if settings.accumulate > 1 and launched_rank() == 0 and method.normalises:
        log.warning(
            "trainer.accumulate_grad_batches=%d: batch normalisation sees parts of %d images, so the result differs "
            "from that of whole batches of %d",
            *(settings.accumulate, batch // settings.accumulate, batch),
        )


def require_whole_gradients(settings: Settings, profile: Profile) -> None:
    """Class weights that are divided over ranks have a gradient on one of them, which no other takes into account."""
    if settings.trainer.get("gradient_clip_val") is not None:
        raise UserError(
            "trainer.gradient_clip_val needs the norm of all gradients, and those of class weights are divided over "
            "the ranks.",
            fix="trainer.gradient_clip_val=null, or a head that is not divided (kdface list head)",
        )
    if profile.precision == "16-mixed":
        raise UserError(
            "with precision 16-mixed each rank leaves out steps by its own gradients, and class weights are divided "
            "over the ranks.",
            fix="trainer.precision=bf16-mixed",
        )


def make_trainer(
    settings: Settings,
    profile: Profile,
    callbacks: list[pl.Callback],
    loggers: list[Logger],
    max_epochs: int,
    validates: bool,
) -> pl.Trainer:
    """Lightning's Trainer with the run's arguments.

    Its `max_steps` is not used: with it Lightning takes a checkpoint of the end of an epoch for one of its middle, and
    goes on with too few steps. `Resume` ends training at the last step.
    """
    given = {name: value for name, value in settings.trainer.items() if name not in _OURS}
    strategy = given.get("strategy", "auto")
    fixed: dict[str, Any] = {
        "accelerator": profile.accelerator,
        "strategy": _strategy(strategy, settings.world),
        "precision": profile.precision,
        "max_epochs": max_epochs,
        "callbacks": callbacks,
        "plugins": [RunCheckpoints(), *given.pop("plugins", [])],
        "logger": loggers or False,
        "enable_progress_bar": any(isinstance(callback, pl.callbacks.ProgressBar) for callback in callbacks),
        "use_distributed_sampler": False,  # the loader divides each batch over the ranks itself
    }
    if not validates:
        fixed["limit_val_batches"] = 0
    try:
        return pl.Trainer(**{"enable_model_summary": False, "num_sanity_val_steps": 0, **given, **fixed})
    except (MisconfigurationException, ValueError, ImportError) as error:
        raise UserError(
            f"Lightning's Trainer refuses its arguments: {error}",
            expected="arguments that fit together and this machine",
        ) from None


def _strategy(name: Any, world: int) -> Any:
    """Ours in place of Lightning's DDP by name: the same, except where its store listens."""
    if world > 1 and name in ("auto", "ddp", "ddp_find_unused_parameters_true"):
        return LocalDDP(find_unused_parameters=name == "ddp_find_unused_parameters_true")
    return name


def machine(settings: Settings) -> tuple[Profile, int]:
    """The hardware profile and the CPU threads of each rank, which are set."""
    keep_freed_memory()
    given = settings.trainer
    profile = profile_for(settings.hardware.profile, given.get("accelerator", "auto"), given.get("precision"))
    threads = settings.hardware.threads or max(1, cores() // settings.devices)
    torch.set_num_threads(threads)
    return profile, threads


def evaluate(
    protocols: dict[str, EvaluationProtocol],
    method: Method,
    profile: Profile,
    rank: int = 0,
    world: int = 1,
) -> dict[str, Outcome]:
    """Run protocols on a method's evaluated network, in eval mode; the mode it was in is restored."""
    was_training = method.training
    method.eval()
    if world > 1:  # each rank has normalised by its own images; what is evaluated is what rank 0 saves
        for buffer in method.buffers():
            torch.distributed.broadcast(buffer, 0)
    embed = method.embed_for(rank, world)
    try:
        with forward_context(profile):
            outcomes = {name: protocol.evaluate(embed) for name, protocol in protocols.items()}
        for name, protocol in protocols.items():
            if left_out := getattr(protocol, "left_out", []):
                outcomes[name].choices["left_out"] = left_out
        return outcomes
    finally:
        method.train(was_training)


def metrics_of(outcomes: dict[str, Outcome]) -> dict[str, dict[str, float | None]]:
    """test set/metric -> {"value", "std"}."""
    return {
        f"{name}/{key}": metric.to_dict()
        for name, outcome in outcomes.items()
        for key, metric in outcome.metrics.items()
    }


def points_of(outcomes: dict[str, Outcome]) -> dict[str, list[dict[str, Any]]]:
    """test set -> its thresholds at false-accept rates; of verification only."""
    found = {name: outcome.operating_points() for name, outcome in outcomes.items()}
    return {name: points for name, points in found.items() if points}


def write_scores(folder: Path, outcomes: dict[str, Outcome]) -> None:
    """NAME.npz: raw similarities and labels, from which curves are drawn without the network."""
    for name, outcome in outcomes.items():
        if arrays := outcome.arrays():
            write_atomic(folder / f"{name}.npz", partial(_save_arrays, arrays))


def _save_arrays(arrays: dict[str, Any], path: Path) -> None:
    with open(path, "wb") as file:  # given a name, NumPy would append .npz to it
        np.savez(file, **arrays)


def note_environment(folder: RunFolder, now: dict[str, Any]) -> None:
    """Write environment.json at the first start; later, tell what differs, since bits may differ with it, and keep it
    under `resumed`."""
    path = folder.root / "environment.json"
    if not path.is_file():
        write_json(path, now)
        return
    before = folder.read_environment()
    differ = [
        key
        for key in ("packages", "processor", "gpu", "profile", "threads", "world_size")
        if before.get(key) != now[key]
    ]
    if differ:
        log.warning("this run began with other %s: it goes on, but not bit for bit", ", ".join(differ))
        later = [*before.get("resumed", []), {key: now[key] for key in differ}]
        if later[-1:] != later[-2:-1]:
            write_json(path, {**before, "resumed": later})


def quiet_libraries() -> None:
    """Lightning tells what kdface records itself, and advertises; what matters is raised, not printed."""
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning.fabric", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*`ckpt_path` .* you might lose .*")
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    warnings.filterwarnings("ignore", message=".*Total length of `list` across ranks is zero.*")  # no validation
    warnings.filterwarnings("ignore", message=".*smaller than the logging interval.*")
    warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists and is not empty.*")
    warnings.filterwarnings("ignore", message=".*`srun` command is available.*")  # a job may run beside SLURM
    warnings.filterwarnings(
        "ignore", message=".*in eval mode at the start of training.*"
    )  # frozen and averaged networks
