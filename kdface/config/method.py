"""A run's method with its networks: which view each network sees, and so for what images it is built."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import torch

from kdface.augmentations import Augmentation, Piped
from kdface.config.build import build
from kdface.config.check import convert
from kdface.config.locate import locate, parameters
from kdface.errors import UserError
from kdface.faces import Preprocessing
from kdface.heads import Head, HeadOutput, PartialFC
from kdface.methods import Method, Views
from kdface.randomness import derive
from kdface.teachers.frozen import LoadNetwork

Tree = dict[str, Any]


def build_augmentation(tree: Tree, preprocessing: Preprocessing) -> Augmentation:
    """The augmentation, for images of a dataset's kind, with what stands before and after it."""
    node = tree["augmentation"]
    made: Augmentation = build(node, "augmentation", image_size=preprocessing.size)
    before, after = node.get("before", []), node.get("after", {})
    return cast(Augmentation, Piped(made, before, after)) if before or any(after.values()) else made


def build_method(tree: Tree, source: Preprocessing, num_classes: int, load_network: LoadNetwork | None) -> Method:
    """The method with its networks, initialised from the run's seed.

    A method that has one network is given `backbone` and `head`, made for the student's view; one that trains a
    network for each role is given `networks` and `heads`, by role.

    Args:
        source: the dataset's images.
        num_classes: its people.
        load_network: how the run of a teacher, or of a network to start from, is loaded; null: the method is built for
            use, without its teacher.
    """
    torch.manual_seed(derive(int(tree["seed"]), "weights"))
    takes = parameters(locate(tree["method"]["_target_"]))
    augmentation = build_augmentation(tree, source)
    views: Views = convert(Views, tree["method"]["views"])
    inputs = {role: augmentation.preprocessing(view, source) for role, view in views.named().items()}
    known: dict[str, Any] = {"preprocessing": inputs["student"], "inputs": inputs}
    roles = list(inputs) if "networks" in takes else ["student"]
    networks = {role: build(tree["backbone"], "backbone", image_size=inputs[role].size) for role in roles}
    for role, network in networks.items():
        _require_backbone(network, inputs[role].size)
    heads = {role: _head(tree, network, num_classes) for role, network in networks.items()}
    known |= {"networks": networks, "heads": heads, "backbone": networks["student"], "head": heads["student"]}
    known |= {"teacher": None, "load_network": load_network, "embedding_size": networks["student"].embedding_size}
    if tree["teacher"] is not None and load_network is not None:
        known["teacher"] = build(tree["teacher"], "teacher", load_network=load_network)
        _require_fit(known["teacher"].preprocessing, inputs.get("teacher"), views)
    # Loading a teacher draws from the generator; what the method itself adds is drawn from the run's seed all the same.
    torch.manual_seed(derive(int(tree["seed"]), "weights", "method"))
    method = build(tree["method"], "method", **known)
    assert isinstance(method, Method)
    return method


def _require_fit(teacher: Preprocessing, view: Preprocessing | None, views: Views) -> None:
    """A teacher normalises its view itself; template and size must be those that it was trained on."""
    if view is None:
        raise UserError(
            "a teacher is given, and method.views.teacher = null.", fix="method.views.teacher=VIEW, or teacher=none"
        )
    same = replace(teacher, color=view.color, mean=view.mean, std=view.std)
    same.require_equal(view, "the teacher", f"the view {views.teacher}")


def _head(tree: Tree, network: Any, num_classes: int) -> torch.nn.Module | None:
    if tree["head"] is None:
        return None
    if num_classes < 2:
        raise UserError(
            f"the head needs classes to tell apart, and the dataset has {num_classes} person.",
            fix="give a dataset with two people or more, or head=none",
        )
    head = build(tree["head"], "head", embedding_size=network.embedding_size, num_classes=num_classes)
    assert isinstance(head, torch.nn.Module)
    _require_head(head, network.embedding_size)
    return head


def _require_backbone(network: Any, size: tuple[int, int]) -> None:
    """A backbone is a module, (N, 3, H, W) -> (N, D), with D as `embedding_size`; asked for by one image if it is not
    there. Raises `UserError` if the network is none."""
    if hasattr(network, "embedding_size"):
        return
    contract = "a torch.nn.Module: images (N, 3, H, W) -> embeddings (N, D), with the attribute embedding_size = D"
    name = type(network).__name__
    if not isinstance(network, torch.nn.Module):
        raise UserError(f"backbone {name} is no module.", expected=contract)
    mode = network.training
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            found = network.eval()(torch.zeros(1, 3, *size))
    except Exception as error:
        raise UserError(
            f"backbone {name} has no embedding_size, and fails for an image of {size[0]}x{size[1]}: {error}",
            expected=contract,
        ) from None
    network.train(mode)
    if not isinstance(found, torch.Tensor) or found.ndim != 2 or len(found) != 1:
        made = f"a tensor {tuple(found.shape)}" if isinstance(found, torch.Tensor) else type(found).__name__
        raise UserError(f"backbone {name} makes {made} of an image.", expected=contract)
    network.embedding_size = found.shape[1]  # type: ignore[assignment]


def _require_head(head: torch.nn.Module, embedding_size: int) -> None:
    """A head is a module, (embeddings (N, D), labels (N,)) -> `HeadOutput`. Raises `UserError` if it is not."""
    if isinstance(head, Head | PartialFC):
        return
    contract = "(embeddings (N, D), labels (N,)) -> kdface.heads.HeadOutput(loss, logits (N, C), cosine (N, C))"
    mode = head.training
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            found = head.eval()(torch.eye(2, embedding_size), torch.tensor([0, 1]))
    except Exception as error:
        raise UserError(f"head {type(head).__name__} fails for two embeddings: {error}", expected=contract) from None
    head.train(mode)
    if not isinstance(found, HeadOutput):
        raise UserError(f"head {type(head).__name__} returns a {type(found).__name__}.", expected=contract)
