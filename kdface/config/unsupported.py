"""Optimisers, schedules and callbacks of torch and Lightning that cannot train a run, and base classes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kdface.config.locate import ECOSYSTEM
from kdface.config.origin import Origins
from kdface.errors import UserError

# (package, class) of the bases of the ecosystem's parts, without those that are parts as well.
_USABLE = ("Precision", "MetricCollection", "KeypointParams", "BboxParams")
_BASES = {
    (package.partition(".")[0], name)
    for package, bases in ECOSYSTEM.items()
    for name in (base.rpartition(".")[2] for base in bases)
    if name not in _USABLE
} | {("torch", "_LRScheduler")}
_EMA = "ema.decay=0.999"
_AVERAGES = ("it saves the average instead of the weights", _EMA)
# group -> class -> why it is not supported, and what to use instead
_UNSUPPORTED: dict[str, dict[str, tuple[str, str]]] = {
    "callbacks": {
        "StochasticWeightAveraging": (
            "it adds an epoch to collect batch statistics, and its state is not resumed bit-identically",
            _EMA,
        ),
        "WeightAveraging": _AVERAGES,
        "EMAWeightAveraging": _AVERAGES,
        "GradientAccumulationScheduler": (
            "it would change the number of steps, and thus the schedule, during training",
            "trainer.accumulate_grad_batches=N",
        ),
        "BatchSizeFinder": (
            "the batch size determines the result, so it is fixed before training",
            "loader.batch_size=N",
        ),
        "LearningRateFinder": (
            "the learning rate determines the result, so it is fixed before training",
            "optimizer.lr=VALUE   (-m optimizer.lr=0.01,0.03,0.1 compares several)",
        ),
        "ModelPruning": (
            "checkpoints do not hold its masks, so a resumed run would lose them",
            "optimizer.weight_decay=VALUE   (or prune the trained network: torch.nn.utils.prune)",
        ),
        "Resume": ("every run already has it", "resume.every_n_train_steps=N"),
    },
    "optimizer": {
        "LBFGS": (
            "it is for whole datasets: it evaluates each batch many times, and flattens gradients that are stored "
            "with channels last",
            "optimizer=adamw",
        ),
        "Muon": ("it takes matrices only, and networks have convolutions and biases", "optimizer=adamw"),
        "SparseAdam": ("it takes sparse gradients, and those of a network are dense", "optimizer=adam"),
    },
    "scheduler": {
        "ReduceLROnPlateau": (
            "it waits for a metric of each epoch, but a schedule is a function of the optimiser step; "
            "scheduler=multistep lowers the learning rate at steps of your own",
            "scheduler=cosine",
        ),
    },
}


def require_supported(tree: Mapping[str, Any], origins: Origins) -> None:
    """Raise `UserError` for an optimiser, schedule or callback that cannot train a run, with what to use instead."""
    for group, path, node in _parts(tree):
        package, *_, kind = str(node["_target_"]).split(".")
        if kind not in _UNSUPPORTED[group] or package not in ("torch", "pytorch_lightning", "kdface"):
            continue
        why, instead = _UNSUPPORTED[group][kind]
        origin = origins.of(f"{path}._target_")
        command, _, word = origin.partition(": ")
        given = command == "command line" and "=" in word
        if group == "callbacks":
            alone = len(tree["callbacks"]) == 1 and Path(origin).parent.name == "callbacks"  # the choice of its group
            off = "callbacks=none" if alone else f"~{path}"
            fix = f"remove {path}, and add {instead}" if given else f"{off} {instead}"
        else:
            fix = f"{instead} in place of {word}" if given else instead
        raise UserError(f"{path} ({kind}) is not supported: {why}.", origin=origin, fix=fix)


def _parts(tree: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """(group, dotted path, node) of the parts that `_UNSUPPORTED` may name."""
    for group in _UNSUPPORTED:
        found = tree.get(group) or {}
        nodes = {f"{group}.{name}": node for name, node in found.items()} if group == "callbacks" else {group: found}
        yield from (
            (group, path, node)
            for path, node in nodes.items()
            if isinstance(node, dict) and "." in str(node.get("_target_"))
        )


def require_concrete(target: str, path: str, origin: str) -> None:
    """Raise `UserError` for a base class of torch, Lightning or albumentations, which does nothing by itself."""
    package, *_, kind = target.split(".")
    if (package, kind) in _BASES:
        group, _, nested = path.partition(".")
        raise UserError(
            f"{path}: {target} is a base class, which does nothing by itself.",
            expected="one of its subclasses",
            origin=origin,
            fix=f"kdface list {group}" if not nested or group in ("callbacks", "logger") else "",
        )
