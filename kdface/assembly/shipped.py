"""Build the evaluated network of a run without its method, Lightning, teacher or dataset."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kdface.assembly.build import build
from kdface.assembly.parts import build_augmentation, build_backbone, build_head
from kdface.backbones.graded import Graded
from kdface.config.check import check_part
from kdface.config.locate import locate
from kdface.config.source import signature
from kdface.errors import UserError
from kdface.faces import Preprocessing
from kdface.hardware import weights_dtype
from kdface.runs.checkpoint import fill
from kdface.runs.opened import OpenedRun

OURS = "kdface.methods."
Grade = Callable[[Tensor], Tensor]  # (N, D) embeddings, not normalised -> (N,) quality, higher is better


@dataclass(frozen=True)
class Shipped:
    """Attributes:
    network: (N, 3, H, W), (pixel - mean) / std -> (N, D), not normalised; in eval mode.
    preprocessing: its image format.
    grade: face-image quality of embeddings; null: not supported.
    resizes: whether it was trained on crops downsized to its image size.
    """

    network: nn.Module
    preprocessing: Preprocessing
    grade: Grade | None
    resizes: bool


def shipped(run: OpenedRun) -> Shipped:
    """Build the evaluated network of a run: the student, or its weight average.

    Raises `UserError` if the weights do not fit the configuration or are not finite.
    """
    target = str(run.config["method"]["_target_"])
    resizes = is_resized(run.config["dataset"])
    if not target.startswith(OURS):  # methods of other packages decide what they export
        from kdface.assembly.method import method_of  # imports Lightning

        method = method_of(run)
        grade = getattr(method.head, "quality", None) if method.grades else None
        return Shipped(method.embedder.eval(), method.preprocessing, grade, resizes)
    augmentation = build_augmentation(run.config, run.source)
    preprocessing = augmentation.preprocessing(run.config["method"]["views"]["student"], run.source)
    grade = None
    with torch.random.fork_rng(devices=[]):  # the random initialisation is overwritten
        network = build_backbone(run.config["backbone"], preprocessing.size)
        if target == f"{OURS}AIKD":
            network = Graded(network, int(run.config["method"]["hidden"]))
            grade = network.grade if run.config["method"]["quality_weight"] > 0 else None
    dtype = weights_dtype(run.config["trainer"].get("precision"))
    if dtype is not None:
        network.to(dtype)
    fill(network, own_weights(run.weights, "networks" in signature(target)), run.checkpoint)
    if run.config["head"] is not None and hasattr(locate(run.config["head"]["_target_"]), "quality"):
        grade = _grading_head(run, network, dtype).quality
    return Shipped(network.eval(), preprocessing, grade, resizes)


def _grading_head(run: OpenedRun, network: nn.Module, dtype: torch.dtype | None) -> Any:
    with torch.random.fork_rng(devices=[]):
        head = build_head(run.config["head"], network, int(run.about["num_classes"]))
    assert head is not None
    if dtype is not None:
        head.to(dtype)
    fill(
        head,
        {key.removeprefix("head."): weight for key, weight in run.weights.items() if key[:5] == "head."},
        run.checkpoint,
    )
    return head.eval()


def own_weights(weights: Mapping[str, Tensor], paired: bool) -> dict[str, Tensor]:
    """The weights of the evaluated network within a method's weights, under the network's own names.

    Args:
        weights: weights of the whole method. An averaged copy of the backbone takes precedence.
        paired: the backbone is a pair of networks (`kdface.backbones.paired.Paired`); use its student.
    """
    prefix = "averaged." if any(key.startswith("averaged.") for key in weights) else "backbone."
    own = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
    if not paired:
        return own
    parts = ("shared.", "own.student.")
    return {key.removeprefix(part): weight for part in parts for key, weight in own.items() if key.startswith(part)}


def build_exported(
    about: Mapping[str, Any], weights: Mapping[str, Tensor], origin: Path
) -> tuple[nn.Module, Grade | None]:
    """Build the network of an exported file from its metadata, with its grade, if any.

    Raises `UserError` if the backbone is unknown or the weights do not fit, before allocating memory for the network.
    """
    if "backbone" not in about:
        raise UserError(f"{origin} does not state its backbone.", expected="a file that kdface export wrote")
    try:
        check_part(about["backbone"], "backbone")
    except UserError as error:
        raise UserError(f"{origin}: {error.problem}", expected=error.expected) from None
    size = Preprocessing.from_dict(dict(about["preprocessing"])).size
    dtype = next((value.dtype for value in weights.values() if value.dtype.is_floating_point), torch.float32)
    hidden = int(about.get("quality_hidden") or 0)

    def made() -> nn.Module:
        backbone = build(about["backbone"], "backbone", image_size=size)
        return (Graded(backbone, hidden) if hidden else backbone).to(dtype)

    with torch.device("meta"):
        fill(made(), {name: value.to("meta") for name, value in weights.items()}, origin)
    with torch.random.fork_rng(devices=[]):
        network = made()
    fill(network, dict(weights), origin)
    return network.eval(), network.grade if isinstance(network, Graded) else None


def is_resized(node: Mapping[str, Any]) -> bool:
    """Whether a dataset is, or wraps, a `kdface.datasets.Resized`."""
    return node.get("_target_") == "kdface.datasets.Resized" or any(
        is_resized(item) for item in node.values() if isinstance(item, Mapping) and "_target_" in item
    )
