"""Networks in files: kdface exports, published state dicts, or ONNX, and the cards that describe their inputs.

Third-party files do not record the image format of their training. A card next to the file, FILE.yaml, states it with
the same keys as exported files, or by the name of a catalogue entry:

    name: adaface-r50-ms1mv2

    preprocessing: {template: arcface, size: [112, 112], color: rgb, mean: 127.5, std: 127.5}
    backbone: {_target_: kdface.backbones.sfnet20, order: relu_add}   # only what names and shapes do not determine
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kdface.assembly.build import build
from kdface.assembly.shipped import Shipped, build_exported
from kdface.backbones.inferred import inferred
from kdface.backbones.onnx_file import read_onnx
from kdface.backbones.weights import digest_of, load_weights, read_file, read_safetensors, stripped
from kdface.config.catalogue import entry
from kdface.config.check import check_part
from kdface.errors import UserError
from kdface.faces import Preprocessing
from kdface.runs.schemas import Exported
from kdface.stored import conform, is_plain_tensor, parse_json, read_yaml

SUFFIXES = (".pt", ".pth", ".bin", ".safetensors", ".onnx")
_CARD = "preprocessing: {template: arcface, size: [112, 112], color: rgb, mean: 127.5, std: 127.5}"


def is_model_file(path: Path) -> bool:
    """Whether a path names a network file rather than a run, by its suffix or the card next to it."""
    return (path.suffix.lower() in SUFFIXES and not path.is_dir()) or card_of(path).is_file()


def card_of(path: Path) -> Path:
    """The card of a file: FILE.yaml."""
    return path.with_name(f"{path.name}.yaml")


def open_model(path: Path, device: str = "cpu") -> tuple[Shipped, dict[str, Any]]:
    """The network of a file, with the metadata of the file and its card. Executes nothing from either.

    Raises:
        UserError: the file cannot be read, its weights match no backbone, or its image format is unknown.
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
    """The weights of a non-ONNX file and its kdface export metadata; null: written by another program.

    Raises `UserError` if it cannot be read, is damaged, or contains more than dense tensors and plain values.
    """
    if path.suffix.lower() != ".safetensors":
        content = dict(read_file(path))
        if "kdface" not in content:
            return stripped(content), None
        weights = content.get("state_dict")
        if not isinstance(weights, dict) or not all(map(is_plain_tensor, weights.values())):
            raise UserError(f"{path} contains no weights.", expected="dense tensors by name under state_dict")
        return weights, content["kdface"]
    weights, metadata = read_safetensors(path)
    text = metadata.get("kdface")
    if metadata.get("sha256", digest := digest_of(weights, text or "")) != digest:
        raise UserError(f"{path} is damaged: its checksum does not match.")
    return (stripped(weights), None) if text is None else (weights, text)


def about_file(path: Path, found: Any) -> dict[str, Any]:
    """The metadata of a file or its card. Raises `UserError` if neither states the image format."""
    card = card_of(path)
    if found is None and card.is_file():
        written = read_yaml(card)
        found = {**(entry(written["name"]) if "name" in written else {}), **written}
        path = card
    if found is None:
        raise UserError(
            f"{path} does not state how to preprocess images, and there is no card {card.name} next to it.",
            expected="a card with template, size, color, mean and std of the training crops, or with the name: of an "
            "entry of kdface weights list; these are the most common",
            fix=f"echo '{_CARD}' > {card}",
        )
    try:
        return dict(parse_json(found, Exported) if isinstance(found, str) else conform(found, Exported))
    except ValueError as error:
        raise UserError(
            f"{path} does not state its backbone and how to preprocess images: {error}.",
            expected=f"a file that kdface export wrote, or a card: {_CARD}",
        ) from None


def backbone_of(weights: Mapping[str, Any], about: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The backbone of a published state dict, from its names and shapes, and its card for the rest.

    Raises `UserError` if these do not determine it.
    """
    read, told = inferred(weights) or {}, about.get("backbone") or {}
    node = {**(read if told.get("_target_", read.get("_target_")) == read.get("_target_") else {}), **told}
    if "_target_" not in node:
        raise UserError(
            f"{path} matches no backbone of kdface ({len(weights)} entries, {', '.join(list(weights)[:3])}, ...).",
            expected="a state dict of InsightFace, facenet-pytorch, OpenSphere or AdaFace; kdface list backbone",
            fix="export the network to ONNX from its original code, which needs no backbone",
        )
    if ".sfnet" in str(node["_target_"]) and "order" not in node:
        name = card_of(path)
        raise UserError(
            f"{path} does not record whether its SFNet adds before or after the ReLU.",
            expected="order: relu_add (VGGFace2 runs of OpenSphere) or add_relu, in the card",
            fix=f"echo 'backbone: {{_target_: {node['_target_']}, order: relu_add}}' >> {name}",
        )
    return node


def _published(about: Mapping[str, Any], weights: Mapping[str, Any], path: Path) -> nn.Module:
    node = backbone_of(weights, about, path)
    try:
        check_part(node, "backbone")
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
            f"{path} takes images of {network.image_size[0]}x{network.image_size[1]}, but its card states "
            f"{told[0]}x{told[1]}.",
            fix=f"correct size in {card_of(path)}",
        )
