"""The origin of each value of a composed configuration: a YAML file and line, or an override.

Hydra merges its defaults list in order and applies the overrides last. Replaying that order over files parsed with
line numbers gives the origin of every key.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml


@dataclass
class Origins:
    """`where[key]` is the last origin of the dotted key; `earlier[key]` lists the overridden ones."""

    where: dict[str, str] = field(default_factory=dict)
    earlier: dict[str, list[str]] = field(default_factory=dict)

    def of(self, key: str) -> str:
        """The origin of a key, of one below it if it has none, or of its nearest known parent; empty if unknown."""
        if key not in self.where and (below := self.under(key)):
            return self.where[below[0]]
        while key:
            if key in self.where:
                return self.where[key]
            key = key.rpartition(".")[0]
        return ""

    def set(self, key: str, origin: str) -> None:
        """Set the origin of a key and keep the earlier ones."""
        if key in self.where:
            self.earlier.setdefault(key, []).append(self.where[key])
        self.where[key] = origin

    def copy(self) -> Origins:
        """A copy with paths relative to the current folder."""
        start = f"{Path.cwd()}{os.sep}"
        return Origins(
            {key: origin.removeprefix(start) for key, origin in self.where.items()},
            {key: [origin.removeprefix(start) for origin in lost] for key, lost in self.earlier.items()},
        )

    def take(self, key: str, other: Origins) -> None:
        """Replace the origins under a dotted key by those of another instance."""
        prefix = f"{key}."
        for place in [key for key in self.where if key.startswith(prefix)]:
            del self.where[place]
            self.earlier.pop(place, None)
        self.where.update({key: origin for key, origin in other.where.items() if key.startswith(prefix)})
        self.earlier.update({key: origins for key, origins in other.earlier.items() if key.startswith(prefix)})

    def under(self, key: str) -> list[str]:
        """The known keys at and below a dotted key."""
        return sorted(known for known in self.where if known == key or known.startswith(key + "."))


def trace(files: Any, defaults: list[Any]) -> Origins:
    """Replay Hydra's merge order over an expanded defaults list. `files` is Hydra's config repository."""
    origins = Origins()
    for default in defaults:
        if default.config_path is None or default.config_path.startswith("hydra/"):
            continue
        found = files.load_config(default.config_path)
        if found is None or not str(found.path).startswith("file://"):
            continue
        path = Path(str(found.path).removeprefix("file://"))
        file = path if path.suffix else path.with_suffix(".yaml")
        if not file.is_file():
            file = path / f"{default.config_path}.yaml"
        package = "" if default.package in (None, "", "_global_") else f"{default.package}."
        for key, line in lines(file):
            if key not in ("defaults", "hydra") and not key.startswith("defaults."):  # not of all of Hydra's own node
                origins.set(f"{package}{key}", f"{file}:{line}")
    return origins


def comment(origin: str) -> str:
    """The comment on the line of an origin FILE:LINE; empty if there is none."""
    file, _, line = origin.rpartition(":")
    try:
        text = Path(file).read_text(encoding="utf-8").splitlines()[int(line) - 1]
    except (OSError, ValueError, IndexError):
        return ""
    return text.partition(" # ")[2].strip()


def lines(file: Path) -> Iterator[tuple[str, int]]:
    """(dotted key, line number) of every key in a YAML file, including parents."""
    # The C parser is ten times faster.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    root = yaml.compose(file.read_text(encoding="utf-8"), Loader=loader)
    if isinstance(root, yaml.MappingNode):
        yield from _walk(root, "")


def _walk(node: yaml.MappingNode, prefix: str) -> Iterator[tuple[str, int]]:
    for key, value in node.value:
        name = f"{prefix}{key.value}"
        yield name, key.start_mark.line + 1
        if isinstance(value, yaml.MappingNode):
            yield from _walk(value, f"{name}.")
