"""What choices of groups compose to: once for all jobs of a command that share them, before values are laid over it.

Hydra's defaults list depends on the choices alone, and makes nine tenths of the time that a job's composition takes.
"""

from __future__ import annotations

import copy
import functools
import os
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from kdface.config.check import FRAMEWORK, INSTRUCTIONS, fits
from kdface.config.hydra_api import apply_values, composed, repository
from kdface.config.origin import Origins, trace
from kdface.config.source import signature
from kdface.errors import UserError

CONFIG = "config"
# Nodes with keys that no file has; signatures check them.
_OPEN = ("trainer", "callbacks", "logger", "augmentation.after")


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
    own = [word for word, override in zip(overrides, parsed, strict=True) if override.is_hydra_override()]
    known = _repository(loader, tuple(own), _opened(loader, tuple(own)))
    for word, override in zip(overrides, parsed, strict=True):
        special = override.is_hydra_override() or override.is_sweep_override()  # where Hydra looks; what it refuses
        if special or (known.group_exists(override.key_or_group) and not isinstance(override.value(), dict)):
            choosing.append(word)
        else:
            values.append(override)
    return tuple(choosing), values


@functools.lru_cache(maxsize=64)
def _repository(loader: Any, own: tuple[str, ...], opened: object) -> Any:
    """The groups that there are, with those of the folders that hydra.searchpath adds."""
    return repository(loader, CONFIG, own)


def with_values(loader: Any, config: DictConfig, values: list[Override]) -> DictConfig:
    """A copy of what was chosen, with values laid over it by Hydra. Raises what Hydra raises."""
    laid = copy.deepcopy(config)
    laid.hydra.runtime.cwd = os.getcwd()
    for name in _OPEN:
        if OmegaConf.is_config(node := OmegaConf.select(laid, name)):
            OmegaConf.set_struct(node, False)
    replaced = _replaced(values)
    for path in replaced:
        if OmegaConf.is_dict(node := OmegaConf.select(laid, path)):
            OmegaConf.set_struct(node, False)
    for override in values:
        _own_copies(laid, override.key_or_group)
        apply_values(loader, [override], laid)
    for path, target in replaced.items():
        _drop_foreign(laid, path, target, values)
    return laid


def _own_copies(laid: DictConfig, key: str) -> None:
    """Nodes on the way to a key that follow another node (`protocol: ${..lfw}`) become copies of it, so that a value
    below them is laid over the rest."""
    node: Any = laid
    for name in key.split(".")[:-1]:
        if not OmegaConf.is_dict(node) or name not in node:
            return
        if OmegaConf.is_interpolation(node, name) and OmegaConf.is_dict(followed := node[name]):
            node[name] = copy.deepcopy(followed)
        node = node[name]


def _replaced(values: list[Override]) -> dict[str, str]:
    """Nodes that get another part (`head._target_=pkg.Head`, `head={_target_: pkg.Head}`) -> its name."""
    found: dict[str, str] = {}
    for override in values:
        value = override.value()
        if override.key_or_group.endswith("._target_"):
            found[override.key_or_group.removesuffix("._target_")] = str(value)
        elif isinstance(value, dict) and "_target_" in {str(key) for key in value}:
            found[override.key_or_group] = next(str(name) for key, name in value.items() if str(key) == "_target_")
    return found


def _drop_foreign(laid: DictConfig, path: str, target: str, values: list[Override]) -> None:
    """The values of the part that was replaced go with it, except those that its successor takes too."""
    node = OmegaConf.select(laid, path)
    if not OmegaConf.is_dict(node):
        return
    try:
        takes = signature(target)
    except UserError:  # the check of the tree tells it
        return
    given = {name for value in values for name in _given(value, path)}
    plain = OmegaConf.to_container(node)
    assert isinstance(plain, dict)
    kept = {*takes, *FRAMEWORK.get(path, {}), *INSTRUCTIONS, *given}
    for key in map(str, plain):
        fit = key in given or key not in takes or fits(takes[key].hint, plain[key])
        if key not in kept or not fit:
            del node[key]


def _given(override: Override, path: str) -> list[str]:
    """The keys of a node that an override sets."""
    key, value = override.key_or_group, override.value()
    if key == path and isinstance(value, dict):
        return [str(name) for name in value]
    return [key[len(path) + 1 :].partition(".")[0]] if key.startswith(f"{path}.") else []


def choose(loader: Any, choosing: tuple[str, ...]) -> Chosen:
    """Compose choices without values. Raises what Hydra raises.

    Args:
        loader: Hydra's config loader. It and what it composed last, up to 64 of them, are kept.
        choosing: the overrides that choose.
    """
    return _choose(loader, choosing, _opened(loader, choosing))


def _opened(loader: Any, words: tuple[str, ...]) -> object:
    """What a command line adds to the folders is read again whenever Hydra is opened."""
    return loader.opened if any("hydra.searchpath" in word for word in words) else None


@functools.lru_cache(maxsize=64)
def _choose(loader: Any, choosing: tuple[str, ...], opened: object) -> Chosen:
    config, defaults, files = composed(loader, CONFIG, choosing)
    return Chosen(config, defaults, trace(files, defaults))
