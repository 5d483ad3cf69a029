"""The `trainer` node: any argument of `pl.Trainer`, with its name and type. Arguments that would break a guarantee of
kdface (bit-exact resume, complete records, results independent of the number of ranks) are rejected with the reason."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt

from kdface.config.locate import Parameter
from kdface.config.origin import Origins
from kdface.config.renamed import old_name
from kdface.config.settings import num_devices
from kdface.config.source import trusted_signature
from kdface.errors import UserError, nearest

# argument -> why it is rejected, and what to use instead
_REFUSED = {
    "logger": "loggers have their own group (logger=csv), and metrics.jsonl is always written",
    "callbacks": "they have their own group (callbacks=best, callbacks.NAME._target_=package.Class)",
    "enable_checkpointing": "a run always writes the checkpoint that it resumes from (resume.every_n_train_steps); "
    "others are callbacks (callbacks=best)",
    "use_distributed_sampler": "the loader already splits each batch over the ranks, without duplicate images",
    "reload_dataloaders_every_n_epochs": "a resumed run continues in the middle of its loader, which reshuffles every "
    "epoch anyway",
    "barebones": "it disables recording and saving (use trainer.profiler=simple to profile)",
    "default_root_dir": "a run writes only to its run folder, under paths.runs",
}
_WHOLE = "test sets are always evaluated completely; evaluation=none disables them"
_WITHOUT_EFFECT = {"limit_test_batches": _WHOLE, "limit_predict_batches": _WHOLE}
# Lightning's hints, narrowed to the values it accepts.
_NARROWER: dict[str, Any] = {
    "max_epochs": Annotated[int, Ge(1)],  # or -1: no limit
    "max_steps": Annotated[int, Ge(1)],  # or -1
    "num_nodes": Annotated[int, Ge(1)],
    "accumulate_grad_batches": Annotated[int, Ge(1)],
    "log_every_n_steps": Annotated[int, Ge(1)],
    "check_val_every_n_epoch": Annotated[int, Ge(1)] | None,
    "gradient_clip_val": Annotated[float, Gt(0)] | None,
    "gradient_clip_algorithm": Literal["norm", "value"] | None,
    "max_time": str | dict[str, int] | None,
    "val_check_interval": int | float | str | dict[str, int] | None,
}
_USUAL = ("auto", "ddp", "cpu", "gpu")
_COPIES = re.compile(r"spawn|fork|notebook")


@functools.cache
def arguments() -> dict[str, Parameter]:
    """The arguments allowed in `trainer`, by name; all have defaults."""
    return {
        name: replace(parameter, hint=_NARROWER.get(name, parameter.hint))
        for name, parameter in trusted_signature("pytorch_lightning", "Trainer").items()
        if name not in _REFUSED
    }


_ENDS = ("max_epochs", "max_steps")


def usable(node: Mapping[str, Any], path: str, origins: Origins) -> dict[str, Any]:
    """The values that Lightning's signature can check, without -1 and null, which mean no limit.

    Raises `UserError` for the first argument that is rejected or has an old name.
    """
    for name, why in (_REFUSED | _WITHOUT_EFFECT).items():
        full = f"{path}.{name}"
        if name in node and (name in _REFUSED or origins.of(full)):  # the folder of an earlier run may contain it
            given = next(iter(origins.under(full)), full)
            raise UserError(f"{full} is not supported: {why}.", origin=origins.of(full), fix=f"remove {given}")
    for name, value in node.items():
        if error := old_name(full := f"{path}.{name}", value, origins.of(full)):
            raise error
    return {name: value for name, value in node.items() if name not in _ENDS or value not in (-1, None)}


def require_sense(node: Mapping[str, Any], path: str, origins: Origins) -> None:
    """Raise `UserError` for a well-typed value that Lightning does not know, or training without a limit."""
    _require_known(node, path, origins)
    try:
        num_devices(node)
    except UserError as error:
        error.origin = origins.of(f"{path}.devices")
        raise
    if all(node.get(end, -1) in (-1, None) for end in _ENDS):
        raise UserError(
            f"{path}.max_epochs = {node.get('max_epochs', -1)}: a schedule needs a limit.",
            origin=origins.of(f"{path}.max_epochs"),
            fix=f"{path}.max_epochs=20, or {path}.max_steps=N in addition",
        )


def _require_known(node: Mapping[str, Any], path: str, origins: Origins) -> None:
    """Check names from Lightning's registries, which take seconds to import."""
    if (
        node.get("strategy", "auto") in _USUAL
        and node.get("accelerator", "auto") in _USUAL
        and not node.get("profiler")
    ):
        return
    from pytorch_lightning.accelerators import AcceleratorRegistry
    from pytorch_lightning.strategies import StrategyRegistry

    strategies = ["auto", *(name for name in StrategyRegistry.available_strategies() if not _COPIES.search(name))]
    strategy = node.get("strategy", "auto")
    if isinstance(strategy, str) and _COPIES.search(strategy):
        raise UserError(
            f"{path}.strategy = {strategy!r} is not supported: it forks ranks from a running process, which keep its "
            "open files and cannot resume on their own.",
            origin=origins.of(f"{path}.strategy"),
            fix=f"{path}.strategy=ddp",
        )
    names: dict[str, Iterable[str]] = {
        "strategy": strategies,
        "accelerator": ["auto", "gpu", *sorted(AcceleratorRegistry.available_accelerators())],
        "profiler": ["simple", "advanced", "pytorch", "xla"],
    }
    for name, valid in names.items():
        value = node.get(name)
        if isinstance(value, str) and value not in valid:
            near = nearest(value, valid)
            raise UserError(
                f"{path}.{name} = {value!r}: Lightning has no such option.",
                expected=f"one of {', '.join(valid)}",
                nearest=f"{path}.{name}={near}" if near else "",
                origin=origins.of(f"{path}.{name}"),
            )
