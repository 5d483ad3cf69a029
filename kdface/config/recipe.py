"""An experiment's dataset values apply only to its dataset: another one on the command line uses its own."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf

log = logging.getLogger("kdface")
GROUP = "dataset"


def left_out(loader: Any, defaults: list[Any], chosen: str) -> dict[str, Any]:
    """Dotted key -> value of what experiments set under `dataset` for a dataset other than the chosen one.

    Empty if the experiments name no dataset, or the chosen one, since their values then apply to it.

    Args:
        loader: Hydra's config loader.
        defaults: the expanded defaults list of the composition.
        chosen: the final choice of the group.
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
    """The overrides of the dataset and its values, without removals of keys that are already left out."""
    kept = []
    for override in overrides:
        key = override.lstrip("+~").split("=")[0]
        if key.split(".")[0].split("@")[0] == GROUP and not (override.startswith("~") and key in without):
            kept.append(override)
    return kept


@functools.cache
def tell(chosen: str, values: str) -> None:
    """Warn once per process, even for a sweep of many jobs."""
    log.warning("dataset=%s is not the experiment's dataset: it uses its own values, without %s", chosen, values)


def _leaves(node: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    if isinstance(node, DictConfig):
        for key, value in OmegaConf.to_container(node, resolve=False).items():  # type: ignore[union-attr]
            yield f"{prefix}.{key!s}", value
