"""Checkpoints: tensors and plain values only, loaded with `weights_only=True`, without references to import."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from kdface.atomic import write_atomic
from kdface.errors import UserError
from kdface.runs.schemas import CheckpointFields
from kdface.stored import conform, is_plain_tensor, parse_json, read_torch

CHECKPOINT_FORMAT = 1


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint. Raises `UserError` if it is missing, corrupted (even by one bit), contains objects, or is not
    from kdface."""
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint.", fix="the run's own command writes it")
    if path.suffix == ".safetensors":
        return _read_packed(path)
    try:
        content = read_torch(path)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} contains more than tensors and plain values and is not loaded: {str(error).splitlines()[0]}",
            expected="a checkpoint written by kdface",
        ) from None
    except ValueError as error:
        raise UserError(
            f"{path} is broken ({error}).", fix=f"restore it; or rm {path}; the run's own command then restarts it"
        ) from None
    if not isinstance(content, dict) or "state_dict" not in content or "kdface" not in content:
        raise UserError(f"{path} is not a checkpoint of kdface.", expected="the keys state_dict and kdface")
    return _checked(content, path)


def _read_packed(path: Path) -> dict[str, Any]:
    """Read the weights of a pack as a checkpoint."""
    from kdface.backbones.weights import read_safetensors

    weights, metadata = read_safetensors(path)
    try:
        about = parse_json(metadata.get("kdface", "{}"))
    except ValueError as error:
        raise UserError(f"{path} is not a pack of kdface: {error}.") from None
    return _checked({"state_dict": weights, "kdface": about}, path)


def _checked(content: dict[str, Any], path: Path) -> dict[str, Any]:
    made_with = content["kdface"].get("format") if isinstance(content["kdface"], dict) else None
    if made_with != CHECKPOINT_FORMAT:
        raise UserError(f"{path} has format {made_with}.", expected=f"format {CHECKPOINT_FORMAT}")
    try:
        conform(content["kdface"], CheckpointFields)
    except ValueError as error:
        raise UserError(f"{path} is not a checkpoint of kdface: {error}.") from None
    weights = content["state_dict"]
    if not isinstance(weights, dict) or not all(map(is_plain_tensor, weights.values())):
        raise UserError(f"{path} is not a checkpoint of kdface.", expected="dense tensors by name under state_dict")
    return content


def write_checkpoint(content: dict[str, Any], path: Path) -> None:
    """Write a checkpoint atomically. Raises `OSError` if the disk is full."""
    write_atomic(path, partial(save_tensors, content))


def save_tensors(content: dict[str, Any], path: Path) -> None:
    """`torch.save`. Raises `OSError` if the disk is full."""
    try:
        with open(path, "wb") as file:
            torch.save(content, file)
    except RuntimeError as error:  # raised by torch's writer after a system error
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def save_safetensors(weights: Mapping[str, torch.Tensor], path: Path, about: dict[str, str]) -> None:
    """Write tensors with metadata. Raises `OSError` if the disk is full, unlike the library's own writer."""
    from safetensors.torch import save

    path.write_bytes(save({name: value.detach().cpu().contiguous().clone() for name, value in weights.items()}, about))


def fill(module: torch.nn.Module, weights: dict[str, torch.Tensor], origin: Path) -> None:
    """Load weights strictly into a module.

    Raises `UserError`, naming `origin`, if a weight is missing, has the wrong shape or type, or is not finite.
    """
    own = module.state_dict()
    for name, value in weights.items():
        if name not in own or own[name].shape != value.shape:
            continue  # reported below
        if own[name].dtype != value.dtype:
            kinds = f"{value.dtype}, not {own[name].dtype}"
            raise UserError(f"{origin} does not fit the run's configuration: {name} is {kinds}.")
    require_finite(module, weights, origin)
    try:
        module.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        raise UserError(
            f"{origin} does not fit the run's configuration: {str(error).splitlines()[1].strip()}"
        ) from None


def require_finite(module: torch.nn.Module, weights: dict[str, torch.Tensor], origin: Path) -> None:
    """Raise `UserError`, naming `origin`, if a weight for a module is not finite."""
    notes = {name for name, _ in module.named_buffers(recurse=False)}  # the method's own, such as unseen losses
    for name, value in weights.items():  # module.state_dict() would communicate if a head is sharded
        if name in notes:
            continue
        if value.is_meta or not value.dtype.is_floating_point:
            continue
        if value.untyped_storage().nbytes() < value.nbytes:  # expanded to any size: loading reports the mismatch
            continue
        if not value.isfinite().all():
            raise UserError(
                f"{origin}: {name} has non-finite values, so the network is unusable.",
                fix="retrain with a smaller optimizer.lr, or use an earlier checkpoint",
            )
