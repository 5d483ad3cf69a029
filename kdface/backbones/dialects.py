"""Key mappings for published state dicts that name the layers of kdface's backbones differently."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

ADAFACE = "input_layer.0.weight"  # the IR networks of AdaFace
INSIGHTFACE_MOBILE = "conv_sep.layers.0.weight"  # MobileFaceNet in InsightFace's arcface_torch
OPENING = re.compile(r"^(layer\d\.0\.)(conv1?)(\.(?:weight|bias))$")
_BLOCK = re.compile(r"^(layer\d\.\d+)\.(\w+)\.(.+)$")
_EPS = 1e-5  # of BatchNorm

_IR = {
    **{"bn1": "res_layer.0", "conv1": "res_layer.1", "bn2": "res_layer.2", "prelu": "res_layer.3"},
    **{"conv2": "res_layer.4", "bn3": "res_layer.5", "se_block": "res_layer.se_block"},
    "downsample": "shortcut_layer",
}
_IR_ENDS = {
    **{"conv1": "input_layer.0", "bn1": "input_layer.1", "prelu": "input_layer.2"},
    **{"bn2": "output_layer.0", "fc": "output_layer.3", "features": "output_layer.4"},
}
_STEP = {"conv": 0, "bn": 1, "prelu": 2}
_WITHIN = {"conv": 0, "conv_dw": 1, "project": 2}
_BLOCKS = {"conv_23": 2, "conv_3": 3, "conv_34": 4, "conv_4": 5, "conv_45": 6, "conv_5": 7, "conv2_dw": 1}


def in_our_names(given: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a state dict to the keys of `expected`, that of a kdface backbone; unmatched keys are kept.

    OpenSphere names the first convolution of each SFNet layer `conv1` on its branch v0 and `conv` on the others.
    AdaFace's IR networks lack the strided 1x1 convolution on the identity of layer1 (they take every second pixel) and
    the affine part of the last BatchNorm: these are filled in so that the embedding is the same in eval mode.
    """
    if ADAFACE in given:
        theirs = _adaface(expected)
        given = {**given, **_identities(given, theirs)}
    elif INSIGHTFACE_MOBILE in given:
        theirs = {key: insightface_mobile(key) for key in expected}
    else:
        theirs = {key: key if key in given else _of_other_branch(key) for key in expected}
    ours = {name: key for key, name in theirs.items()}
    return {ours.get(name, name): value for name, value in given.items()}


def insightface_mobile(key: str) -> str:
    """InsightFace's name of an entry of kdface's MobileFaceNet."""
    part, _, rest = key.partition(".")
    if part == "conv1":
        return f"layers.0.layers.{_numbered(rest)}"
    if part == "conv_6_sep":
        return f"conv_sep.layers.{_numbered(rest)}"
    if part == "conv_6_dw":
        return f"features.layers.0.layers.{_numbered(rest)}"
    if part in ("linear", "bn"):
        return f"features.layers.{2 if part == 'linear' else 3}.{rest}"
    if part not in _BLOCKS:
        return key
    prefix = f"layers.{_BLOCKS[part]}.layers"
    if rest.startswith("model."):
        _, block, rest = rest.split(".", 2)
        prefix = f"{prefix}.{block}.layers"
    step, _, inner = rest.partition(".")
    if part == "conv2_dw" and inner.partition(".")[0] not in _STEP:  # a single convolution instead of bottlenecks
        return f"{prefix}.{_numbered(rest)}"
    return f"{prefix}.{_WITHIN.get(step, step)}.layers.{_numbered(inner)}"


def _numbered(rest: str) -> str:
    step, _, name = rest.partition(".")
    return f"{_STEP.get(step, step)}.{name}"


def _adaface(expected: Mapping[str, Tensor]) -> dict[str, str]:
    """AdaFace's name of each entry of a kdface iResNet: blocks are numbered across layers."""
    found: dict[str, str] = {}
    blocks: dict[str, int] = {}
    for key in expected:
        part, _, rest = key.partition(".")
        if part in _IR_ENDS:
            found[key] = f"{_IR_ENDS[part]}.{rest}"
        elif match := _BLOCK.match(key):
            number = blocks.setdefault(match[1], len(blocks))
            found[key] = f"body.{number}.{_IR.get(match[2], match[2])}.{match[3]}"
        else:
            found[key] = key
    return found


def _identities(given: Mapping[str, Tensor], theirs: Mapping[str, str]) -> dict[str, Tensor]:
    """Weights for the operations that AdaFace's networks do without weights."""
    found = {}
    mean = given.get(theirs.get("features.running_mean", ""))
    if mean is not None:
        found[theirs["features.weight"]], found[theirs["features.bias"]] = torch.ones_like(mean), torch.zeros_like(mean)
    first = given.get(theirs.get("layer1.0.bn3.weight", ""))
    if first is not None and theirs["layer1.0.downsample.0.weight"] not in given:
        name, width = theirs["layer1.0.downsample.0.weight"].removesuffix("0.weight"), len(first)
        found[f"{name}0.weight"] = torch.eye(width, dtype=first.dtype)[:, :, None, None]
        found[f"{name}1.weight"] = torch.full_like(first, (1 + _EPS) ** 0.5)
        found[f"{name}1.bias"] = found[f"{name}1.running_mean"] = torch.zeros_like(first)
        found[f"{name}1.running_var"] = torch.ones_like(first)
    return found


def _of_other_branch(key: str) -> str:
    found = OPENING.match(key)
    return key if found is None else f"{found[1]}{'conv' if found[2] == 'conv1' else 'conv1'}{found[3]}"
