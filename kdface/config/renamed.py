"""Renamed configuration keys.

One table is used for the error on old names, for reading earlier run folders, and for the fingerprint, which is
computed over the old names, so that earlier runs keep theirs.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from kdface.config.advice import typed
from kdface.errors import UserError

# old -> new. Arguments of pl.Trainer keep Lightning's names; everything else has its own node.
RENAMED = {
    "trainer.batch_size": "loader.batch_size",
    "trainer.workers": "loader.num_workers",
    "trainer.accumulate": "trainer.accumulate_grad_batches",
    "trainer.clip_norm": "trainer.gradient_clip_val",
    "trainer.nodes": "trainer.num_nodes",
    "trainer.log_steps": "trainer.log_every_n_steps",
    "trainer.profile": "hardware.profile",
    "trainer.threads": "hardware.threads",
    "trainer.compile": "hardware.compile",
    "trainer.ema_decay": "ema.decay",
    "trainer.checkpoint_steps": "resume.every_n_train_steps",
    "trainer.evaluate_epochs": "trainer.check_val_every_n_epoch",
    "trainer.evaluate_untrained": "evaluate_untrained",
}
_OUTSIDE = "its margin is outside the cosine, so both settings have the same gradient"
_NONE = "it has no margin, so both settings have the same gradient"
# _target_ -> keys that had no effect, and why. Configurations of earlier runs may contain them.
WITHOUT_EFFECT: dict[str, dict[str, str]] = {
    "kdface.heads.CosFace": {"gradient": _OUTSIDE},
    "kdface.heads.ElasticFaceCos": {"gradient": _OUTSIDE},
    "kdface.heads.NormFace": {"gradient": _NONE},
    "kdface.heads.Softmax": {"gradient": _NONE},
}
_EVERY = "trainer.evaluate_epochs"  # null or epochs; now always epochs, and `validation` enables it


def old_name(key: str, value: object, origin: str) -> UserError | None:
    """The error for an old name, with the new one; null if the name is not an old one."""
    if key == "trainer.max_steps" and value in (None, "None"):
        return UserError(
            "trainer.max_steps = null: Lightning uses -1 for no limit.",
            nearest="trainer.max_steps=-1",
            origin=origin,
            fix="trainer.max_steps=-1",
        )
    if key not in RENAMED:
        return None
    text = typed(value)
    fix = f"{RENAMED[key]}={text}"
    if key == _EVERY:
        fix = "validation=none" if text == "null" else f"{fix} validation=evaluation"
    return UserError(f"{key} was renamed to {RENAMED[key]}.", nearest=fix.partition(" ")[0], origin=origin, fix=fix)


def upgraded(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of an earlier run under the current names."""
    if "loader" in tree or not isinstance(tree.get("trainer"), Mapping):
        return dict(tree)
    new = copy.deepcopy(dict(tree))
    if "_target_" in (new.get("logger") or {}):  # a removed class; does not affect results
        new["logger"] = None
    trainer = new["trainer"]
    if (every := trainer.pop("evaluate_epochs", None)) is not None:
        trainer["check_val_every_n_epoch"] = every
        new["validation"] = copy.deepcopy(new["evaluation"])
    for old, name in RENAMED.items():
        key = old.partition(".")[2]
        if key in trainer:
            _set(new, name, trainer.pop(key))
    if trainer.get("max_steps", -1) is None:
        trainer["max_steps"] = -1
    return new


def as_before(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of a run under the old names; newer keys are unchanged."""
    old = copy.deepcopy(upgraded(tree))
    trainer = old.setdefault("trainer", {})
    every = trainer.pop("check_val_every_n_epoch", 1)
    validation = old.pop("validation", None)
    for before, name in RENAMED.items():
        if before != _EVERY and (found := _take(old, name)) is not None:
            trainer[before.partition(".")[2]] = found[0]
    if trainer.get("max_steps") == -1:
        trainer["max_steps"] = None
    trainer["evaluate_epochs"] = every if validation and validation == old.get("evaluation") else None
    if validation and trainer["evaluate_epochs"] is None:
        old["validation"], trainer["check_val_every_n_epoch"] = validation, every
    return old


def _set(tree: dict[str, Any], path: str, value: Any) -> None:
    node, _, key = path.rpartition(".")
    (tree.setdefault(node, {}) if node else tree)[key] = value


def _take(tree: dict[str, Any], path: str) -> tuple[Any] | None:
    """Remove a value, and its node if it becomes empty."""
    node, _, key = path.rpartition(".")
    within = tree.get(node) if node else tree
    if not isinstance(within, dict) or key not in within:
        return None
    value = within.pop(key)
    if node and not within:
        del tree[node]
    return (value,)
