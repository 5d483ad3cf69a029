"""From a run or an exported file to a recogniser."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from kdface.config.shipped import Grade, build_exported, shipped
from kdface.errors import UserError
from kdface.faces import Preprocessing
from kdface.recogniser.points import OperatingPoint, Points
from kdface.recogniser.recogniser import Recogniser
from kdface.runs.folder import RunFolder
from kdface.runs.opened import open_run
from kdface.runs.schemas import Exported
from kdface.stored import conform, is_plain_tensor, parse_json

EXPORTED = (".pt", ".pth", ".safetensors", ".onnx")


def load(path: str | Path, device: torch.device | str = "auto") -> Recogniser:
    """A recogniser from a run folder, a checkpoint in one, a pack, or a file that `kdface export` wrote.

    Args:
        path: of the run (its last checkpoint is taken), checkpoint or file.
        device: `auto` is the GPU if there is one.

    Raises:
        UserError: there is no such thing, or it cannot be read. Nothing in a file is executed.
    """
    place = device if device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
    given = Path(path).expanduser()
    if given.suffix.lower() in EXPORTED and not given.is_dir():
        return _exported(given, place)
    run = open_run(path)
    made = shipped(run)
    return Recogniser(
        made.network,
        made.preprocessing,
        made.grade,
        points_of(run.folder),
        made.resizes,
        device=place,
        about={"source": str(run.checkpoint), "step": run.step},
    )


def points_of(folder: RunFolder) -> Points:
    """The thresholds that a run's results hold, those of later evaluations of the same network too."""
    return read_points(folder.read_all_results().get("operating_points") or {})


def read_points(found: Mapping[str, Any]) -> Points:
    """Operating points as results.json and exported files hold them."""
    names = OperatingPoint.__dataclass_fields__
    return {
        test: [OperatingPoint(**{name: value for name, value in point.items() if name in names}) for point in points]
        for test, points in found.items()
    }


def _exported(path: Path, device: torch.device | str) -> Recogniser:
    network: torch.nn.Module
    grade: Grade | None = None
    if path.suffix.lower() == ".onnx":
        from kdface.recogniser.onnx import read_onnx

        network, about = read_onnx(path, str(device))
    else:
        weights, about = _read(path)
        network, grade = build_exported(about, weights, path)
    preprocessing = Preprocessing.from_dict(about["preprocessing"])
    points = read_points(about.get("operating_points") or {})
    resizes = bool(about.get("resizes"))
    return Recogniser(
        network, preprocessing, grade, points, resizes, device=device, about={"source": str(path), **about}
    )


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The weights of an exported file, and what it says of itself."""
    from kdface.backbones.weights import digest_of, read_file, read_safetensors

    if path.suffix.lower() != ".safetensors":
        content = dict(read_file(path))
        about, weights = about_in(content.get("kdface"), path), content.get("state_dict")
        if not isinstance(weights, dict) or not all(map(is_plain_tensor, weights.values())):
            raise UserError(f"{path} holds no weights.", expected="dense tensors by name under state_dict")
        return weights, about
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
    return weights, about_in(text, path)


def about_in(found: Any, path: Path) -> dict[str, Any]:
    """What an exported file says of itself. Raises `UserError` if it says nothing that can be used."""
    try:
        about: dict[str, Any] = parse_json(found, Exported) if isinstance(found, str) else conform(found, Exported)
    except ValueError as error:
        raise UserError(
            f"{path} does not say which backbone it is for and how its images are prepared: {error}.",
            expected="a file that kdface export wrote",
        ) from None
    return dict(about)
