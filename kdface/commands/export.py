"""kdface export run=PATH [FILE]: the network that a run ships, alone, for use without the run.

The suffix of FILE says in which format: .pt and .pth (torch), .safetensors, .onnx. What was written is read back and
compared before it takes the name.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kdface.errors import UserError, nearest

_DIFFERENCE = 1e-4  # most that a number of a unit embedding may differ by once it was read back


def run(words: list[str]) -> int:
    runs = [word.removeprefix("run=") for word in words if word.startswith("run=")]
    files = [word for word in words if not word.startswith(("run=", "-"))]
    if len(runs) != 1 or len(files) > 1 or len(runs) + len(files) != len(words):
        raise UserError(
            f"kdface export {' '.join(words)}: which run goes where is not clear.",
            expected="run=PATH, and at most one file to write",
            fix="kdface export run=runs/NAME/seed0-1a2b3c4d embedder.pt",
        )
    return _export(runs[0], Path(files[0] if files else "embedder.pt").expanduser())


def _export(run_path: str, file: Path) -> int:
    write = _FORMATS.get(file.suffix.lower())
    if write is None:
        near = nearest(file.suffix, _FORMATS)
        raise UserError(
            f"{file}: the format {file.suffix or 'of a file without a suffix'} is not written.",
            expected=f"a file name that ends in {', '.join(_FORMATS)}",
            nearest=str(file.with_suffix(near)) if near else "",
            fix=f"kdface export run={run_path} {file.with_suffix('.safetensors')}",
        )
    if write is _onnx and not all(importlib.util.find_spec(name) for name in ("onnxscript", "onnxruntime")):
        raise UserError(
            f"{file}: ONNX files need the packages onnxscript and onnxruntime.",
            fix='pip install "kdface[onnx]", or write a .safetensors or .pt file',
        )
    from kdface.backbones.graded import Graded
    from kdface.config.shipped import shipped
    from kdface.recogniser.load import points_of
    from kdface.reports.summary import shown
    from kdface.runs.folder import write_atomic
    from kdface.runs.opened import open_run

    opened = open_run(run_path)
    made = shipped(opened)
    network, preprocessing = made.network, made.preprocessing
    about: dict[str, Any] = {
        "backbone": opened.config["backbone"],
        "preprocessing": preprocessing.to_dict(),
        "embedding_size": int(network.embedding_size),  # type: ignore[arg-type]
        "step": opened.step,
        "resizes": made.resizes,
        "operating_points": {test: [vars(each) for each in found] for test, found in points_of(opened.folder).items()},
    }
    if isinstance(network, Graded):
        about["quality_hidden"] = network.hidden
    write_atomic(file, lambda path: write(network, about, path))
    count = sum(each.numel() for each in network.parameters())
    print(f"written  {shown(file.absolute())}  ({count:,} parameters, {preprocessing.template} {preprocessing.size})")
    return 0


def _torch(network: Any, about: dict[str, Any], path: Path) -> None:
    """{"state_dict": ..., "kdface": {...}}: tensors and plain values, loaded with `weights_only=True`."""
    import torch

    torch.save({"state_dict": network.state_dict(), "kdface": about}, path)
    _require_same(torch.load(path, map_location="cpu", weights_only=True)["state_dict"], network, path)


def _safetensors(network: Any, about: dict[str, Any], path: Path) -> None:
    """The tensors of the state dict; what they are for stands as JSON in the metadata, under `kdface`."""
    from safetensors.torch import load_file, save_file

    tensors = {key: value.detach().cpu().contiguous().clone() for key, value in network.state_dict().items()}
    save_file(tensors, path, metadata={"format": "pt", "kdface": json.dumps(about)})
    _require_same(load_file(path), network, path)


def _require_same(read: dict[str, Any], network: Any, path: Path) -> None:
    import torch

    wanted = network.state_dict()
    if read.keys() != wanted.keys() or not all(torch.equal(read[key], value.cpu()) for key, value in wanted.items()):
        raise UserError(f"{path.parent}: what was written there reads back as other weights.", fix="try another disk")


def _onnx(network: Any, about: dict[str, Any], path: Path) -> None:
    """`images` (batch, 3, H, W) float32, (pixel - mean) / std -> `embeddings` (batch, D), not normalised."""
    import logging
    import warnings

    import numpy as np
    import onnxruntime
    import torch

    height, width = about["preprocessing"]["size"]
    images = torch.randn(8, 3, height, width, generator=torch.Generator().manual_seed(0))
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
        assert program is not None  # of the exporter that is asked for
        program.model.metadata_props["kdface"] = json.dumps(about)
        program.save(str(path))
        ours = network(images).numpy()
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (theirs,) = session.run(None, {"images": images.numpy()})
    rows = [each / np.linalg.norm(each, axis=1, keepdims=True) for each in (ours, theirs)]
    difference = float(np.abs(rows[0] - rows[1]).max())
    if not difference <= _DIFFERENCE:
        raise UserError(
            f"the ONNX file embeds otherwise than the run: unit embeddings differ by up to {difference:.1e}.",
            expected=f"at most {_DIFFERENCE:g}",
            fix="write a .safetensors or .pt file",
        )
    print(f"compared  {len(images)} embeddings by onnxruntime: they differ by at most {difference:.1e}")


_FORMATS: dict[str, Callable[[Any, dict[str, Any], Path], None]] = {
    ".pt": _torch,
    ".pth": _torch,
    ".safetensors": _safetensors,
    ".onnx": _onnx,
}
