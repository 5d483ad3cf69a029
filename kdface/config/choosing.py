"""What choices of groups compose to: once for all jobs of a command that share them, before values are laid over it.

Hydra's defaults list depends on the choices alone, and makes nine tenths of the time that a job's composition takes.
"""

from __future__ import annotations

import copy
import functools
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from kdface.config.hydra_api import apply_values, repository
from kdface.config.origin import Origins, trace

CONFIG = "config"
_OPEN = ("trainer", "augmentation.after")  # nodes that take keys which no file has; they are checked against signatures


@dataclass(frozen=True)
class Chosen:
    """What Hydra makes of choices; jobs share it, and none changes it.

    Attributes:
        config: composed, Hydra's own node in it.
        defaults: the defaults list, expanded.
        origins: of each key in the files.
    """

    config: DictConfig
    defaults: list[Any]
    origins: Origins


def split(loader: Any, overrides: list[str]) -> tuple[tuple[str, ...], list[Override]]:
    """The overrides that choose, as they were given, and those that set values, in their order.

    Raises Hydra's `OverrideParseException`.
    """
    choosing: list[str] = []
    values: list[Override] = []
    parsed = OverridesParser.create().parse_overrides(overrides)
    own = [word for word, each in zip(overrides, parsed, strict=True) if each.is_hydra_override()]
    known = _repository(loader, tuple(own))
    for word, each in zip(overrides, parsed, strict=True):
        special = each.is_hydra_override() or each.is_sweep_override()  # where Hydra looks; what it refuses
        if special or (known.group_exists(each.key_or_group) and not isinstance(each.value(), dict)):
            choosing.append(word)
        else:
            values.append(each)
    return tuple(choosing), values


@functools.lru_cache(maxsize=64)
def _repository(loader: Any, own: tuple[str, ...]) -> Any:
    """The groups that there are, with those of the folders that hydra.searchpath adds."""
    return repository(loader, CONFIG, own)


def with_values(loader: Any, config: DictConfig, values: list[Override]) -> DictConfig:
    """A copy of what was chosen, with values laid over it by Hydra. Raises what Hydra raises."""
    laid = copy.deepcopy(config)
    for name in _OPEN:
        if OmegaConf.is_config(node := OmegaConf.select(laid, name)):
            OmegaConf.set_struct(node, False)
    apply_values(loader, values, laid)
    return laid


@functools.lru_cache(maxsize=64)
def choose(loader: Any, choosing: tuple[str, ...]) -> Chosen:
    """Compose choices without values. Raises what Hydra raises.

    Args:
        loader: Hydra's config loader. It and what it composed last, up to 64 of them, are kept.
        choosing: the overrides that choose.
    """
    words = list(choosing)
    config = loader.load_configuration(config_name=CONFIG, overrides=words, run_mode=RunMode.RUN)
    defaults = loader.compute_defaults_list(config_name=CONFIG, overrides=words, run_mode=RunMode.RUN).defaults
    return Chosen(config, defaults, trace(loader, defaults))
