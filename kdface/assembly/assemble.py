"""Build a run's objects from a checked configuration; errors name both parts that do not fit together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from kdface.assembly.build import build
from kdface.assembly.job import Job
from kdface.assembly.load import load_network
from kdface.assembly.method import build_method
from kdface.assembly.parts import build_augmentation
from kdface.config.locate import locate, parameters
from kdface.config.settings import (
    EMASettings,
    HardwareSettings,
    LoaderSettings,
    ResumeSettings,
    Settings,
    limited_batches,
)
from kdface.datasets.loading import TrainingSet
from kdface.errors import UserError, nearest
from kdface.evaluation import EvaluationProtocol, require_fits
from kdface.evaluation.protocol import require_protocol
from kdface.faces import FaceSet
from kdface.hardware import profile_for
from kdface.lightning import FaceData
from kdface.methods import Method, Optimization
from kdface.runs.ranks import launched_rank
from kdface.signature import from_plain

Tree = dict[str, Any]


def assemble(tree: Tree, sharded: bool = True) -> Job:
    """Build everything a run needs. Raises `UserError` if parts do not fit together or data is missing.

    Args:
        tree: the configuration.
        sharded: draw only this rank's rows of class weights that a run divides over its ranks; false: all of them.
    """
    whole: FaceSet = build(tree["dataset"], "dataset")
    validation = tree.get("validation") or {}
    dataset = _without_held_out(whole, validation)
    augmentation = build_augmentation(tree, dataset.preprocessing)
    settings = settings_of(tree)
    seed = int(tree["seed"])
    people = len(dataset.people)
    rank, world = (launched_rank(), settings.world) if sharded else (0, 1)
    method = build_method(tree, dataset.preprocessing, people, load_network, rank, world)
    method.people = tuple(dataset.people)
    method.require_people()
    if method.teacher is not None:
        method.teacher.require_knows(dataset)
    protocols = build_protocols(tree["evaluation"] or {}, method)
    trial = _optimizer(tree["optimizer"], [torch.nn.Parameter(torch.zeros(1))], fused=False)
    _require_known_keys(trial, method)

    def fused() -> bool:
        given = settings.trainer
        return profile_for(settings.hardware.profile, given.get("accelerator", "auto"), given.get("precision")).fused

    if tree.get("freeze"):
        method.freeze_parts(tree["freeze"])
    order = method.order(np.asarray(dataset.labels), settings.loader.batch_size, seed, settings.accumulate)
    _check_parts_of_batches(method, settings)
    batches = limited_batches(settings.trainer, len(order(0)) * settings.accumulate)
    steps_per_epoch = -(-batches // settings.accumulate)
    epochs = 1 if settings.trainer.get("fast_dev_run") else settings.trainer.get("max_epochs")
    steps = int(settings.trainer.get("max_steps", -1))
    ends = [int(epochs) * steps_per_epoch] if epochs not in (None, -1) else []
    total = min([*ends, steps] if steps != -1 else ends)
    _schedule(tree["scheduler"], trial, total, steps_per_epoch)  # fails before training
    method.optimize_with(
        Optimization(
            optimizer=lambda params: _optimizer(tree["optimizer"], params, fused()),
            schedule=lambda optimizer, steps, epoch: _schedule(tree["scheduler"], optimizer, steps, epoch),
            seed=seed,
            total_steps=total,
            steps_per_epoch=steps_per_epoch,
            gradient_clip=tree.get("gradient_clip") or {},
            lr_scale=tree.get("lr_scale") or {},
        )
    )
    data = FaceData(
        TrainingSet(dataset, augmentation, seed, tree["dataset"]["on_error"]),
        order,
        validation=build_protocols(validation, method, "validation", whole),
        test=protocols,
        num_workers=settings.loader.num_workers,
        timeout=settings.loader.timeout,
        batches=batches,
        overfit=bool(settings.trainer.get("overfit_batches")),
    )
    return Job(method, data, settings, tree)


def _without_held_out(dataset: FaceSet, validation: Tree) -> FaceSet:
    """The training set without the images held out for validation."""
    for node in validation.values():
        part = node.get("dataset") or {}
        if part.get("_target_") == "kdface.datasets.HeldOut":
            dataset = build({**part, "rest": True}, training_faces=dataset)
    return dataset


def settings_of(tree: Tree) -> Settings:
    """The training settings of a checked configuration."""
    return Settings(
        trainer=tree["trainer"],
        loader=from_plain(LoaderSettings, tree["loader"]),
        hardware=from_plain(HardwareSettings, tree["hardware"]),
        ema=from_plain(EMASettings, tree["ema"]),
        resume=from_plain(ResumeSettings, tree["resume"]),
        evaluate_untrained=tree.get("evaluate_untrained", False),
    )


def build_protocols(
    nodes: Tree, method: Method, group: str = "evaluation", training: FaceSet | None = None
) -> dict[str, EvaluationProtocol]:
    """The protocols of a group by name. Their images must match a view of the method."""
    protocols: dict[str, EvaluationProtocol] = {}
    shared: dict[str, Any] = {}  # test sets share a dataset, and thus its embeddings
    for name, node in nodes.items():
        made = build(node, path=f"{group}.{name}", shared=shared, load_network=load_network, training_faces=training)
        require_protocol(made, f"{group}.{name}")
        protocols[name] = made
        require_fits(made, method, f"{group}.{name}")
        for faces in made.datasets:
            if faces.preprocessing not in method.sees:
                method.preprocessing.require_equal(faces.preprocessing, "the network", f"{group}.{name}")
    return protocols


def _optimizer(node: Tree, params: Iterable[Any], fused: bool) -> Optimizer:
    if fused and "fused" in parameters(locate(node["_target_"])):
        node = {"fused": True, **node}
    made = build(node, "optimizer", params=params)
    assert isinstance(made, Optimizer)
    return made


def _check_parts_of_batches(method: Method, settings: Settings) -> None:
    """Raise `UserError` if a part of a batch is too small for BatchNorm."""
    size, parts, world = settings.loader.batch_size, settings.accumulate, settings.world
    together = bool(settings.trainer.get("sync_batchnorm")) and world > 1
    if size // (parts * world) == 1 and method.normalises_vectors and not together:
        raise UserError(
            f"loader.batch_size = {size} in {parts} part(s) on {world} rank(s) leaves one image per part, but "
            "BatchNorm needs two.",
            fix=f"loader.batch_size={2 * parts * world}"
            + (f", or trainer.accumulate_grad_batches={max(1, size // (2 * world))}" if parts > 1 else ""),
        )


def _require_known_keys(optimizer: Optimizer, method: Method) -> None:
    """Raise `UserError` for settings of a parameter group that the optimiser would ignore."""
    for group in method.parameter_groups():
        for key in set(group) - {"params", "lr_scale"} - set(optimizer.defaults) if isinstance(group, dict) else ():
            raise UserError(
                f"{key} = {group[key]!r} is set for a parameter group of {type(method).__name__}, but "
                f"{type(optimizer).__name__} has no {key}.",
                expected=f"one of lr_scale, {', '.join(sorted(optimizer.defaults))}",
                nearest=nearest(key, list(optimizer.defaults)),
                fix="method.backbone_group=null, or optimizer=sgd",
            )


def _schedule(node: Tree, optimizer: Optimizer, total_steps: int, steps_per_epoch: int) -> LRScheduler:
    made = build(node, "scheduler", optimizer=optimizer, total_steps=total_steps, steps_per_epoch=steps_per_epoch)
    assert isinstance(made, LRScheduler)
    return made
