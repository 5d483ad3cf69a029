"""From a `_target_` to the callable it names, and to the parameters that callable takes.

Configuration may come from a folder that somebody else made, so only callables that are defined in an allowed
package can be named: kdface itself, torch.optim, and the packages listed in `$KDFACE_PLUGINS` (comma-separated).
"""

from __future__ import annotations

import importlib
import inspect
import os
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kdface.errors import UserError, nearest

ALLOWED = ("kdface", "torch.optim")


@dataclass(frozen=True)
class Parameter:
    """One parameter of a callable: its name, type hint, and whether it has a default."""

    name: str
    hint: Any
    required: bool
    default: Any = None


def allowed_packages() -> tuple[str, ...]:
    plugins = [name.strip() for name in os.environ.get("KDFACE_PLUGINS", "").split(",")]
    return (*ALLOWED, *(name for name in plugins if name))


def _inside(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(package + ".") for package in packages)


def locate(target: object, *, origin: str = "") -> Callable[..., Any]:
    """The callable that `target` ("package.module.Name") names.

    Raises:
        UserError: where it is not a dotted name, lies outside the allowed packages, or does not exist.
    """
    packages = allowed_packages()
    if not isinstance(target, str) or "." not in target:
        raise UserError(
            f"_target_ is {target!r}.", expected="a dotted name such as kdface.heads.CosFace", origin=origin
        )
    module_name, _, name = target.rpartition(".")
    if not _inside(module_name, packages):
        raise UserError(
            f"_target_ {target!r} lies outside the packages that a configuration may name.",
            expected=f"something defined in {', '.join(packages)}",
            origin=origin,
            mend=f"export KDFACE_PLUGINS={target.split('.')[0]}   (only if you trust that package)",
        )
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise UserError(f"_target_ {target!r}: {error}.", origin=origin) from error
    found = getattr(module, name, None)
    if not callable(found) or not _inside(getattr(found, "__module__", "") or "", packages):
        public = [each for each in dir(module) if not each.startswith("_")]
        raise UserError(
            f"_target_ {target!r}: {module_name} defines no {name!r}.",
            nearest=nearest(name, public),
            origin=origin,
        )
    return typing.cast(Callable[..., Any], found)


def parameters(part: Callable[..., Any]) -> dict[str, Parameter]:
    """The named parameters of a part with their type hints. A `**kwargs` is an error of the part's author."""
    function = part.__init__ if inspect.isclass(part) else part
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except NameError as error:  # a hint imported for type checking only
        raise TypeError(f"{part.__module__}.{part.__qualname__}: {error}") from error
    found: dict[str, Parameter] = {}
    for name, given in inspect.signature(part).parameters.items():
        if given.kind in (given.VAR_KEYWORD, given.VAR_POSITIONAL):
            raise TypeError(f"{part.__module__}.{part.__qualname__} takes *{name}: it cannot be checked")
        required = given.default is given.empty
        found[name] = Parameter(name, hints.get(name, Any), required, None if required else given.default)
    return found
