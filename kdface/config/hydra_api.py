"""All uses of Hydra's private API.

The public `hydra.compose` lacks the grid of a multirun, `--cfg` and `--info`, and recomposes the defaults list for
every job. pyproject.toml caps `hydra-core` because of this file; its tests compare with Hydra's own results.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import Container, DictConfig, OmegaConf

from kdface.errors import UserError

__all__ = ["BASIC_SWEEPER", "Hydra", "apply_values", "composed", "folders", "grid", "hydra_over", "repository", "show"]

BASIC_SWEEPER = f"{BasicSweeper.__module__}.{BasicSweeper.__qualname__}"


def hydra_over(shipped: Path, own: Sequence[Path]) -> Hydra:
    """Open Hydra on a folder of configurations; `own` folders take precedence, the first one first."""
    if own:
        search_path = create_config_search_path(str(shipped))
        for folder in reversed(own):
            search_path.prepend("command-line", f"file://{folder.resolve()}")
        loader = _Loader(search_path)
    else:
        loader = _shared(shipped, tuple(_stamps(shipped)))
    loader.opened = object()
    hydra = Hydra(task_name="kdface", config_loader=loader)
    GlobalHydra.instance().initialize(hydra)
    return hydra


class _Loader(ConfigLoaderImpl):
    """Keeps the defaults list and the files of a composition, which Hydra discards.

    Attributes:
        last: both, for the last composition.
        opened: changes whenever Hydra is opened: files read from folders without a stamp may be stale then.
    """

    last: tuple[list[Any], Any] = ([], None)
    opened: object = None

    def _compose_config_from_defaults_list(self, defaults: list[Any], repo: Any) -> DictConfig:
        self.last = (list(defaults), repo)
        return super()._compose_config_from_defaults_list(defaults, repo)


@functools.lru_cache(maxsize=1)
def _shared(shipped: Path, stamps: tuple[tuple[str, int, int], ...]) -> _Loader:
    """A loader cached, with its compositions, until a file of the folder changes."""
    return _Loader(create_config_search_path(str(shipped)))


def _stamps(folder: Path) -> Iterator[tuple[str, int, int]]:
    for root, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            found = os.stat(os.path.join(root, name))
            yield os.path.join(root, name), found.st_mtime_ns, found.st_size


def composed(loader: Any, config_name: str, overrides: Sequence[str]) -> tuple[DictConfig, list[Any], Any]:
    """The configuration of one job, its expanded defaults list, and the repository with its files in memory.

    Raises Hydra's errors.
    """
    config = loader.load_configuration(config_name=config_name, overrides=list(overrides), run_mode=RunMode.RUN)
    return config, *loader.last


def folders(loader: Any) -> list[Path]:
    """The folders that a config loader searches, in order."""
    paths = [str(source.path) for source in loader.get_search_path().get_path()]
    return [Path(path.removeprefix("file://")) for path in paths if path.startswith("file://")]


def repository(loader: Any, config_name: str, own: Sequence[str]) -> Any:
    """The available groups, including folders added by a `hydra.searchpath` override."""
    return loader._parse_overrides_and_create_caching_repo(config_name, list(own))[1]


def apply_values(loader: Any, values: Sequence[Override], config: DictConfig) -> None:
    """Apply overrides of values to a composed configuration in place. Raises Hydra's errors."""
    loader._apply_overrides_to_config(list(values), config)


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
