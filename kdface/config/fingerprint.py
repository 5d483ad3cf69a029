"""What makes two runs the same run: a hash over every value that can change the result, and over nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from kdface.runs.settings import TrainerSettings

# Values that change where things lie, how they are shown or how they are spread over a machine, not what comes out.
_IRRELEVANT = {
    "": ("paths", "logger", "name", "seed"),
    "trainer": ("threads", "workers", "log_steps", "checkpoint_steps"),
}
_DEFAULTS = {field.name: field.default for field in fields(TrainerSettings)}


def fingerprint(tree: Mapping[str, Any]) -> str:
    """Twelve hexadecimal digits of a SHA-256 over the canonical JSON of a resolved configuration, seed left out."""
    kept = {key: value for key, value in tree.items() if key not in _IRRELEVANT[""]}
    kept["trainer"] = {
        key: value
        for key, value in kept["trainer"].items()
        if key not in _IRRELEVANT["trainer"] and value != _DEFAULTS.get(key, MISSING)
    }
    text = json.dumps(kept, sort_keys=True, ensure_ascii=True)
    for root in ("data", "runs"):
        text = text.replace(str(tree["paths"][root]), f"<{root}>")
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted keys to leaf values; lists are leaves."""
    if not isinstance(tree, Mapping) or not tree:
        return {prefix: tree}
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found.update(flatten(value, f"{prefix}.{key}" if prefix else str(key)))
    return found


def difference(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """(key, value in a, value in b) for every leaf that differs; a key that one side lacks shows as "(not set)"."""
    left, right = flatten(a), flatten(b)
    rows = []
    for key in sorted(set(left) | set(right)):
        one, two = left.get(key, "(not set)"), right.get(key, "(not set)")
        if one != two:
            rows.append((key, one, two))
    return rows
