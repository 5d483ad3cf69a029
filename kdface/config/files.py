"""Files and folders in a configuration: every string whose parameter is a `Path`.

Composition makes them absolute and expands `~`, so a configuration does not depend on the current folder.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from kdface.config.paths import groups
from kdface.config.source import signature
from kdface.errors import UserError
from kdface.stored import read_bytes, require_bounded_yaml

_LARGEST = 1 << 24  # largest file of a user's folder, in bytes


def absolute(path: str) -> str:
    """An absolute path with `~` expanded; links are not resolved."""
    return str(Path(path).expanduser().absolute())


def with_paths(tree: Mapping[str, Any], change: Callable[[str, str], str]) -> dict[str, Any]:
    """Replace every path of a resolved configuration by `change(dotted key, path)`."""
    return {key: _walk(value, Any, key, change) for key, value in tree.items()}


def paths_in(tree: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(dotted key, path) of every path in a resolved configuration."""
    found: list[tuple[str, str]] = []

    def note(key: str, path: str) -> str:
        found.append((key, path))
        return path

    with_paths(tree, note)
    return found


def replace_paths(tree: Mapping[str, Any], paths: Mapping[str, str] | None) -> dict[str, Any]:
    """Replace the paths of the given keys, or all paths by "<path>" if `paths` is None."""
    return with_paths(tree, lambda key, path: "<path>" if paths is None else str(paths.get(key, path)))


def _walk(value: Any, hint: Any, key: str, change: Callable[[str, str], str]) -> Any:
    if isinstance(value, Mapping):
        hints: dict[str, Any] = {}
        if "_target_" in value:
            try:
                hints = {name: parameter.hint for name, parameter in signature(value["_target_"]).items()}
            except UserError:  # reported by the check of the tree
                return value
        return {name: _walk(item, hints.get(name, Any), f"{key}.{name}", change) for name, item in value.items()}
    if isinstance(value, list):
        return [_walk(item, hint, f"{key}.{place}", change) for place, item in enumerate(value)]
    if isinstance(value, str) and value != "???" and _names_path(hint):
        return change(key, value)
    return value


def _names_path(hint: Any) -> bool:
    return hint is Path or any(_names_path(arg) for arg in typing.get_args(hint))


def require_name(name: str) -> None:
    """Raise `UserError` if a run's name points outside `paths.runs`."""
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts:
        raise UserError(
            f"name = {name!r} points outside paths.runs, where run folders are created.",
            expected="letters, digits and . _ - /, such as name=mine/first",
            fix=f"name={PurePosixPath(*[part for part in parts if part.strip('./')] or ['mine'])}",
        )


def require_bounded(folder: Path) -> None:
    """Check the YAML files of a folder's groups.

    Raises:
        UserError: a file is a pipe or a device, exceeds 16 MiB, is nested too deeply, expands excessively through
            aliases, or has values that do not match their tags.
    """
    known = [folder / group for group in (*groups(), "hydra")]
    for file in sorted([*folder.glob("*.yaml"), *(file for group in known for file in group.rglob("*.yaml"))]):
        try:
            text = read_bytes(file, _LARGEST).decode("utf-8", "replace")
            require_bounded_yaml(text)
            if _contains_itself(yaml.safe_load(text)):
                raise ValueError("an alias refers to its own anchor")
        except (OSError, yaml.YAMLError):  # Hydra reports it if the file is chosen
            continue
        except (ValueError, AttributeError, TypeError, OverflowError) as error:  # also raised by YAML for odd tags
            raise UserError(f"{file} cannot be read: {error}.") from None


def _contains_itself(value: Any, above: frozenset[int] = frozenset()) -> bool:
    """Whether a mapping or list contains itself through an alias."""
    if not isinstance(value, dict | list):
        return False
    parts = value.values() if isinstance(value, dict) else value
    return id(value) in above or any(_contains_itself(part, above | {id(value)}) for part in parts)
