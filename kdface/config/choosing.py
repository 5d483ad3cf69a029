"""Compose the choices of groups once for all jobs of a command that share them, before applying values.

Hydra's defaults list depends only on the choices and takes nine tenths of a job's composition time.
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
# Nodes that accept keys absent from files; signatures check them.
_OPEN = ("trainer", "callbacks", "logger", "augmentation.after")


@dataclass(frozen=True)
class Chosen:
    """The composed choices, shared by jobs and not modified by them.

    Attributes:
        config: the composed configuration, including Hydra's own node.
        defaults: the expanded defaults list.
        origins: the origin of each key in the files.
    """

    config: DictConfig
    defaults: list[Any]
    origins: Origins


def split(loader: Any, overrides: list[str]) -> tuple[tuple[str, ...], list[Override]]:
    """Split overrides into choices, as given, and values, in order.

    Raises Hydra's `OverrideParseException`.
    """
    choosing: list[str] = []
    values: list[Override] = []
    parsed = OverridesParser.create().parse_overrides(overrides)
    own = [word for word, override in zip(overrides, parsed, strict=True) if override.is_hydra_override()]
    known = _repository(loader, tuple(own), _opened(loader, tuple(own)))
    for word, override in zip(overrides, parsed, strict=True):
        special = override.is_hydra_override() or override.is_sweep_override()  # Hydra's own; rejected
        if special or (known.group_exists(override.key_or_group) and not isinstance(override.value(), dict)):
            choosing.append(word)
        else:
            values.append(override)
    return tuple(choosing), values


@functools.lru_cache(maxsize=64)
def _repository(loader: Any, own: tuple[str, ...], opened: object) -> Any:
    """The available groups, including folders added by hydra.searchpath."""
    return repository(loader, CONFIG, own)


def with_values(loader: Any, config: DictConfig, values: list[Override]) -> DictConfig:
    """A copy of the chosen configuration with Hydra's overrides of values. Raises Hydra's errors."""
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
    """Replace interpolated nodes on the path to a key (`protocol: ${..lfw}`) by copies, so that a value below them
    overrides only itself."""
    node: Any = laid
    for name in key.split(".")[:-1]:
        if not OmegaConf.is_dict(node) or name not in node:
            return
        if OmegaConf.is_interpolation(node, name) and OmegaConf.is_dict(followed := node[name]):
            node[name] = copy.deepcopy(followed)
        node = node[name]


def _replaced(values: list[Override]) -> dict[str, str]:
    """Nodes whose part is replaced (`head._target_=pkg.Head`, `head={_target_: pkg.Head}`) -> its name."""
    found: dict[str, str] = {}
    for override in values:
        value = override.value()
        if override.key_or_group.endswith("._target_"):
            found[override.key_or_group.removesuffix("._target_")] = str(value)
        elif isinstance(value, dict) and "_target_" in {str(key) for key in value}:
            found[override.key_or_group] = next(str(name) for key, name in value.items() if str(key) == "_target_")
    return found


def _drop_foreign(laid: DictConfig, path: str, target: str, values: list[Override]) -> None:
    """Remove the values of a replaced part, except those that the new part accepts too."""
    node = OmegaConf.select(laid, path)
    if not OmegaConf.is_dict(node):
        return
    try:
        takes = signature(target)
    except UserError:  # reported by the check of the tree
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
    """The keys of a node set by an override."""
    key, value = override.key_or_group, override.value()
    if key == path and isinstance(value, dict):
        return [str(name) for name in value]
    return [key[len(path) + 1 :].partition(".")[0]] if key.startswith(f"{path}.") else []


def choose(loader: Any, choosing: tuple[str, ...]) -> Chosen:
    """Compose choices without values. Raises Hydra's errors.

    Args:
        loader: Hydra's config loader, cached with its last 64 compositions.
        choosing: the overrides that make choices.
    """
    return _choose(loader, choosing, _opened(loader, choosing))


def _opened(loader: Any, words: tuple[str, ...]) -> object:
    """A cache key that changes whenever Hydra is opened if the command line adds folders."""
    return loader.opened if any("hydra.searchpath" in word for word in words) else None


@functools.lru_cache(maxsize=64)
def _choose(loader: Any, choosing: tuple[str, ...], opened: object) -> Chosen:
    config, defaults, files = composed(loader, CONFIG, choosing)
    return Chosen(config, defaults, trace(files, defaults))
