"""From a checked configuration to a run's objects; where parts do not fit each other, both sides are named here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from kdface.augmentations import Augmentation
from kdface.config.build import build
from kdface.config.check import convert
from kdface.config.locate import locate, parameters
from kdface.datasets.loading import TrainingSet
from kdface.errors import UserError, nearest
from kdface.evaluation import EvaluationProtocol
from kdface.faces import FaceSet, Preprocessing
from kdface.hardware import detect
from kdface.methods import Method, Optimization, Views
from kdface.randomness import derive
from kdface.runs.job import Job
from kdface.runs.settings import TrainerSettings

Tree = dict[str, Any]


def assemble(tree: Tree) -> Job:
    """Build everything one run needs. Raises `UserError` where parts do not fit or data is not there."""
    dataset: FaceSet = build(tree["dataset"], "dataset")
    augmentation: Augmentation = build(tree["augmentation"], "augmentation", image_size=dataset.preprocessing.size)
    protocols = build_protocols(tree, dataset.preprocessing)
    settings: TrainerSettings = convert(TrainerSettings, tree["trainer"])
    seed = int(tree["seed"])
    method = build_method(tree, dataset.preprocessing, len(dataset.people))
    _optimizer(tree, [torch.nn.Parameter(torch.zeros(1))], fused=False)  # a bad value is told of before training
    order = method.order(np.asarray(dataset.labels), settings.batch_size, seed)
    steps_per_epoch = len(order(0))
    total = settings.max_epochs * steps_per_epoch
    total = total if settings.max_steps is None else min(total, settings.max_steps)
    return Job(
        method=method,
        optimization=Optimization(
            optimizer=lambda params: _optimizer(tree, params, detect(settings.profile).fused),
            schedule=lambda optimizer, steps, epoch: _schedule(tree, optimizer, steps, epoch),
            total_steps=total,
            steps_per_epoch=steps_per_epoch,
            seed=seed,
            ema_decay=settings.ema_decay,
        ),
        training=TrainingSet(dataset, augmentation, seed, tree["dataset"]["on_error"]),
        order=order,
        protocols=protocols,
        settings=settings,
        seed=seed,
        config=tree,
        make_logger=lambda folder, name: (
            build(tree["logger"], "logger", folder=folder, run_name=name) if tree["logger"] else None
        ),
    )


def build_method(tree: Tree, preprocessing: Preprocessing, num_classes: int) -> Method:
    """The method with its networks, initialised from the run's seed."""
    torch.manual_seed(derive(int(tree["seed"]), "weights"))
    backbone = build(tree["backbone"], "backbone", image_size=preprocessing.size)
    head = None
    if tree["head"] is not None:
        if num_classes < 2:
            raise UserError(
                f"the head needs classes to tell apart, and the dataset has {num_classes} person.",
                mend="give a dataset with two people or more, or head=none",
            )
        head = build(tree["head"], "head", embedding_size=backbone.embedding_size, num_classes=num_classes)
    method = build(tree["method"], "method", backbone=backbone, head=head, preprocessing=preprocessing)
    assert isinstance(method, Method)
    return method


def check_parts(tree: Tree) -> None:
    """What parts say of themselves must fit: views made and views named, a head or none, a teacher or none.

    No data is looked at, so all jobs of a sweep can be checked before the first one starts.
    """
    method = locate(tree["method"]["_target_"])
    makes: tuple[str, ...] = getattr(locate(tree["augmentation"]["_target_"]), "views", ())
    wanted = convert(Views, tree["method"]["views"]).named() if "views" in tree["method"] else {}
    for role, view in wanted.items():
        if view not in makes:
            near = nearest(view, makes)
            raise UserError(
                f"method.views.{role} = {view!r}, and {tree['augmentation']['_target_']} makes no such view.",
                expected=f"one of the augmentation's views: {', '.join(makes)}",
                nearest=f"method.views.{role}={near}" if near else "",
                mend=f"method.views.{role}={makes[0]}, or another augmentation (kdface list augmentation)",
            )
    if tree["head"] is None and getattr(method, "needs_head", False):
        raise UserError(f"{tree['method']['_target_']} trains with a head, and head is none.", mend="kdface list head")
    if tree["teacher"] is not None and "teacher" not in parameters(method):
        raise UserError(
            f"{tree['method']['_target_']} has no teacher, and teacher is {tree['teacher']['_target_']}.",
            mend="teacher=none, or a method that distils (kdface list method)",
        )


def build_protocols(tree: Tree, preprocessing: Preprocessing) -> dict[str, EvaluationProtocol]:
    """The protocols by name; each must see the kind of image that the network is trained on."""
    protocols: dict[str, EvaluationProtocol] = {}
    shared: dict[str, Any] = {}  # test sets on one dataset share it, and so its embeddings
    for name, node in (tree["evaluation"] or {}).items():
        protocols[name] = build(node, shared=shared)
        preprocessing.require_equal(protocols[name].preprocessing, "the network", f"evaluation.{name}")
    return protocols


def _optimizer(tree: Tree, params: Iterable[Any], fused: bool) -> Optimizer:
    node = dict(tree["optimizer"])
    if fused and "fused" in parameters(locate(node["_target_"])):
        node.setdefault("fused", True)
    try:
        made = build(node, "optimizer", params=params)
    except ValueError as error:
        raise UserError(f"the optimizer cannot be built: {error}.", mend="kdface config why optimizer") from None
    assert isinstance(made, Optimizer)
    return made


def _schedule(tree: Tree, optimizer: Optimizer, total_steps: int, steps_per_epoch: int) -> LRScheduler:
    made = build(
        tree["scheduler"], "scheduler", optimizer=optimizer, total_steps=total_steps, steps_per_epoch=steps_per_epoch
    )
    assert isinstance(made, LRScheduler)
    return made
