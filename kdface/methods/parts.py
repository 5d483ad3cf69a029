"""Select parts of a method by name, to freeze them or scale their learning rate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from kdface.errors import UserError, nearest


def below(path: str, name: str) -> bool:
    """Whether a dotted path, or a parent of it, matches a name; `*` is a wildcard."""
    steps = path.split(".")
    return any(fnmatchcase(".".join(steps[: end + 1]), name) for end in range(len(steps)))


def freeze(module: nn.Module, names: Sequence[str], key: str = "freeze") -> list[nn.Module]:
    """Freeze the parameters of the backbone's parts with these names.

    Returns the modules whose own parameters and statistics are all frozen: they must stay in eval mode.

    Raises:
        UserError: a name matches no part of the backbone, or nothing is left to train.
    """
    known = {path: part for path, part in module.named_modules() if below(path, "backbone")}
    for name in names:
        _require(name, [*known, *(path for path, _ in module.named_parameters() if below(path, "backbone"))], key)
    frozen: list[nn.Module] = []
    for path, part in known.items():
        own = dict(part.named_parameters(prefix=path, recurse=False))
        still = {at: value for at, value in own.items() if any(below(at, name) for name in names)}
        for value in still.values():
            value.requires_grad_(False)
        whole = len(still) == len(own) if own else any(below(path, name) for name in names)
        if whole and (own or [*part.buffers(recurse=False)]):  # dropout has no state and stays active
            frozen.append(part)
    if not any(value.requires_grad for value in module.parameters()):
        raise UserError(f"{key} = {list(names)} leaves nothing to train.", fix=f"{key}=[backbone.conv1]")
    return frozen


def scales(module: nn.Module, scale: Mapping[str, float], key: str = "lr_scale") -> dict[int, float]:
    """id of each trained parameter -> its learning-rate factor: the value of the longest matching name.

    Raises `UserError` if a name matches no trained parameter.
    """
    trained = {path: value for path, value in module.named_parameters() if value.requires_grad}
    parts = [
        path
        for path, part in module.named_modules()
        if path and any(parameter.requires_grad for parameter in part.parameters())
    ]
    for name in scale:
        _require(name, [*parts, *trained], key)
    found = {}
    for path, value in trained.items():
        fitting = [name for name in scale if below(path, name)]
        found[id(value)] = scale[max(fitting, key=lambda name: (len(name), name))] if fitting else 1.0
    return found


def in_groups(groups: Iterable[Any], scale: Mapping[int, float]) -> list[Any]:
    """Split parameter groups by the scale of their parameters, stored in each as `lr_scale`; parameters without one
    are not trained, and keep that of 1."""
    divided: list[Any] = []
    bare = {"params": [group for group in groups if not isinstance(group, dict)]}
    for group in (
        entry for entry in (bare, *(group for group in groups if isinstance(group, dict))) if entry["params"]
    ):
        for factor in dict.fromkeys(scale.get(id(parameter), 1.0) for parameter in group["params"]):
            chosen = [parameter for parameter in group["params"] if scale.get(id(parameter), 1.0) == factor]
            divided.append({**group, "params": chosen, "lr_scale": group.get("lr_scale", 1.0) * factor})
    return divided


def _require(name: str, paths: Sequence[str], key: str) -> None:
    if any(below(path, name) for path in paths):
        return
    raise UserError(
        f"{key} names {name!r}, but no trained part has this name.",
        expected=f"a part or parameter, such as {', '.join(paths[:5])}; * is a wildcard",
        nearest=nearest(name, paths),
    )
