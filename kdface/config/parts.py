"""Build and check the parts of a run that are needed without its method: augmentation, backbone, head."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any, cast

import torch

from kdface.augmentations import Augmentation, Piped
from kdface.config.build import build
from kdface.errors import UserError
from kdface.faces import Preprocessing
from kdface.heads import Head, HeadOutput, PartialFC
from kdface.heads.own_rows import OwnRows

Tree = Mapping[str, Any]


def build_augmentation(tree: Tree, preprocessing: Preprocessing) -> Augmentation:
    """The augmentation for the images of a dataset, with the transforms before and after it."""
    node = tree["augmentation"]
    made: Augmentation = build(node, "augmentation", image_size=preprocessing.size)
    before, after = node.get("before", []), node.get("after", {})
    return cast(Augmentation, Piped(made, before, after)) if before or any(after.values()) else made


def build_backbone(tree: Tree, size: tuple[int, int]) -> torch.nn.Module:
    """The backbone for images of (height, width) pixels."""
    network: torch.nn.Module = build(tree["backbone"], "backbone", image_size=size)
    _require_backbone(network, size)
    return network


def build_head(tree: Tree, network: Any, num_classes: int, rank: int = 0, world: int = 1) -> torch.nn.Module | None:
    """The head, null if the configuration has none. A sharded head initialises only the rows of this rank.

    Raises `UserError` for fewer than two classes.
    """
    if tree["head"] is None:
        return None
    if num_classes < 2:
        raise UserError(
            f"the head needs at least two classes, but the dataset has {num_classes} person.",
            fix="use a dataset with at least two people",
        )
    divided = world > 1 and tree["head"]["_target_"].endswith(".PartialFC")
    with OwnRows(num_classes, rank, world) if divided else nullcontext():
        head = build(tree["head"], "head", embedding_size=network.embedding_size, num_classes=num_classes)
    assert isinstance(head, torch.nn.Module)
    _require_head(head, network.embedding_size)
    return head


def _require_backbone(network: Any, size: tuple[int, int]) -> None:
    """Check that a backbone is a module (N, 3, H, W) -> (N, D) with D as `embedding_size`, which is inferred from one
    image if missing. Raises `UserError` otherwise."""
    if hasattr(network, "embedding_size"):
        return
    contract = "a torch.nn.Module: images (N, 3, H, W) -> embeddings (N, D), with the attribute embedding_size = D"
    name = type(network).__name__
    if not isinstance(network, torch.nn.Module):
        raise UserError(f"backbone {name} is not a module.", expected=contract)
    mode = network.training
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            found = network.eval()(torch.zeros(1, 3, *size))
    except Exception as error:
        raise UserError(
            f"backbone {name} has no embedding_size and fails on an image of {size[0]}x{size[1]}: {error}",
            expected=contract,
        ) from None
    network.train(mode)
    if not isinstance(found, torch.Tensor) or found.ndim != 2 or len(found) != 1:
        made = f"a tensor {tuple(found.shape)}" if isinstance(found, torch.Tensor) else type(found).__name__
        raise UserError(f"backbone {name} returns {made} for an image.", expected=contract)
    network.embedding_size = found.shape[1]  # type: ignore[assignment]


def _require_head(head: torch.nn.Module, embedding_size: int) -> None:
    """Check that a head is a module (embeddings (N, D), labels (N,)) -> `HeadOutput`. Raises `UserError` otherwise."""
    if isinstance(head, Head | PartialFC):
        return
    contract = "(embeddings (N, D), labels (N,)) -> kdface.heads.HeadOutput(loss, logits (N, C), cosine (N, C))"
    mode = head.training
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            found = head.eval()(torch.eye(2, embedding_size), torch.tensor([0, 1]))
    except Exception as error:
        raise UserError(f"head {type(head).__name__} fails on two embeddings: {error}", expected=contract) from None
    head.train(mode)
    if not isinstance(found, HeadOutput):
        raise UserError(f"head {type(head).__name__} returns a {type(found).__name__}.", expected=contract)
