"""From a run or a file to a recogniser."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from kdface.assembly.model_file import is_model_file, open_model
from kdface.assembly.shipped import Shipped, shipped
from kdface.recogniser.points import OperatingPoint, Points
from kdface.recogniser.recogniser import Recogniser
from kdface.runs.folder import RunFolder
from kdface.runs.opened import open_run


def load(path: str | Path, device: torch.device | str = "auto") -> Recogniser:
    """A recogniser from a run folder, a checkpoint in one, a pack, or a file with a network.

    Args:
        path: of the run (its last checkpoint is taken), checkpoint or file: one that `kdface export` wrote, or a
            published state dict or ONNX file with its card (`kdface.assembly.model_file`).
        device: `auto` is the GPU if there is one.

    Raises:
        UserError: there is no such thing, or it cannot be read. Nothing in a file is executed.
    """
    place = device if device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
    given = Path(path).expanduser()
    if is_model_file(given):
        found, about = open_model(given, str(place))
        return _recogniser(
            found, read_points(about.get("operating_points") or {}), place, {"source": str(given), **about}
        )
    run = open_run(path)
    return _recogniser(shipped(run), points_of(run.folder), place, {"source": str(run.checkpoint), "step": run.step})


def _recogniser(found: Shipped, points: Points, device: torch.device | str, about: Mapping[str, Any]) -> Recogniser:
    return Recogniser(
        found.network, found.preprocessing, found.grade, points, found.resizes, device=device, about=about
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
