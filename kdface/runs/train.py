"""Train a job in its run folder, from the start or from its last checkpoint, and evaluate it at the end."""

from __future__ import annotations

import logging
import math
import os
import time
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

from kdface.backbones.synchronised_norm import synchronise
from kdface.datasets.loading import BatchOrder, ResumableLoader
from kdface.errors import UserError
from kdface.evaluation import Embedder, EvaluationProtocol, Outcome
from kdface.hardware import Profile, cores, forward_context, keep_freed_memory, profile_for
from kdface.heads.partial_fc import shard_heads
from kdface.methods import Method
from kdface.runs.callbacks import (
    Checkpoints,
    Evaluations,
    Recorder,
    SameConfiguration,
    record_evaluation,
    skipped_images,
    untrained_metrics,
)
from kdface.runs.checkpoint import RunCheckpoints, read_checkpoint
from kdface.runs.environment import environment
from kdface.runs.folder import RunFolder, write_atomic, write_json
from kdface.runs.identity import require_one_run
from kdface.runs.interruption import Interruption
from kdface.runs.job import Job
from kdface.runs.ranks import launched_rank, require_launched
from kdface.runs.records import Logger, Records
from kdface.runs.settings import Settings

log = logging.getLogger("kdface")
# Arguments that training heeds itself: the Trainer must not heed them once more.
_OURS = ("max_steps", "sync_batchnorm", "limit_train_batches", "overfit_batches")


def train(job: Job, folder: RunFolder) -> dict[str, Any]:
    """Train to the end, evaluate, write the results. Returns them.

    A run that was interrupted goes on at its last checkpoint and ends with the bytes of one that was not, on the
    same hardware and number of ranks.
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
    method.optimize_with(job.optimization)
    method.use_memory_format(profile.channels_last)
    if settings.hardware.compile:
        method.backbone.compile()

    if method.teacher is not None:
        local = os.environ.get("LOCAL_RANK", "0")
        method.teacher.to(f"cuda:{local}" if profile.accelerator == "gpu" else "cpu")
    method.before_training(job.training)

    sink = _open_logger(job, folder) if rank_zero else None
    records = Records(folder.metrics, sink, warn=log.warning)
    total = job.optimization.total_steps
    recorder = Recorder(records, settings.trainer.get("log_every_n_steps") or 50, total, settings.loader.batch_size)

    def run_protocols(module: Method, trainer: pl.Trainer) -> dict[str, Outcome]:
        return evaluate(job.protocols, module, profile, trainer.global_rank, trainer.world_size)

    def validate(module: Method, trainer: pl.Trainer) -> dict[str, Outcome]:
        return evaluate(job.validation, module, profile, trainer.global_rank, trainer.world_size)

    batches = BatchOrder(
        job.order, settings.accumulate, rank, settings.world, job.batches, bool(settings.trainer.get("overfit_batches"))
    )
    loader = ResumableLoader(
        job.training, batches, settings.loader.num_workers, pin_memory=profile.accelerator == "gpu"
    )
    interruption = Interruption()
    every = settings.trainer.get("check_val_every_n_epoch", 1) if job.validation else None
    _tell_parts(settings)
    trainer = make_trainer(
        settings,
        profile,
        [
            recorder,
            Evaluations(run_protocols, validate, records, every, settings.evaluate_untrained),
            SameConfiguration(folder, job.config),
            Checkpoints(
                folder, job.config, job.training.faces, loader, settings.resume.every_n_train_steps, total, interruption
            ),
        ],
        math.ceil(total / job.optimization.steps_per_epoch),
    )

    resume = folder.last if folder.last.is_file() else None
    step = -1
    if resume is not None:
        about = read_checkpoint(resume)["kdface"]
        require_one_run(folder, job.config, about, resume)
        step = int(about["step"])
        # Lightning hands the loader its position only in the middle of an epoch.
        loader.load_state_dict({"delivered": int(about["batches"])})
    if rank_zero:
        records.rewind(step, total)
        if resume is not None:
            log.info("resuming at step %d of %d", step, total)
    began = time.monotonic()
    try:
        try:
            with interruption.restored():
                trainer.fit(method, train_dataloaders=loader, ckpt_path=resume, weights_only=True)
        except SystemExit as leave:
            if trainer.interrupted:  # Lightning turns Ctrl-C into exit code 1
                raise KeyboardInterrupt from leave
            raise
        except Exception as error:
            if interruption.asked:  # loader processes were asked too, and have gone
                raise KeyboardInterrupt from error
            raise
        spent = time.monotonic() - began
        method.to(trainer.strategy.root_device)  # Lightning moves it to the CPU when it has trained
        outcomes = run_protocols(method, trainer)
        results = {
            "metrics": metrics_of(outcomes),
            "counts": {name: outcome.counts for name, outcome in outcomes.items()},
            "symptoms": {name: outcome.symptoms for name, outcome in outcomes.items() if outcome.symptoms},
            "choices": {name: outcome.choices for name, outcome in outcomes.items() if outcome.choices},
            "step": trainer.global_step,
            "seed": job.seed,
            "skipped": [],
            "train_seconds": round(spent, 1),
            "resumed_at": step if resume is not None else None,
        }
        if rank_zero:
            record_evaluation(records, trainer.global_step, outcomes)
            results["untrained"] = untrained_metrics(folder)
            results["skipped"] = skipped_images(folder)
            folder.require_there()
            write_scores(folder.scores, outcomes)
            write_json(folder.results, results)
    finally:
        records.close()
    return results


def _tell_parts(settings: Settings) -> None:
    """Of what loader.batch_size is made where that is not plain to see."""
    parts, batch = settings.world * settings.accumulate, settings.loader.batch_size
    if parts > 1 and launched_rank() == 0:
        log.info(
            "effective batch of %d images = %d rank(s) x %d part(s) x %d images",
            *(batch, settings.world, settings.accumulate, batch // parts),
        )


def require_whole_gradients(settings: Settings, profile: Profile) -> None:
    """Class weights that are divided over ranks have a gradient on one of them, which no other takes into account."""
    if settings.trainer.get("gradient_clip_val") is not None:
        raise UserError(
            "trainer.gradient_clip_val needs the norm of all gradients, and those of class weights are divided over "
            "the ranks.",
            mend="trainer.gradient_clip_val=null, or a head that is not divided (kdface list head)",
        )
    if profile.precision == "16-mixed":
        raise UserError(
            "with precision 16-mixed each rank leaves out steps by its own gradients, and class weights are divided "
            "over the ranks.",
            mend="trainer.precision=bf16-mixed",
        )


def _open_logger(job: Job, folder: RunFolder) -> Logger | None:
    """A logger that cannot start is told of and left out; what the user can mend is an error."""
    try:
        return job.make_logger(folder.root, folder.name)
    except UserError:
        raise
    except Exception as error:
        log.warning("the logger cannot start and is left out (%s); metrics.jsonl has everything", error)
        return None


def make_trainer(settings: Settings, profile: Profile, callbacks: list[pl.Callback], max_epochs: int) -> pl.Trainer:
    """Lightning's Trainer with the run's arguments.

    Its `max_steps` is not used: with it Lightning takes a checkpoint of the end of an epoch for one of its middle, and
    goes on with too few steps. `Checkpoints` ends training at the last step.
    """
    given = {name: value for name, value in settings.trainer.items() if name not in _OURS}
    strategy = given.get("strategy", "auto")
    fixed: dict[str, Any] = {
        "accelerator": profile.accelerator,
        "strategy": "ddp" if settings.world > 1 and strategy == "auto" else strategy,
        "precision": profile.precision,
        "max_epochs": max_epochs,
        "callbacks": callbacks,
        "plugins": [RunCheckpoints()],
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "limit_val_batches": 0,
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,  # the loader divides each batch over the ranks itself
    }
    return pl.Trainer(**{"enable_model_summary": False, **given, **fixed})


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
    device = next(method.backbone.parameters()).device
    embed = Embedder(
        method.embed,
        device,
        rank=rank,
        world=world,
        quality_network=method.quality,
        classifier=method.logits,
        people=method.people,
    )
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
    warnings.filterwarnings("ignore", message=".*`srun` command is available.*")  # a job may run beside SLURM
    warnings.filterwarnings(
        "ignore", message=".*in eval mode at the start of training.*"
    )  # frozen and averaged networks
