"""kdface export: write the network of a run to a standalone file, by default embedder.pt.

The format follows from the suffix of FILE or from --to: torch (.pt, .pth), safetensors, onnx, torchscript (.ts), and
insightface, a bare state dict under InsightFace's names (.pth). The file is read back and compared before it is
renamed to FILE; a model card, FILE.md, is written next to it.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kdface.atomic import write_atomic, write_text
from kdface.commands.arguments import Parser
from kdface.errors import UserError, nearest

_DIFFERENCE = 1e-4  # largest difference of a unit embedding's component after reading the file back
_SUFFIXES = {
    **{".pt": "torch", ".pth": "torch", ".safetensors": "safetensors", ".onnx": "onnx", ".ts": "torchscript"},
}
_INSIGHTFACE = (
    *("iresnet18", "iresnet34", "iresnet50", "iresnet100", "iresnet_nano", "mobilefacenet", "mobilefacenet_wide"),
)


def run(words: list[str]) -> int:
    """Run `kdface export` and return the exit code. Raises `UserError` for invalid arguments."""
    parser = Parser("export", __doc__, "[FILE]", keys={"run": str}, needs=("run",))
    given = parser.flag("--to", metavar="FORMAT", help=f"the format: {', '.join(_FORMATS)}").read(words)
    file, run_path = (given.paths or [Path("embedder.pt")])[0], given.values["run"]
    return _export(run_path, file, _format(run_path, file, given.values.get("to")))


def _format(run_path: str, file: Path, asked: str | None) -> str:
    """The format given by --to or the suffix. Raises `UserError` if it is unknown or its packages are missing."""
    found = _SUFFIXES.get(file.suffix.lower()) if asked is None else asked if asked in _FORMATS else None
    if found is None and asked is not None:
        raise UserError(
            f"--to {asked}: unknown format.",
            expected=f"one of {', '.join(_FORMATS)}",
            nearest=nearest(asked, _FORMATS),
        )
    if found is None:
        near = nearest(file.suffix, _SUFFIXES)
        raise UserError(
            f"{file}: unsupported format ({file.suffix or 'no suffix'}).",
            expected=f"a file name that ends in {', '.join(_SUFFIXES)}",
            nearest=str(file.with_suffix(near)) if near else "",
            fix=f"kdface export run={run_path} {file.with_suffix('.safetensors')}",
        )
    if found == "onnx" and not all(importlib.util.find_spec(name) for name in ("onnxscript", "onnxruntime")):
        raise UserError(
            f"{file}: ONNX export requires the packages onnxscript and onnxruntime.",
            fix='pip install "kdface[onnx]", or write a .safetensors or .pt file',
        )
    return found


def _export(run_path: str, file: Path, kind: str) -> int:
    from kdface.assembly.shipped import shipped
    from kdface.backbones.graded import Graded
    from kdface.reports.card import model_card
    from kdface.runs.opened import open_run
    from kdface.terminal import shown

    opened = open_run(run_path)
    made, results = shipped(opened), opened.folder.read_all_results()
    network, preprocessing = made.network, made.preprocessing
    if kind == "insightface":
        network = network.backbone if isinstance(network, Graded) else network
        _require_insightface(opened.config["backbone"])
    about: dict[str, Any] = {
        "backbone": opened.config["backbone"],
        "preprocessing": preprocessing.to_dict(),
        "embedding_size": int(network.embedding_size),  # type: ignore[arg-type]
        "step": opened.step,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "resizes": made.resizes,
        "operating_points": results.get("operating_points") or {},
    }
    if isinstance(network, Graded):
        about["quality_hidden"] = network.hidden
    write_atomic(file, lambda path: _FORMATS[kind](network, about, path))
    card = file.with_name(f"{file.name}.md")
    write_text(card, model_card(file.stem, opened.config, about, results, opened.folder.read_data(), file.name))
    print(
        f"written  {shown(file.absolute())}  ({about['parameters']:,} parameters, {preprocessing.template} "
        f"{preprocessing.size})"
    )
    print(f"written  {shown(card.absolute())}")
    return 0


def _require_insightface(backbone: dict[str, Any]) -> None:
    """Raise `UserError` for a backbone that InsightFace does not implement."""
    name = str(backbone["_target_"]).rpartition(".")[2]
    if name not in _INSIGHTFACE:
        raise UserError(
            f"--to insightface: InsightFace has no backbone {name}.",
            expected=f"a run of {', '.join(_INSIGHTFACE)}; --to safetensors writes every backbone",
        )


def _insightface(network: Any, about: dict[str, Any], path: Path) -> None:
    """The bare state dict under InsightFace's names; loaded with `weights_only=True`."""
    import torch

    from kdface.backbones.dialects import in_our_names, insightface_mobile
    from kdface.runs.checkpoint import save_tensors

    own = network.state_dict()
    theirs = insightface_mobile if "mobilefacenet" in about["backbone"]["_target_"] else str
    save_tensors({theirs(key): value.cpu() for key, value in own.items()}, path)
    _require_same(in_our_names(torch.load(path, map_location="cpu", weights_only=True), own), network, path)


def _torchscript(network: Any, about: dict[str, Any], path: Path) -> None:
    """The traced forward pass, (batch, 3, H, W) float32 -> (batch, D), with metadata as JSON under `kdface`."""
    import warnings

    import torch

    images = _noise(about)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(network.cpu().eval(), images[:2])  # type: ignore[no-untyped-call]
        with open(path, "wb") as file:
            torch.jit.save(traced, file, _extra_files={"kdface": json.dumps(about)})
        again = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]
        ours, theirs = network(images), again(images)
    _require_close(ours.numpy(), theirs.numpy(), "TorchScript")


def _noise(about: dict[str, Any]) -> Any:
    import torch

    height, width = about["preprocessing"]["size"]
    return torch.randn(8, 3, height, width, generator=torch.Generator().manual_seed(0))


def _torch(network: Any, about: dict[str, Any], path: Path) -> None:
    """{"state_dict": ..., "kdface": {...}}: tensors and plain values, loaded with `weights_only=True`."""
    import torch

    from kdface.runs.checkpoint import save_tensors

    save_tensors({"state_dict": network.state_dict(), "kdface": about}, path)
    _require_same(torch.load(path, map_location="cpu", weights_only=True)["state_dict"], network, path)


def _safetensors(network: Any, about: dict[str, Any], path: Path) -> None:
    """The tensors of the state dict, with metadata as JSON under `kdface`, and their digest."""
    from safetensors.torch import load_file

    from kdface.backbones.weights import digest_of
    from kdface.runs.checkpoint import save_safetensors

    text = json.dumps(about)
    own = network.state_dict()
    save_safetensors(own, path, {"format": "pt", "kdface": text, "sha256": digest_of(own, text)})
    _require_same(load_file(path), network, path)


def _require_same(read: dict[str, Any], network: Any, path: Path) -> None:
    import torch

    wanted = network.state_dict()
    if read.keys() != wanted.keys() or not all(torch.equal(read[key], value.cpu()) for key, value in wanted.items()):
        raise UserError(f"{path.parent}: the weights read back differ from those written.", fix="try another disk")


def write_onnx(network: Any, about: dict[str, Any], path: Path) -> None:
    """`images` (batch, 3, H, W) float32, (pixel - mean) / std -> `embeddings` (batch, D), not normalised."""
    import logging
    import warnings

    import onnxruntime
    import torch

    images = _noise(about)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network.cpu().eval(),
            (images[:2],),
            dynamo=True,
            verbose=False,
            input_names=["images"],
            output_names=["embeddings"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
        )
        assert program is not None  # the dynamo exporter returns one
        program.model.metadata_props["kdface"] = json.dumps(about)
        program.save(str(path))
        ours = network(images).numpy()
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (theirs,) = session.run(None, {"images": images.numpy()})
    _require_close(ours, theirs, "ONNX")


def _require_close(ours: Any, theirs: Any, kind: str) -> None:
    """Print how much the embeddings of the written file differ. Raises `UserError` if they differ too much."""
    import numpy as np

    rows = [made / np.linalg.norm(made, axis=1, keepdims=True) for made in (ours, theirs)]
    difference = float(np.abs(rows[0] - rows[1]).max())
    if not difference <= _DIFFERENCE:
        raise UserError(
            f"the {kind} file does not reproduce the run: unit embeddings differ by up to {difference:.1e}.",
            expected=f"at most {_DIFFERENCE:g}",
            fix="write a .safetensors or .pt file",
        )
    print(f"compared  {len(ours)} embeddings of the {kind} file: they differ by at most {difference:.1e}")


_FORMATS: dict[str, Callable[[Any, dict[str, Any], Path], None]] = {
    "torch": _torch,
    "safetensors": _safetensors,
    "onnx": write_onnx,
    "insightface": _insightface,
    "torchscript": _torchscript,
}
