"""Infer the backbone of a state dict, with its depth, width and embedding size, from names and shapes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor

from kdface.backbones.dialects import ADAFACE, INSIGHTFACE_MOBILE

COUNTER = "num_batches_tracked"  # missing in older files; only used by cumulative BatchNorm
_BLOCK = re.compile(r"^layer([1-4])\.(\d+)\.")
_LIKENESS = 0.5  # minimum Jaccard index of the names for a similar backbone


def inferred(weights: Mapping[str, Tensor]) -> dict[str, Any] | None:
    """`_target_` and arguments, without image size and dropout; null: not a kdface backbone.

    Omits what names and shapes do not determine, such as the order of an SFNet without BatchNorm on OpenSphere's
    branch v0.
    """
    if ADAFACE in weights:
        return _adaface(weights)
    if INSIGHTFACE_MOBILE in weights:
        return _insightface_mobile(weights)
    if "conv1.weight" in weights and "features.running_mean" in weights and "fc.weight" in weights:
        return _iresnet(weights)
    opening = {"layer1.0.conv.weight", "layer1.0.conv1.weight"} & weights.keys()
    if opening and "fc.weight" in weights and "conv1.weight" not in weights:
        return _sfnet(weights)
    found = _shapes(weights)
    alike = {name: known for name, known in _public().items() if known.keys() == found.keys()}
    if not alike:
        return None
    name = max(alike, key=lambda like: len(alike[like].items() & found.items()))
    return _part(name, embedding_size=_embedding_size(weights))


def nearest_backbone(weights: Mapping[str, Tensor]) -> str:
    """The backbone of these weights, or the most similar public one; empty: none is similar.

    Similarity is the Jaccard index of the key sets, then the number of equal shapes.
    """
    if (exact := inferred(weights)) is not None:
        name, arguments = exact["_target_"].rpartition(".")[2], {**exact}
        arguments.pop("_target_")
        told = ", ".join(f"{key}={str(value).lower()}" for key, value in arguments.items())
        return f"{name} with {told}" if told else str(name)
    found = _shapes(weights)
    likeness, _, name = max(
        (
            len(known.keys() & found.keys()) / len(known.keys() | found.keys()),
            len(known.items() & found.items()),
            name,
        )
        for name, known in _public().items()
    )
    if likeness < _LIKENESS:
        return ""
    size = _embedding_size(weights)
    return f"{name} with embedding_size={size}" if size else name


def _part(name: str, **arguments: Any) -> dict[str, Any]:
    return {"_target_": f"kdface.backbones.{name}", **arguments}


def _embedding_size(weights: Mapping[str, Tensor]) -> int:
    """Rows of the last matrix, which computes the embedding; 0: there is none."""
    return next((len(value) for value in reversed(list(weights.values())) if value.ndim == 2), 0)


def _shapes(weights: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in weights.items() if not key.endswith(COUNTER)}


def _iresnet(weights: Mapping[str, Tensor]) -> dict[str, Any] | None:
    from kdface.backbones.iresnet import CHANNELS

    blocks = _blocks(weights)
    channels = [len(weights.get(f"layer{layer}.0.conv2.weight", ())) for layer in (1, 2, 3, 4)]
    size = len(weights["fc.weight"])
    if tuple(channels) == CHANNELS:
        return _of_depth(blocks, size, any(".se_block." in key for key in weights))
    if not all(blocks) or not all(channels):
        return None
    return _part("iresnet_nano", embedding_size=size, channels=channels, blocks=blocks)


def _of_depth(blocks: list[int], embedding_size: int, gated: bool) -> dict[str, Any] | None:
    from kdface.backbones.iresnet import UNITS

    depth = next((depth for depth, units in UNITS.items() if list(units) == blocks), None)
    gates = {"squeeze_excitation": True} if gated else {}
    return None if depth is None else _part(f"iresnet{depth}", embedding_size=embedding_size, **gates)


def _adaface(weights: Mapping[str, Tensor]) -> dict[str, Any] | None:
    from kdface.backbones.iresnet import CHANNELS

    widths = Counter(
        len(value) for key, value in weights.items() if re.fullmatch(r"body\.\d+\.res_layer\.5\.weight", key)
    )
    if set(widths) != set(CHANNELS) or "output_layer.3.weight" not in weights:
        return None  # its deepest networks use bottlenecks
    gated = any(".se_block." in key for key in weights)
    return _of_depth([widths[channels] for channels in CHANNELS], len(weights["output_layer.3.weight"]), gated)


def _insightface_mobile(weights: Mapping[str, Tensor]) -> dict[str, Any] | None:
    from kdface.backbones.mobilefacenet import PAPER

    blocks = [_count(weights, rf"layers\.{stage}\.layers\.(\d+)\.layers\.") for stage in (1, 3, 5, 7)]
    if "layers.0.layers.0.weight" not in weights or "features.layers.2.weight" not in weights:
        return None
    width = len(weights["layers.0.layers.0.weight"]) // 64
    blocks[0] = max(1, blocks[0])
    size = len(weights["features.layers.2.weight"])
    if (width, *blocks) == (1, *PAPER):
        return _part("mobilefacenet", embedding_size=size)
    return _part("mobilefacenet_wide", embedding_size=size, width=width, blocks=blocks)


def _sfnet(weights: Mapping[str, Tensor]) -> dict[str, Any] | None:
    from kdface.backbones.sfnet import UNITS

    units = [block - 1 for block in _blocks(weights)]
    depth = next((depth for depth, known in UNITS.items() if list(known) == units), None)
    if depth is None:
        return None
    norm = "features.running_mean" in weights
    told = {"order": "relu_add"} if "layer1.0.conv.weight" in weights else {"order": "add_relu"} if norm else {}
    return _part(f"sfnet{depth}", embedding_size=len(weights["fc.weight"]), norm=norm, **told)


def _blocks(weights: Mapping[str, Tensor]) -> list[int]:
    found = {(int(match[1]), int(match[2])) for key in weights if (match := _BLOCK.match(key))}
    return [sum(1 for layer, _ in found if layer == stage) for stage in (1, 2, 3, 4)]


def _count(weights: Mapping[str, Tensor], pattern: str) -> int:
    return len({match[1] for key in weights if (match := re.match(pattern, key))})


@cache
def _public() -> dict[str, dict[str, tuple[int, ...]]]:
    """Keys and shapes of each public backbone at its defaults."""
    import kdface.backbones as room  # local: circular import

    makers = {name: getattr(room, name) for name in room.__all__ if name not in {"Backbone", "load_weights"}}
    with torch.device("meta"):
        states = {name: maker().state_dict() for name, maker in makers.items()}
    return {name: _shapes(state) for name, state in states.items()}
