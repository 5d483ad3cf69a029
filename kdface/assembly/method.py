"""Build a run's method and its networks, each for the images of its view."""

from __future__ import annotations

from typing import Any

import torch

from kdface.assembly.build import build
from kdface.assembly.parts import build_augmentation, build_backbone, build_head
from kdface.augmentations import Augmentation
from kdface.config.check import check_tree
from kdface.config.locate import locate, parameters
from kdface.errors import UserError
from kdface.faces import Preprocessing
from kdface.hardware import weights_dtype
from kdface.methods import Method, Views
from kdface.methods.start import Start
from kdface.randomness import derive
from kdface.runs.checkpoint import fill
from kdface.runs.opened import OpenedRun
from kdface.signature import from_plain
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
    """Build the method with its networks, initialised from the run's seed.

    A method with one network receives `backbone` and `head`, built for the student's view; a method that trains one
    network per role receives `networks` and `heads`, by role.

    Args:
        source: format of the dataset's images.
        num_classes: number of its people.
        load_network: loads the run of a teacher or of a network to start from; null: build the method for inference,
            without its teacher.
        rank, world: rank of this process and number of ranks, over which class weights are sharded if supported.
    """
    torch.manual_seed(derive(int(tree["seed"]), "weights"))
    takes = parameters(locate(tree["method"]["_target_"]))
    augmentation = build_augmentation(tree, source)
    views: Views = from_plain(Views, tree["method"]["views"])
    inputs = {role: augmentation.preprocessing(view, source) for role, view in views.named().items()}
    known: dict[str, Any] = {"preprocessing": inputs["student"], "inputs": inputs}
    roles = list(inputs) if "networks" in takes else ["student"]
    networks = {role: build_backbone(tree["backbone"], inputs[role].size) for role in roles}
    heads = {role: build_head(tree["head"], each, num_classes, rank, world) for role, each in networks.items()}
    start: Start | None = None
    if tree.get("weights") is not None and load_network is not None:
        start = _start(tree, networks, inputs, load_network)
    known |= {"networks": networks, "heads": heads, "backbone": networks["student"], "head": heads["student"]}
    known |= {"teacher": None, "load_network": load_network, "embedding_size": networks["student"].embedding_size}
    if tree["teacher"] is not None and load_network is not None:
        known["teacher"] = build(tree["teacher"], "teacher", load_network=load_network)
        _require_fit(known["teacher"], inputs.get("teacher"), views, augmentation)
        known["teacher"].require_finite()
    # Loading a teacher draws from the generator, so reseed for the method's own parameters.
    torch.manual_seed(derive(int(tree["seed"]), "weights", "method"))
    method = build(tree["method"], "method", **known)
    assert isinstance(method, Method)
    method.started_from = "" if start is None else start.fingerprint
    return method


def method_of(run: OpenedRun) -> Method:
    """The method of an opened run in eval mode, with weights and without its teacher."""
    config, about = run.config, run.about
    check_tree(config)
    method = build_method(config, run.source, int(about["num_classes"]), load_network=None)
    method.people = tuple(about.get("people", ()))
    if config["ema"]["decay"] is not None:
        method.add_average()
    if (dtype := weights_dtype(config["trainer"].get("precision"))) is not None:
        method.to(dtype)
    fill(method, run.weights, run.checkpoint)
    return method.eval()


def _start(tree: Tree, networks: dict[str, Any], inputs: dict[str, Preprocessing], load_network: LoadNetwork) -> Start:
    """Initialise the backbones from the configured weights."""
    own = {"start": "teacher", "start_from": ...}  # the method's own initialisation would overwrite them
    for name, value in tree["method"].items():
        if name in own and own[name] in (value, ...):
            raise UserError(
                f"method.{name} = {value!r} and weights both initialise the backbone.",
                fix="method.start=scratch" if name == "start" else "weights=none",
            )
    start: Start = build(tree["weights"], "weights", load_network=load_network)
    for role, network in networks.items():
        start.load_into(network, inputs[role])
    return start


def _require_fit(teacher: Teacher, view: Preprocessing | None, views: Views, augmentation: Augmentation) -> None:
    """Check that a teacher's view has the template and size it was trained on, and that embeddings from a file use the
    first view, the unchanged face."""
    if view is None:
        raise UserError(
            "a teacher is given, but method.views.teacher = null.", fix=f"method.views.teacher={augmentation.views[0]}"
        )
    teacher.require_sees(view, f"the view {views.teacher}")
    first = augmentation.views[0]
    if isinstance(teacher, StoredTeacher) and views.teacher != first:
        raise UserError(
            f"method.views.teacher = {views.teacher!r}, but embeddings from a file belong to the unchanged faces.",
            expected=f"{first}, the view of the unchanged face",
            fix=f"method.views.teacher={first}",
        )
