"""The `trainer` node: any argument of `pl.Trainer`, by its own name and type. What would break a promise of kdface
(bit-exact resume, records that are always written, one result for any number of ranks) is refused with the reason."""

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
from kdface.config.source import trusted_signature
from kdface.errors import UserError, nearest
from kdface.runs.settings import num_devices

# argument -> why it is refused, and what serves instead
_REFUSED = {
    "logger": "loggers have their own group (logger=csv), and metrics.jsonl is always written",
    "callbacks": "they have their own group (callbacks=best, callbacks.NAME._target_=package.Class)",
    "enable_checkpointing": "a run always writes the checkpoint that it goes on from (resume.every_n_train_steps), and "
    "others are callbacks (callbacks=best)",
    "use_distributed_sampler": "the loader divides each batch over the ranks itself, so that no image is doubled",
    "reload_dataloaders_every_n_epochs": "a resumed run goes on in the middle of its loader, and the order of an epoch "
    "is drawn anew anyway",
    "barebones": "it switches off what records and saves a run (trainer.profiler=simple shows where time goes)",
    "default_root_dir": "a run writes into its run folder alone, below paths.runs",
}
_WHOLE = "a test set is evaluated whole; evaluation=none leaves it out"
_WITHOUT_EFFECT = {"limit_test_batches": _WHOLE, "limit_predict_batches": _WHOLE}
# Lightning's hints, narrowed to what it accepts.
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
    """The arguments that `trainer` may hold, by name; all have defaults."""
    return {
        name: replace(parameter, hint=_NARROWER.get(name, parameter.hint))
        for name, parameter in trusted_signature("pytorch_lightning", "Trainer").items()
        if name not in _REFUSED
    }


_ENDS = ("max_epochs", "max_steps")


def usable(node: Mapping[str, Any], path: str, origins: Origins) -> dict[str, Any]:
    """The values that Lightning's signature can check: -1 and null, which mean no end, are left out.

    Raises `UserError` for the first argument that is refused, or that has an earlier name.
    """
    for name, why in (_REFUSED | _WITHOUT_EFFECT).items():
        full = f"{path}.{name}"
        if name in node and (name in _REFUSED or origins.of(full)):  # an earlier run's folder may hold it
            raise UserError(f"{full} is not used: {why}.", origin=origins.of(full), fix=f"remove {full}")
    for name, value in node.items():
        if error := old_name(full := f"{path}.{name}", value, origins.of(full)):
            raise error
    return {name: value for name, value in node.items() if name not in _ENDS or value not in (-1, None)}


def require_sense(node: Mapping[str, Any], path: str, origins: Origins) -> None:
    """Raise `UserError` for a value of the right type that Lightning does not know, or a training without an end."""
    _require_known(node, path, origins)
    try:
        num_devices(node)
    except UserError as error:
        raise UserError(
            error.problem, expected=error.expected, origin=origins.of(f"{path}.devices"), fix=error.fix
        ) from None
    if all(node.get(end, -1) in (-1, None) for end in _ENDS):
        raise UserError(
            f"{path}.max_epochs = {node.get('max_epochs', -1)}: a schedule needs an end.",
            origin=origins.of(f"{path}.max_epochs"),
            fix=f"{path}.max_epochs=20, or {path}.max_steps=N beside it",
        )


def _require_known(node: Mapping[str, Any], path: str, origins: Origins) -> None:
    """Names that Lightning keeps in registries, which take seconds to import."""
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
            f"{path}.strategy = {strategy!r} is not used: it starts ranks as copies of a running process, which hold "
            "its open files and cannot go on by themselves.",
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
                f"{path}.{name} = {value!r}: Lightning has none of that name.",
                expected=f"one of {', '.join(valid)}",
                nearest=f"{path}.{name}={near}" if near else "",
                origin=origins.of(f"{path}.{name}"),
            )
