"""A run's method with its networks: which view each network sees, and so for what images it is built."""

from __future__ import annotations

from typing import Any

import torch

from kdface.augmentations import Augmentation
from kdface.config.build import build
from kdface.config.check import convert
from kdface.config.locate import locate, parameters
from kdface.config.parts import build_augmentation, build_backbone, build_head
from kdface.errors import UserError
from kdface.faces import Preprocessing
from kdface.methods import Method, Views
from kdface.methods.start import Start
from kdface.randomness import derive
from kdface.teachers import StoredTeacher, Teacher
from kdface.teachers.frozen import LoadNetwork

Tree = dict[str, Any]


def build_method(
    tree: Tree,
    source: Preprocessing,
    num_classes: int,
    load_network: LoadNetwork | None,
    rank: int = 0,
    world: int = 1,
) -> Method:
    """The method with its networks, initialised from the run's seed.

    A method that has one network is given `backbone` and `head`, made for the student's view; one that trains a
    network for each role is given `networks` and `heads`, by role.

    Args:
        source: the dataset's images.
        num_classes: its people.
        load_network: how the run of a teacher, or of a network to start from, is loaded; null: the method is built for
            use, without its teacher.
        rank, world: of the process, over which class weights will be divided that can be.
    """
    torch.manual_seed(derive(int(tree["seed"]), "weights"))
    takes = parameters(locate(tree["method"]["_target_"]))
    augmentation = build_augmentation(tree, source)
    views: Views = convert(Views, tree["method"]["views"])
    inputs = {role: augmentation.preprocessing(view, source) for role, view in views.named().items()}
    known: dict[str, Any] = {"preprocessing": inputs["student"], "inputs": inputs}
    roles = list(inputs) if "networks" in takes else ["student"]
    networks = {role: build_backbone(tree, inputs[role].size) for role in roles}
    heads = {role: build_head(tree, network, num_classes, rank, world) for role, network in networks.items()}
    start: Start | None = None
    if tree.get("weights") is not None and load_network is not None:
        start = _start(tree, networks, inputs, load_network)
    known |= {"networks": networks, "heads": heads, "backbone": networks["student"], "head": heads["student"]}
    known |= {"teacher": None, "load_network": load_network, "embedding_size": networks["student"].embedding_size}
    if tree["teacher"] is not None and load_network is not None:
        known["teacher"] = build(tree["teacher"], "teacher", load_network=load_network)
        _require_fit(known["teacher"], inputs.get("teacher"), views, augmentation)
        known["teacher"].require_finite()
    # Loading a teacher draws from the generator; what the method itself adds is drawn from the run's seed all the same.
    torch.manual_seed(derive(int(tree["seed"]), "weights", "method"))
    method = build(tree["method"], "method", **known)
    assert isinstance(method, Method)
    method.started_from = "" if start is None else start.fingerprint
    return method


def _start(tree: Tree, networks: dict[str, Any], inputs: dict[str, Preprocessing], load_network: LoadNetwork) -> Start:
    """Give the backbones the weights that they are to start with."""
    own = {"start": "teacher", "start_from": ...}  # what a method starts from by itself would take their place
    for name, value in tree["method"].items():
        if name in own and own[name] in (value, ...):
            raise UserError(
                f"method.{name} = {value!r} says what the backbone starts with, and so does weights.",
                fix="method.start=scratch" if name == "start" else "weights=none",
            )
    start: Start = build(tree["weights"], "weights", load_network=load_network)
    for role, network in networks.items():
        start.load_into(network, inputs[role])
    return start


def _require_fit(teacher: Teacher, view: Preprocessing | None, views: Views, augmentation: Augmentation) -> None:
    """Template and size of a teacher's view must be those that it was trained on; embeddings of a file are of the face
    as it is, the first view."""
    if view is None:
        raise UserError(
            "a teacher is given, and method.views.teacher = null.", fix=f"method.views.teacher={augmentation.views[0]}"
        )
    teacher.require_sees(view, f"the view {views.teacher}")
    first = augmentation.views[0]
    if isinstance(teacher, StoredTeacher) and views.teacher != first:
        raise UserError(
            f"method.views.teacher = {views.teacher!r}, and the embeddings of a file are of the faces as they are.",
            expected=f"{first}, the view of the face as it is",
            fix=f"method.views.teacher={first}",
        )
