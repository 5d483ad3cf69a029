"""A file with a network: exported by kdface, published as a state dict, or ONNX; and the card that says what it takes.

A file of other people's does not say what images its network was trained on. That stands in a card beside it,
FILE.yaml, in the words that exported files say of themselves, or by the name of an entry of the catalogue:

    name: adaface-r50-ms1mv2

    preprocessing: {template: arcface, size: [112, 112], color: rgb, mean: 127.5, std: 127.5}
    backbone: {_target_: kdface.backbones.sfnet20, order: relu_add}   # only what names and shapes do not tell
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kdface.backbones.inferred import inferred
from kdface.backbones.onnx_file import read_onnx
from kdface.backbones.weights import digest_of, load_weights, read_file, read_safetensors, stripped
from kdface.config.build import build
from kdface.config.catalogue import entry
from kdface.config.check import check_part
from kdface.config.origin import Origins
from kdface.config.shipped import Shipped, build_exported
from kdface.errors import UserError
from kdface.faces import Preprocessing
from kdface.runs.schemas import Exported
from kdface.stored import conform, is_plain_tensor, parse_json, read_yaml

SUFFIXES = (".pt", ".pth", ".bin", ".safetensors", ".onnx")
_CARD = "preprocessing: {template: arcface, size: [112, 112], color: rgb, mean: 127.5, std: 127.5}"


def is_model_file(path: Path) -> bool:
    """Whether a path names such a file rather than a run: by its suffix, or by the card beside it."""
    return (path.suffix.lower() in SUFFIXES and not path.is_dir()) or card_of(path).is_file()


def card_of(path: Path) -> Path:
    """Where the card of a file lies: FILE.yaml."""
    return path.with_name(f"{path.name}.yaml")


def open_model(path: Path, device: str = "cpu") -> tuple[Shipped, dict[str, Any]]:
    """The network of a file, and what the file and its card say. Nothing in either is executed.

    Raises:
        UserError: the file cannot be read, its weights fit no backbone, or nobody says what images it takes.
    """
    grade = None
    network: nn.Module
    if path.suffix.lower() == ".onnx":
        network, text = read_onnx(path, device)
        about = about_file(path, text)
        _require_size(path, network, about)
    else:
        weights, text = read_model(path)
        about = about_file(path, text)
        if text is not None:
            network, grade = build_exported(about, weights, path)
        else:
            network = _published(about, weights, path)
    preprocessing = Preprocessing.from_dict(about["preprocessing"])
    if not network.embedding_size:
        with torch.no_grad():
            network.embedding_size = network(torch.zeros(1, 3, *preprocessing.size)).shape[1]
    return Shipped(network.eval(), preprocessing, grade, bool(about.get("resizes"))), about


def read_model(path: Path) -> tuple[dict[str, Any], Any]:
    """The weights of a file that is no ONNX, and what kdface export wrote into it; null: it is of another program.

    Raises `UserError` if it cannot be read, is damaged, or holds more than dense tensors and plain values.
    """
    if path.suffix.lower() != ".safetensors":
        content = dict(read_file(path))
        if "kdface" not in content:
            return stripped(content), None
        weights = content.get("state_dict")
        if not isinstance(weights, dict) or not all(map(is_plain_tensor, weights.values())):
            raise UserError(f"{path} holds no weights.", expected="dense tensors by name under state_dict")
        return weights, content["kdface"]
    from safetensors import SafetensorError, safe_open

    weights = read_safetensors(path)
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} cannot be read as safetensors: {error}.") from None
    text = metadata.get("kdface")
    if metadata.get("sha256", digest := digest_of(weights, text or "")) != digest:
        raise UserError(f"{path} is damaged: it does not have its checksum.")
    return (stripped(weights), None) if text is None else (weights, text)


def about_file(path: Path, found: Any) -> dict[str, Any]:
    """What a file says of itself, or else its card. Raises `UserError` if neither says what images it takes."""
    card = card_of(path)
    if found is None and card.is_file():
        written = read_yaml(card)
        found = {**(entry(written["name"]) if "name" in written else {}), **written}
        path = card
    if found is None:
        raise UserError(
            f"{path} does not say how its images are prepared, and there is no card {card.name} beside it.",
            expected="a card with template, size, color, mean and std of the crops that the network was trained on, or "
            "with name: of an entry of kdface weights list; these are the commonest",
            fix=f"echo '{_CARD}' > {card}",
        )
    try:
        return dict(parse_json(found, Exported) if isinstance(found, str) else conform(found, Exported))
    except ValueError as error:
        raise UserError(
            f"{path} does not say which backbone it is for and how its images are prepared: {error}.",
            expected=f"a file that kdface export wrote, or a card: {_CARD}",
        ) from None


def backbone_of(weights: Mapping[str, Any], about: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The backbone of a published state dict: what its names and shapes tell, and the rest from its card.

    Raises `UserError` if that is not all.
    """
    read, told = inferred(weights) or {}, about.get("backbone") or {}
    node = {**(read if told.get("_target_", read.get("_target_")) == read.get("_target_") else {}), **told}
    if "_target_" not in node:
        raise UserError(
            f"{path} is of no backbone that kdface has ({len(weights)} entries, {', '.join(list(weights)[:3])}, ...).",
            expected="a state dict of InsightFace, facenet-pytorch, OpenSphere or AdaFace; kdface list backbone",
            fix="export the network to ONNX where it was trained, which needs no backbone",
        )
    if ".sfnet" in str(node["_target_"]) and "order" not in node:
        name = card_of(path)
        raise UserError(
            f"{path}: whether its SFNet adds before the ReLU or after it does not stand in the file.",
            expected="order: relu_add (VGGFace2 runs of OpenSphere) or add_relu, in the card",
            fix=f"echo 'backbone: {{_target_: {node['_target_']}, order: relu_add}}' >> {name}",
        )
    return node


def _published(about: Mapping[str, Any], weights: Mapping[str, Any], path: Path) -> nn.Module:
    node = backbone_of(weights, about, path)
    try:
        check_part(node, "backbone", Origins())
    except UserError as error:
        raise UserError(
            f"{path}: {error.problem}", expected=error.expected, nearest=error.nearest, origin=str(card_of(path))
        ) from None
    with torch.random.fork_rng(devices=[]):
        network: nn.Module = build(node, "backbone", image_size=tuple(about["preprocessing"]["size"]))
    load_weights(network, weights, str(path))
    return network


def _require_size(path: Path, network: Any, about: Mapping[str, Any]) -> None:
    told = tuple(about["preprocessing"]["size"])
    if network.image_size not in (None, told):
        raise UserError(
            f"{path} takes images of {network.image_size[0]}x{network.image_size[1]}, and its card says "
            f"{told[0]}x{told[1]}.",
            fix=f"correct size in {card_of(path)}",
        )
