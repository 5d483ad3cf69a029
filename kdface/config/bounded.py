"""Reject files in a user's folder that would hang, overflow the stack or exhaust memory when Hydra reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from kdface.config.paths import groups
from kdface.errors import UserError
from kdface.stored import read_bytes, require_bounded_yaml

_LARGEST = 1 << 24  # largest file in bytes


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
