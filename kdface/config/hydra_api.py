"""All uses of Hydra's private API.

The public `hydra.compose` lacks the grid of a multirun, `--cfg` and `--info`, and recomposes the defaults list for
every job: it depends only on the choices of groups and takes nine tenths of the time. Here, choices are composed once
for all jobs of a command that share them, before values are applied. pyproject.toml caps `hydra-core` because of this
file; its tests compare with Hydra's own results.
"""

from __future__ import annotations

import copy
import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.hydra import Hydra as _Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import Container, DictConfig, OmegaConf

from kdface.config.check import FRAMEWORK, INSTRUCTIONS, fits
from kdface.config.origin import Origins, trace
from kdface.config.source import signature
from kdface.errors import UserError

__all__ = ["CONFIG", "Chosen", "Hydra", "Loader", "grid", "hydra_over", "show"]

CONFIG = "config"
# Nodes that accept keys absent from files; signatures check them.
_OPEN = ("trainer", "callbacks", "logger", "augmentation.after")


class Hydra(_Hydra):
    """Hydra with our loader."""

    config_loader: Loader


def hydra_over(shipped: Path, own: Sequence[Path]) -> Hydra:
    """Open Hydra on a folder of configurations; `own` folders take precedence, the first one first."""
    if own:
        search_path = create_config_search_path(str(shipped))
        for folder in reversed(own):
            search_path.prepend("command-line", f"file://{folder.resolve()}")
        loader = Loader(search_path)
    else:
        loader = _shared(shipped, tuple(_stamps(shipped)))
    loader.opened = object()
    hydra = Hydra(task_name="kdface", config_loader=loader)
    GlobalHydra.instance().initialize(hydra)
    return hydra


@dataclass(frozen=True)
class Chosen:
    """The composed choices. Those of `Loader.choose` are shared by jobs: `with_values` copies their configuration.

    Attributes:
        config: the composed configuration, including Hydra's own node.
        defaults: the expanded defaults list.
        origins: the origin of each key in the files.
        kept: node whose part is replaced by its `_target_` -> keys that keep the values of the earlier part.
    """

    config: DictConfig
    defaults: list[Any]
    origins: Origins
    kept: Mapping[str, list[str]] = field(default_factory=dict)


class Loader(ConfigLoaderImpl):
    """Hydra's loader, which also keeps the defaults list and the files of a composition.

    Attributes:
        last: both, for the last composition.
        opened: changes whenever Hydra is opened: files read from folders without a stamp may be stale then.
    """

    last: tuple[list[Any], Any] = ([], None)
    opened: object = None

    def _compose_config_from_defaults_list(self, defaults: list[Any], repo: Any) -> DictConfig:
        self.last = (list(defaults), repo)
        return super()._compose_config_from_defaults_list(defaults, repo)

    @property
    def folders(self) -> list[Path]:
        """The folders that are searched, in order."""
        paths = [str(source.path) for source in self.get_search_path().get_path()]
        return [Path(path.removeprefix("file://")) for path in paths if path.startswith("file://")]

    def file(self, config_path: str) -> Any:
        """A file of a defaults list, before it is merged."""
        return self.repository.load_config(config_path)

    def split(self, overrides: list[str]) -> tuple[tuple[str, ...], list[Override]]:
        """Split overrides into choices, as given, and values, in order. Raises Hydra's `OverrideParseException`."""
        choosing: list[str] = []
        values: list[Override] = []
        parsed = OverridesParser.create().parse_overrides(overrides)
        own = tuple(word for word, override in zip(overrides, parsed, strict=True) if override.is_hydra_override())
        known = _repository(self, own, self._opened(own))
        for word, override in zip(overrides, parsed, strict=True):
            special = override.is_hydra_override() or override.is_sweep_override()  # Hydra's own; rejected
            if special or (known.group_exists(override.key_or_group) and not isinstance(override.value(), dict)):
                choosing.append(word)
            else:
                values.append(override)
        return tuple(choosing), values

    def choose(self, choosing: tuple[str, ...]) -> Chosen:
        """Compose choices without values; the last 64 compositions are cached. Raises Hydra's errors."""
        return _choose(self, choosing, self._opened(choosing))

    def with_values(self, config: DictConfig, values: list[Override]) -> DictConfig:
        """A copy of the chosen configuration with Hydra's overrides of values. Raises Hydra's errors."""
        laid = copy.deepcopy(config)
        laid.hydra.runtime.cwd = os.getcwd()
        replaced = _replaced(values)
        for path in (*_OPEN, *replaced):
            if OmegaConf.is_config(node := OmegaConf.select(laid, path)):
                OmegaConf.set_struct(node, False)
        for override in values:
            _own_copies(laid, override.key_or_group)
            self._apply_overrides_to_config([override], laid)
        for path, target in replaced.items():
            _drop_foreign(laid, path, target, values)
        return laid

    def _opened(self, words: tuple[str, ...]) -> object:
        """A cache key that changes whenever Hydra is opened if the command line adds folders."""
        return self.opened if any("hydra.searchpath" in word for word in words) else None


@functools.lru_cache(maxsize=64)
def _repository(loader: Loader, own: tuple[str, ...], opened: object) -> Any:
    """The available groups, including folders added by hydra.searchpath."""
    return loader._parse_overrides_and_create_caching_repo(CONFIG, list(own))[1]


@functools.lru_cache(maxsize=64)
def _choose(loader: Loader, choosing: tuple[str, ...], opened: object) -> Chosen:
    config = loader.load_configuration(config_name=CONFIG, overrides=list(choosing), run_mode=RunMode.RUN)
    defaults, files = loader.last
    return Chosen(config, defaults, trace(files, defaults))


@functools.lru_cache(maxsize=1)
def _shared(shipped: Path, stamps: tuple[tuple[str, int, int], ...]) -> Loader:
    """A loader cached, with its compositions, until a file of the folder changes."""
    return Loader(create_config_search_path(str(shipped)))


def _stamps(folder: Path) -> Iterator[tuple[str, int, int]]:
    for root, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            found = os.stat(os.path.join(root, name))
            yield os.path.join(root, name), found.st_mtime_ns, found.st_size


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
        key, value = override.key_or_group, override.value()
        given = {str(name): item for name, item in value.items()} if isinstance(value, dict) else {}
        if key.endswith("._target_"):
            found[key.removesuffix("._target_")] = str(value)
        elif "_target_" in given:
            found[key] = str(given["_target_"])
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
    kept = {*FRAMEWORK.get(path, {}), *INSTRUCTIONS, *given}
    for key, value in OmegaConf.to_container(node).items():  # type: ignore[union-attr]
        if key not in kept and not (key in takes and fits(takes[str(key)].hint, value)):
            del node[key]


def kept_values(before: DictConfig, after: DictConfig, values: list[Override]) -> dict[str, list[str]]:
    """The keys of replaced parts that keep the values of the earlier ones, by node."""
    found = {}
    for path, target in _replaced(values).items():
        old, new = OmegaConf.select(before, path), OmegaConf.select(after, path)
        if OmegaConf.is_dict(old) and OmegaConf.is_dict(new) and old.get("_target_") not in (None, target):
            own = {*FRAMEWORK.get(path, {}), *INSTRUCTIONS, *(name for value in values for name in _given(value, path))}
            found[path] = [str(key) for key in new if key in old and key not in own]
    return found


def _given(override: Override, path: str) -> list[str]:
    """The keys of a node set by an override."""
    key, value = override.key_or_group, override.value()
    if key == path and isinstance(value, dict):
        return [str(name) for name in value]
    return [key[len(path) + 1 :].partition(".")[0]] if key.startswith(f"{path}.") else []


def grid(hydra: Hydra, overrides: Sequence[str]) -> list[list[str]]:
    """The jobs of Hydra's own multirun."""
    parsed = OverridesParser.create(hydra.config_loader).parse_overrides(list(overrides))
    return [job for batch in BasicSweeper.split_arguments(parsed, max_batch_size=None) for job in batch]


def show(hydra: Hydra, config: DictConfig, kind: str, package: str | None, resolve: bool) -> None:
    """Print a configuration as `--cfg` does; Hydra's own composition does not know nodes that accept any key.

    Args:
        hydra: the instance that composed it.
        config: the configuration, including Hydra's own node.
        kind: job, hydra or all.
        package: dotted key of the node to print; null: everything. Raises `UserError` if it does not exist.
        resolve: resolve interpolations.
    """
    HydraConfig.instance().set_config(config)
    config = hydra.get_sanitized_cfg(config, kind)
    shown = OmegaConf.select(config, package) if package not in (None, "_global_") else config
    if shown is None:
        raise UserError(f"--package {package}: the configuration has no such node.", fix="kdface train --cfg job")
    if not isinstance(shown, Container):
        print(shown)
        return
    if resolve:
        OmegaConf.resolve(shown)
    heading = f"# @package {package}\n" if package is not None else ""
    print(heading + OmegaConf.to_yaml(shown), end="")
