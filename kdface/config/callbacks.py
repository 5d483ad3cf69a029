"""Check the callbacks of a configuration before anything is built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kdface.config.locate import plugins
from kdface.config.origin import Origins
from kdface.config.paths import choices
from kdface.errors import UserError, nearest

# Usual names of metrics -> ours; {} stands for a validation set.
_USUAL = {
    **dict.fromkeys(("loss", "train_loss", "training_loss"), "train/loss"),
    **dict.fromkeys(("val_loss", "val/loss", "valid_loss", "validation_loss"), "{}/eer"),
    **dict.fromkeys(("acc", "accuracy", "val_acc", "val/acc", "val_accuracy", "val/accuracy"), "{}/accuracy"),
}
_COUNTED = ("epoch", "step")  # monitored by Lightning's ModelCheckpoint without being logged


def check_callbacks(tree: Mapping[str, Any], origins: Origins) -> None:
    """Raise `UserError` for a callback that monitors a metric that is not measured, or writes the run's own file."""
    nodes: Mapping[str, Any] = tree.get("callbacks") or {}
    validation = list(tree.get("validation") or {})
    for name, node in nodes.items():
        path = f"callbacks.{name}"
        if node.get("save_last"):
            raise UserError(
                f"{path}.save_last: a run always saves its last checkpoint to checkpoints/last.ckpt.",
                origin=origins.of(f"{path}.save_last"),
                fix=f"{path}.save_last=false",
            )
        if node.get("filename") == "last":
            raise UserError(
                f"{path}.filename=last is the name of the run's own last checkpoint.",
                origin=origins.of(f"{path}.filename"),
                fix=f"{path}.filename=best",
            )
        monitor = node.get("monitor")
        if monitor == "auto" and not validation:
            raise UserError(
                f"{path} monitors a validation metric, but validation is none.",
                origin=origins.of(f"{path}.monitor"),
                fix=f"validation=people, or {path}.monitor=train/loss",
            )
        if isinstance(monitor, str) and not _is_measured(monitor, validation, tree):
            raise _unmeasured(path, node, validation, origins)


def _is_measured(monitor: str, validation: list[str], tree: Mapping[str, Any]) -> bool:
    """Whether a run may log a metric: parts of the user's own may log any."""
    nodes = [tree["method"], *(tree.get("callbacks") or {}).values()]
    targets = [str(node["_target_"]) for node in nodes]
    return (
        monitor in ("auto", *_COUNTED)
        or monitor.startswith(("train/", *(f"{name}/" for name in validation)))
        or (monitor.startswith("lr-") and any(target.endswith(".LearningRateMonitor") for target in targets))
        or any(target.partition(".")[0] in plugins() for target in targets)
    )


def _unmeasured(path: str, node: Mapping[str, Any], validation: list[str], origins: Origins) -> UserError:
    """The error for a metric that no run logs, with the one that was probably meant."""
    monitor = str(node["monitor"])
    test = monitor.partition("/")[0] if "/" in monitor else ""
    if test in {**choices("validation"), **choices("evaluation")}:  # not chosen
        chosen, near = f"validation={test}", monitor
    else:
        chosen, first = ("", validation[0]) if validation else ("validation=people", "people")
        known = ["train/loss", *(f"{name}/{metric}" for name in (first, *validation) for metric in ("eer", "accuracy"))]
        near = _USUAL.get(monitor.lower(), "").format(first) or nearest(monitor, known)
        near = near or (f"{first}/eer" if validation else "train/loss")
        chosen *= not near.startswith("train/")
    mode = "max" if near.endswith("accuracy") else "min"
    origin = origins.of(f"{path}.monitor")
    added = [chosen] if chosen else []
    if near != monitor:
        plus = "+" if origin.startswith(f"command line: +{path}.monitor=") else ""
        added.append(f"{plus}{path}.monitor={near}")
    added += [f"{'' if 'mode' in node else '+'}{path}.mode={mode}"] if node.get("mode", "min") != mode else []
    return UserError(
        f"{path}.monitor = {monitor}: no such metric is measured.",
        expected=", ".join(["train/TERM", *(f"{name}/METRIC" for name in validation)])
        + ("" if validation else "; metrics of faces need validation=people or images"),
        origin=origin,
        fix=" ".join(added),
    )
