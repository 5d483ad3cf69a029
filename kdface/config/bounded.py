"""What Hydra is not given: files of a user's folder whose reading would hang, overflow the stack or fill the memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from kdface.config.paths import groups
from kdface.errors import UserError
from kdface.stored import read_bytes, require_bounded_yaml

_LARGEST = 1 << 24  # bytes of a file


def require_bounded(folder: Path) -> None:
    """Look at the YAML files of a folder's groups.

    Raises:
        UserError: one is a pipe or a device, is over 16 MiB, is nested too deep, grows by its aliases, or has values
            that are not what their tags say.
    """
    known = [folder / group for group in (*groups(), "hydra")]
    for file in sorted([*folder.glob("*.yaml"), *(file for group in known for file in group.rglob("*.yaml"))]):
        try:
            text = read_bytes(file, _LARGEST).decode("utf-8", "replace")
            require_bounded_yaml(text)
            if _contains_itself(yaml.safe_load(text)):
                raise ValueError("an alias stands within its own anchor")
        except (OSError, yaml.YAMLError):  # if it is chosen, Hydra's own reading tells it
            continue
        except (ValueError, AttributeError, TypeError, OverflowError) as error:  # some of them YAML's own, of odd tags
            raise UserError(f"{file} cannot be read: {error}.") from None


def _contains_itself(value: Any, above: frozenset[int] = frozenset()) -> bool:
    """Whether a mapping or list is among its own parts, which only an alias can bring about."""
    if not isinstance(value, dict | list):
        return False
    parts = value.values() if isinstance(value, dict) else value
    return id(value) in above or any(_contains_itself(part, above | {id(value)}) for part in parts)
