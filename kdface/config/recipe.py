"""An experiment's values for its dataset belong to that dataset: another one on the command line comes with its own."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf

log = logging.getLogger("kdface")
GROUP = "dataset"


def left_out(loader: Any, defaults: list[Any], chosen: str) -> dict[str, Any]:
    """dotted key -> value of what experiments set below `dataset` for another dataset than the chosen one.

    Empty where the experiments name no dataset, or the chosen one: their values are then meant for it.

    Args:
        loader: Hydra's config loader.
        defaults: the defaults list of the composition, expanded.
        chosen: the choice of the group that won.
    """
    named = chosen
    values: dict[str, Any] = {}
    for default in defaults:
        if not str(default.config_path).startswith("experiment/"):
            continue
        found = loader.repository.load_config(default.config_path)
        for entry in found.defaults_list or ():
            if entry.is_override() and str(entry.group).lstrip("/") == GROUP:
                named = str(entry.value)
        values.update(_leaves(found.config.get(GROUP), GROUP))
    return {} if named == chosen else values


def overrides_of_dataset(overrides: list[str], without: dict[str, Any]) -> list[str]:
    """The overrides that choose the dataset and set its values, without removals of what is left out already."""
    kept = []
    for override in overrides:
        key = override.lstrip("+~").split("=")[0]
        if key.split(".")[0].split("@")[0] == GROUP and not (override.startswith("~") and key in without):
            kept.append(override)
    return kept


@functools.cache
def tell(chosen: str, values: str) -> None:
    """Once in a process, however many jobs of a sweep it composes."""
    log.warning("dataset=%s is not the experiment's own dataset, so its own values hold, without %s", chosen, values)


def _leaves(node: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    if isinstance(node, DictConfig):
        for key, value in OmegaConf.to_container(node, resolve=False).items():  # type: ignore[union-attr]
            yield f"{prefix}.{key!s}", value
