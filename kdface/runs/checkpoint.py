"""Checkpoints: tensors and plain values only, loaded with `weights_only=True`, never naming anything to import."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from kdface.errors import UserError

CHECKPOINT_FORMAT = 1


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint's content. Raises `UserError` where it is missing, broken, holds objects, or is not kdface's."""
    if not path.is_file():
        raise UserError(f"{path}: there is no such checkpoint.", mend="kdface train with the run's command makes it")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} holds more than tensors and plain values, so it is not loaded: {str(error).splitlines()[0]}",
            expected="a checkpoint that kdface wrote",
        ) from None
    except Exception as error:  # half a file makes the reader fail in any way it can
        raise UserError(f"{path} is broken ({type(error).__name__}: {error}).") from None
    if not isinstance(content, dict) or "state_dict" not in content or "kdface" not in content:
        raise UserError(f"{path} is not a checkpoint of kdface.", expected="the keys state_dict and kdface")
    made_with = content["kdface"].get("format") if isinstance(content["kdface"], dict) else None
    if made_with != CHECKPOINT_FORMAT:
        raise UserError(f"{path} has format {made_with}.", expected=f"format {CHECKPOINT_FORMAT}")
    return content


def load_weights_into(module: torch.nn.Module, path: Path) -> dict[str, Any]:
    """Load a checkpoint's weights strictly; returns what else kdface wrote into it (config, preprocessing, step)."""
    content = read_checkpoint(path)
    try:
        module.load_state_dict(content["state_dict"], strict=True)
    except RuntimeError as error:
        raise UserError(f"{path} does not fit the run's configuration: {str(error).splitlines()[1].strip()}") from None
    extra: dict[str, Any] = content["kdface"]
    return extra
