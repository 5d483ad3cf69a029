"""The catalogue of well-known weights, with only what their authors published."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kdface.errors import UserError, nearest
from kdface.stored import read_yaml

_FILE = Path(__file__).with_name("catalogue.yaml")


def entries() -> dict[str, dict[str, Any]]:
    """All entries by name; `catalogue.yaml` explains the fields."""
    found: dict[str, dict[str, Any]] = read_yaml(_FILE, dict[str, dict[str, Any]])
    return found


def entry(name: Any) -> dict[str, Any]:
    """The entry of a name. Raises `UserError` if there is none."""
    known = entries()
    if name not in known:
        raise UserError(
            f"the catalogue has no entry {name!r}.",
            expected=f"one of {', '.join(known)}",
            nearest=nearest(str(name), known),
            fix="kdface weights list",
        )
    return known[name]
