"""From a `_target_` to the callable it names, and to the parameters that callable takes.

A configuration may come from a folder that somebody else made, so it can name only what is meant to be named: what the
part rooms below export (`__all__`), torch's optimisers, and whatever is defined in the packages that the user lists in
`$KDFACE_PLUGINS` (comma-separated). None of kdface's own writes a file or starts a program when it is built.
"""

from __future__ import annotations

import importlib
import inspect
import os
import typing
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from kdface.errors import UserError, nearest

PART_ROOMS = (
    "kdface.augmentations",
    "kdface.backbones",
    "kdface.datasets",
    "kdface.evaluation",
    "kdface.heads",
    "kdface.losses",
    "kdface.methods",
    "kdface.methods.schedules",
    "kdface.runs.loggers",
    "kdface.teachers",
    "kdface.teachers.quality",
    "torch.optim",
)


@dataclass(frozen=True)
class Parameter:
    """One parameter of a callable: its name, type hint, and whether it has a default."""

    name: str
    hint: Any
    required: bool
    default: Any = None


def locate(target: object, *, origin: str = "") -> Callable[..., Any]:
    """The callable that `target` ("package.module.Name") names.

    Raises:
        UserError: where it is not a dotted name, may not be named, or does not exist.
    """
    if not isinstance(target, str) or "." not in target:
        raise UserError(
            f"_target_ is {target!r}.", expected="a dotted name such as kdface.heads.CosFace", origin=origin
        )
    module_name, _, name = target.rpartition(".")
    plugins = [each.strip() for each in os.environ.get("KDFACE_PLUGINS", "").split(",") if each.strip()]
    trusted = any(module_name == plugin or module_name.startswith(f"{plugin}.") for plugin in plugins)
    if module_name not in PART_ROOMS and not trusted:
        raise UserError(
            f"_target_ {target!r} lies outside the packages that a configuration may name.",
            expected=f"something exported by {', '.join([*PART_ROOMS, *plugins])}",
            origin=origin,
            mend=f"export KDFACE_PLUGINS={target.split('.')[0]}   (only if you trust that package)",
        )
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise UserError(f"_target_ {target!r}: {error}.", origin=origin) from error
    exported = _defined(module) if trusted else getattr(module, "__all__", None) or _defined(module)
    if name not in exported or not callable(getattr(module, name, None)):
        raise UserError(
            f"_target_ {target!r}: {module_name} exports no {name!r}.",
            nearest=nearest(name, exported),
            origin=origin,
        )
    return typing.cast(Callable[..., Any], getattr(module, name))


def _defined(module: ModuleType) -> list[str]:
    """The public callables that a module defines or a package takes from its own modules; nothing that it imports."""
    root = module.__name__.split(".")[0]
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and callable(value) and str(getattr(value, "__module__", "")).split(".")[0] == root
    ]


def parameters(part: Callable[..., Any]) -> dict[str, Parameter]:
    """The named parameters of a part with their type hints. Raises `UserError` for `*args` and `**kwargs`."""
    function = part.__init__ if inspect.isclass(part) else part
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except NameError as error:  # a hint imported for type checking only
        raise TypeError(f"{part.__module__}.{part.__qualname__}: {error}") from error
    found: dict[str, Parameter] = {}
    for name, given in inspect.signature(part).parameters.items():
        if given.kind in (given.VAR_KEYWORD, given.VAR_POSITIONAL):
            raise UserError(
                f"{part.__module__}.{part.__qualname__} takes *{name}, so its configuration cannot be checked.",
                mend="give it named parameters with type hints",
            )
        required = given.default is given.empty
        found[name] = Parameter(name, hints.get(name, Any), required, None if required else given.default)
    return found
