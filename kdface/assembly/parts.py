"""Build and check the parts of a run that are needed without its method: augmentation, backbone, head."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any, cast

import torch

from kdface.assembly.build import build
from kdface.augmentations import Augmentation, Piped
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


def build_backbone(node: Tree, size: tuple[int, int]) -> torch.nn.Module:
    """The backbone for images of (height, width) pixels."""
    network: torch.nn.Module = build(node, "backbone", image_size=size)
    _require_backbone(network, size)
    return network


def build_head(
    node: Tree | None, network: Any, num_classes: int, rank: int = 0, world: int = 1
) -> torch.nn.Module | None:
    """The head, null if there is none. A sharded head initialises only the rows of this rank.

    Raises `UserError` for fewer than two classes.
    """
    if node is None:
        return None
    if num_classes < 2:
        raise UserError(
            f"the head needs at least two classes, but the dataset has {num_classes} person.",
            fix="use a dataset with at least two people",
        )
    divided = world > 1 and node["_target_"].endswith(".PartialFC")
    with OwnRows(num_classes, rank, world) if divided else nullcontext():
        head = build(node, "head", embedding_size=network.embedding_size, num_classes=num_classes)
    assert isinstance(head, torch.nn.Module)
    _require_head(head, network.embedding_size)
    return head


def _require_backbone(network: Any, size: tuple[int, int]) -> None:
    """Check that a backbone is a module (N, 3, H, W) -> (N, D) with D as `embedding_size`, which is inferred from one
    image if missing. Raises `UserError` otherwise."""
    if hasattr(network, "embedding_size"):
        return
    contract = "a torch.nn.Module: images (N, 3, H, W) -> embeddings (N, D), with the attribute embedding_size = D"
    name = f"backbone {type(network).__name__}"
    if not isinstance(network, torch.nn.Module):
        raise UserError(f"{name} is not a module.", expected=contract)
    failure = f"{name} has no embedding_size and fails on an image of {size[0]}x{size[1]}"
    found = _output(network, failure, contract, torch.zeros(1, 3, *size))
    if not isinstance(found, torch.Tensor) or found.ndim != 2 or len(found) != 1:
        made = f"a tensor {tuple(found.shape)}" if isinstance(found, torch.Tensor) else type(found).__name__
        raise UserError(f"{name} returns {made} for an image.", expected=contract)
    network.embedding_size = found.shape[1]  # type: ignore[assignment]


def _require_head(head: torch.nn.Module, embedding_size: int) -> None:
    """Check that a head is a module (embeddings (N, D), labels (N,)) -> `HeadOutput`. Raises `UserError` otherwise."""
    if isinstance(head, Head | PartialFC):
        return
    output = "kdface.heads.HeadOutput(loss, logits (N, C), cosine (N, C)), given by position"
    contract = f"(embeddings (N, D), labels (N,)) -> {output}"
    name = f"head {type(head).__name__}"
    embeddings, labels = torch.eye(2, embedding_size), torch.tensor([0, 1])
    found = _output(head, f"{name} fails on two embeddings", contract, embeddings, labels)
    if not isinstance(found, HeadOutput):
        raise UserError(f"{name} returns a {type(found).__name__}.", expected=contract)


def _output(module: torch.nn.Module, failure: str, contract: str, *inputs: torch.Tensor) -> Any:
    """The output of a module in eval mode, leaving its mode and the generator as they were. Raises `UserError`."""
    mode = module.training
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            return module.eval()(*inputs)
    except Exception as error:
        raise UserError(f"{failure}: {error}", expected=contract) from None
    finally:
        module.train(mode)
