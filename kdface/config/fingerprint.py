"""The identity of a run: a hash over exactly the values that can change its result."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from kdface.config.files import replace_paths
from kdface.config.renamed import RENAMED, as_before
from kdface.config.source import attribute, constant
from kdface.errors import UserError

_DISPLAYS = ("profiler", "enable_progress_bar", "enable_model_summary", "num_sanity_val_steps", "detect_anomaly")
# Values that affect storage, output or the distribution over a machine, but not the result.
_IRRELEVANT = {
    # The other loader settings are covered by their old names elsewhere.
    "": ("paths", "logger", "name", "seed", "data", "tags", "extras", "loader"),
    "trainer": ("threads", "workers", "log_steps", "checkpoint_steps", *_DISPLAYS),
}
# Trainer arguments that old configurations, and thus their hashes, always include; others are hashed if they differ
# from Lightning's default.
_ALWAYS: dict[str, Any] = {
    **{"devices": 1, "nodes": 1, "strategy": "auto", "precision": None, "deterministic": True},
    **{"max_epochs": None, "max_steps": None, "accumulate": 1, "clip_norm": None, "evaluate_epochs": None},
}
# Callbacks that only display: they do not change the result.
_SHOWS = {"RichProgressBar", "TQDMProgressBar", "RichModelSummary", "ModelSummary", "LearningRateMonitor"}
_SHOWS |= {"DeviceStatsMonitor"}
_NOT_LIGHTNINGS = {old.partition(".")[2] for old, new in RENAMED.items() if not new.startswith("trainer.")}
_RANKS = ("devices", "nodes", "strategy")  # `kdface run` may change these


def fingerprint(tree: Mapping[str, Any]) -> str:
    """Twelve hexadecimal digits of a SHA-256 over the canonical JSON of the `relevant` part of a configuration."""
    return _hash(relevant(tree), tree["paths"])


def fingerprints_of_before(tree: Mapping[str, Any]) -> list[str]:
    """The old fingerprints, for dataset.on_error as `skip` and `raise`, which they included. They named the data and
    runs folders in full if JSON escapes their names (`josé`)."""
    kept = relevant(tree)
    sets = [{**(kept.get("dataset") or {}), "on_error": on_error} for on_error in ("skip", "raise")]
    return [_hash({**kept, "dataset": dataset}, tree["paths"], escaped=False) for dataset in sets]


def relevant(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a resolved configuration that can change the result, under their original names, without seed."""
    kept = {key: _as_before(value) for key, value in as_before(tree).items() if key not in _IRRELEVANT[""]}
    around: dict[str, Any] = {"before": [], "after": {}}  # defaults of the group; omitted if unchanged
    if augmentation := kept.get("augmentation"):
        kept["augmentation"] = {
            key: value for key, value in augmentation.items() if key not in around or value != around[key]
        }
    kept["callbacks"] = {
        name: node
        for name, node in (kept.pop("callbacks", None) or {}).items()
        if str(node.get("_target_")).rpartition(".")[2] not in _SHOWS
    }
    if not kept["callbacks"]:
        del kept["callbacks"]
    trainer = {**_ALWAYS, **kept["trainer"]}
    kept["trainer"] = {
        key: value
        for key, value in trainer.items()
        if key not in _IRRELEVANT["trainer"] and (key in _ALWAYS or key in _NOT_LIGHTNINGS or value != _default(key))
    }
    for name in ("gradient_clip", "weights", "freeze", "lr_scale"):  # earlier runs lack these nodes
        if not kept.get(name):
            kept.pop(name, None)
    if dataset := kept.get("dataset"):
        kept["dataset"] = {**dataset, "on_error": "raise"}  # the run records which images were left out
    return kept


def _hash(kept: Mapping[str, Any], paths: Mapping[str, Any], escaped: bool = True) -> str:
    text = json.dumps(kept, sort_keys=True, ensure_ascii=True)
    for root in ("data", "runs"):
        path = str(paths[root])
        text = text.replace(json.dumps(path)[1:-1] if escaped else path, f"<{root}>")
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _default(name: str) -> Any:
    """The default of an argument of `pl.Trainer`."""
    from kdface.config.trainer import arguments  # imports Lightning, which most commands do not need

    return arguments()[name].default if name in arguments() else None


def shown_otherwise(before: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """The displays, callbacks and loggers that the same run is asked for and that it did not have."""
    found = [f"trainer.{name}" for name in _DISPLAYS if asked["trainer"].get(name) != before["trainer"].get(name)]
    for group in ("callbacks", "logger"):
        earlier = before.get(group) or {}
        found += [f"{group}.{name}" for name, node in (asked.get(group) or {}).items() if node != earlier.get(name)]
    return found


def same_but_paths(one: Mapping[str, Any], two: Mapping[str, Any]) -> bool:
    """Whether two configurations define the same run if their files are identical."""
    return one.get("seed") == two.get("seed") and not settings_that_differ(one, two)


def settings_that_differ(one: Mapping[str, Any], two: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """`difference` of the relevant values of two configurations, without paths and ranks."""
    both = []
    for tree in (one, two):
        kept = relevant(replace_paths(tree, None))
        kept["trainer"] = {key: value for key, value in kept["trainer"].items() if key not in _RANKS}
        both.append(kept)
    return [(RENAMED.get(key, key), then, now) for key, then, now in difference(both[0], both[1])]


def portable(tree: Any, paths: Mapping[str, Any]) -> Any:
    """Replace the data and runs folders in plain values by <data> and <runs>, since their location is irrelevant.

    Applies to values, and to values of overrides such as teacher.run=FOLDER, that equal or start with such a folder.
    """
    return moved(tree, {str(paths[name]): f"<{name}>" for name in ("runs", "data")})


def moved(tree: Any, folders: Mapping[str, str]) -> Any:
    """Replace folders (before -> now) in plain values; see `portable` for the values that it applies to."""
    if isinstance(tree, Mapping):
        return {key: moved(value, folders) for key, value in tree.items()}
    if isinstance(tree, list):
        return [moved(item, folders) for item in tree]
    if isinstance(tree, str):
        starts = [0, *(place + 1 for place, letter in enumerate(tree) if letter == "=")]
        for before, now in sorted(folders.items(), key=lambda pair: -len(pair[0])):  # they may be nested
            for start in starts:
                if f"{tree}/".startswith(f"{before}/", start):
                    return f"{tree[:start]}{now}{tree[start + len(before) :]}"
    return tree


def _as_before(node: Any) -> Any:
    """A value as written before its parts gained keys, so that earlier runs keep their names."""
    if isinstance(node, list):
        return [_as_before(item) for item in node]
    if not isinstance(node, Mapping):
        return node
    later = _later(str(node.get("_target_", "")))
    kept = {key: _as_before(value) for key, value in node.items() if key not in later or value != later[key]}
    if kept.get("_target_") == "kdface.heads.SphereFaceR":
        published = constant("kdface.heads.spherefacer", "PUBLISHED")
        scale, weight = published.get(str(kept.get("feature_norm", "hard")), (None, None))
        for key, value in (("scale", scale), ("loss_weight", weight)):
            if key in kept and kept[key] is None:  # null replaces an explicit default
                kept[key] = value
    return kept


@functools.cache
def _later(target: str) -> dict[str, Any]:
    """The keys added to a part later, with values that reproduce the earlier behaviour: its `ADDED_LATER`."""
    try:
        return dict(attribute(target, "ADDED_LATER", {}, inherited=False)) if target else {}
    except UserError:  # a part that is no longer available
        return {}


def flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted keys to leaf values; lists are leaves."""
    if not isinstance(tree, Mapping) or not tree:
        return {prefix: tree}
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found.update(flatten(value, f"{prefix}.{key}" if prefix else str(key)))
    return found


def difference(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """(key, value in a, value in b) for every leaf that differs; missing keys are shown as "(not set)"."""
    left, right = flatten(a), flatten(b)
    rows = []
    for key in sorted(set(left) | set(right)):
        one, two = left.get(key, "(not set)"), right.get(key, "(not set)")
        if one != two:
            rows.append((key, one, two))
    return rows
