"""Composition: Hydra's command line in, one checked, resolved, plain tree out. Hydra's errors come out as ours."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kdface.config import views
from kdface.config.assemble import check_parts
from kdface.config.check import INJECTED, check_tree, given_by_framework
from kdface.config.choosing import choose, split, with_values
from kdface.config.files import absolute, absolute_paths, require_name
from kdface.config.locate import require_targets
from kdface.config.origin import Origins
from kdface.config.paths import choices, conf_folder, expand_home, groups
from kdface.config.recipe import left_out, overrides_of_dataset, tell
from kdface.config.renamed import refuse_old_names
from kdface.config.schema import Configuration
from kdface.errors import UserError, nearest

views.register()
# What an evaluation of a finished run may set for itself.
_OWN_OF_AN_EVALUATION = ("evaluation", "paths", "trainer", "hardware", "loader", "logger")


@dataclass
class Composed:
    """A checked configuration: plain containers only, interpolations resolved, paths absolute."""

    tree: dict[str, Any]
    choices: dict[str, str]
    origins: Origins = field(default_factory=Origins)


@contextmanager
def hydra_context(config_dirs: list[Path]) -> Iterator[Hydra]:
    """Hydra over the shipped conf/, with the user's own folders laid over it (theirs are found first)."""
    for folder in config_dirs:
        if not folder.is_dir():
            raise UserError(f"--config-dir {folder}: there is no such folder.", mend="give a folder of YAML files")
    search_path = create_config_search_path(str(conf_folder()))
    for folder in reversed(config_dirs):
        search_path.prepend("command-line", f"file://{folder.resolve()}")
    GlobalHydra.instance().clear()
    try:
        yield Hydra.create_main_hydra2(task_name="kdface", config_search_path=search_path)
    finally:
        GlobalHydra.instance().clear()


def compose(
    overrides: list[str], config_dirs: list[Path] | None = None, around: dict[str, Any] | None = None
) -> Composed:
    """Compose, resolve and check one job. Raises `UserError` for every mistake of the user's.

    Args:
        overrides: as on the command line.
        config_dirs: the user's own folders of YAML, laid over the shipped one.
        around: the resolved configuration of a run, whose parts take the place of those composed, so that a test set
            that follows them (`${dataset.size}`) follows the run's.
    """
    with hydra_context(config_dirs or []) as hydra:
        return compose_in(hydra, [expand_home(each) for each in overrides], around)


def compose_in(hydra: Hydra, overrides: list[str], around: dict[str, Any] | None = None) -> Composed:
    """`compose` within an open Hydra context."""
    config, origins = _load(hydra, overrides)
    chosen = {
        str(group): str(choice)
        for group, choice in OmegaConf.to_container(config.hydra.runtime.choices).items()  # type: ignore[union-attr]
        if not str(group).startswith("hydra/") and choice is not None
    }
    OmegaConf.set_struct(config, False)
    del config["hydra"]
    if any(each.lstrip("+").startswith("dataset=") for each in overrides) and chosen.get("experiment"):
        _use_own_dataset(hydra, config, overrides, chosen, origins)
    for key, value in (around or {}).items():
        if key not in _OWN_OF_AN_EVALUATION:
            config[key] = {} if value is None and key in groups() else value
    _absolute_folders(config, origins)
    tree = absolute_paths(_resolve(config, origins))
    for group, value in tree.items():
        if value == {} and group != "evaluation":
            tree[group] = None
    check_tree(tree, Configuration, origins)
    check_parts(tree)
    if tree["name"] is None:
        tree["name"] = chosen.get("experiment") or f"{chosen['method']}/{chosen['backbone']}"
    require_name(tree["name"])
    return Composed(tree, chosen, origins)


def _use_own_dataset(
    hydra: Hydra, config: DictConfig, overrides: list[str], chosen: dict[str, str], origins: Origins
) -> None:
    """Where the command line names another dataset than the experiment does, take that one's values and origins."""
    loader = hydra.config_loader
    without = left_out(loader, choose(loader, split(loader, overrides)[0]).defaults, chosen["dataset"])
    if not without:
        return
    own, origins_of_own = _load(hydra, overrides_of_dataset(overrides, without))
    config["dataset"] = OmegaConf.to_container(own["dataset"], resolve=False)
    origins.take("dataset", origins_of_own)
    tell(chosen["dataset"], ", ".join(f"{key}={value}" for key, value in without.items()))


def _absolute_folders(config: DictConfig, origins: Origins) -> None:
    """The two folders become absolute before anything is built upon them."""
    for key in ("data", "runs"):
        try:
            value = config.paths[key]
        except OmegaConfBaseException as error:
            raise _unresolved(error, f"paths.{key}", origins) from None
        if isinstance(value, str):
            config.paths[key] = absolute(value)


def load(hydra: Hydra, overrides: list[str]) -> DictConfig:
    """Hydra's composition, its errors told in our words."""
    return _load(hydra, overrides)[0]


def _load(hydra: Hydra, overrides: list[str]) -> tuple[DictConfig, Origins]:
    refuse_old_names(overrides)
    loader = hydra.config_loader
    try:
        choosing, values = split(loader, overrides)
        made = choose(loader, choosing)
        config = with_values(loader, made.config, values)
    except OverrideParseException as error:
        bad = str(getattr(error, "override", "") or "")
        raise UserError(
            f"cannot read the override {bad!r}: {str(error.__cause__ or error).splitlines()[0]}.",
            expected="KEY=VALUE, GROUP=CHOICE, +KEY=VALUE or ~KEY, as in Hydra",
            origin="command line",
            mend="quote values with spaces, commas or brackets: 'key=\"a, b\"'",
        ) from None
    except MissingConfigException as error:
        raise _missing_choice(error, overrides) from None
    except (ConfigCompositionException, OmegaConfBaseException, HydraException, ValueError, TypeError) as error:
        raise _bad_override(hydra, error, overrides) from None
    except (yaml.YAMLError, OSError) as error:
        raise UserError(f"a configuration file cannot be read: {' '.join(str(error).split())}.") from None
    origins = made.origins.copy()
    for each in values:
        origins.set(each.key_or_group, f"command line: {each.input_line}")
    for word in choosing:
        if word.lstrip("+").startswith("hydra."):
            origins.set(word.lstrip("+").partition("=")[0], f"command line: {word}")
    _require_unused(config, origins)
    return config, origins


def _require_unused(config: DictConfig, origins: Origins) -> None:
    """Of Hydra's own node, only kdface's launchers and sweepers are built; what would not be used is refused."""
    own = OmegaConf.to_container(config.hydra, resolve=False)
    assert isinstance(own, dict)
    if callbacks := own["callbacks"]:
        where = f"hydra.callbacks.{next(iter(callbacks))}"
        raise UserError(
            f"{where} is not used here: kdface calls no callbacks of Hydra's.",
            expected="callbacks of training, in the group callbacks",
            origin=origins.of(where),
            mend=f"remove {where}",
        )
    require_targets(own, origins.of, "hydra")


def _missing_choice(error: MissingConfigException, overrides: list[str]) -> UserError:
    """A choice that no file of its group has: `backbone=resnt18`."""
    missing = str(error.missing_cfg_file or "")
    group, _, choice = missing.rpartition("/")
    if (options := error.options) is None:
        return UserError(f"there is no configuration {missing!r}: {str(error).splitlines()[0]}")
    near = nearest(choice, options)
    given = next((each for each in overrides if each.lstrip("+") == f"{group}={choice}"), "")
    return UserError(
        f"there is no {group} named {choice!r}.",
        expected=f"one of {', '.join(options)}",
        nearest=f"{group}={near}" if near else "",
        origin=f"command line: {given}" if given else "a defaults list",
        mend=f"kdface list {group}",
    )


def _bad_override(hydra: Hydra, error: Exception, overrides: list[str]) -> UserError:
    """An override that Hydra refused: find which, and the valid name nearest to it."""
    text = " ".join(str(part) for part in (error, error.__cause__) if part)
    named = re.search(r"override '?([\w./@]+)'?|Key '([\w./@]+)'|override (\S+?)=", text)
    key = next((each for each in named.groups() if each), "") if named else ""
    given = next((each for each in overrides if key and each.lstrip("+~").split("=")[0].split("@")[0] == key), "")
    if not given:
        for each in overrides:
            group, _, value = each.partition("=")
            if group in groups() and not value.startswith("[") and value not in choices(group):
                return UserError(
                    f"{group} = {value} is not a choice of its group.",
                    expected=f"one of {', '.join(choices(group))}",
                    origin=f"command line: {each}",
                    mend=f"kdface list {group}",
                )
        first = [line.strip() for line in str(error).splitlines() if line.strip()][:2]
        return UserError(f"the configuration cannot be composed: {' '.join(first)}")
    others = [each for each in overrides if each != given]
    valid = set(groups())
    try:
        config = load(hydra, others)
        valid |= set(_keys(OmegaConf.to_container(config, resolve=False)))
    except UserError as earlier:
        return earlier
    group, _, name = key.partition(".")
    if name in INJECTED.get(group, ()):
        return given_by_framework(key, given.partition("=")[2], f"command line: {given}")
    near = nearest(key, [each for each in valid if not each.startswith("hydra")] or valid)
    if "." in key and not nearest(key.rpartition(".")[2], [near.rpartition(".")[2]]):
        near = ""  # alike in the group's name alone
    value = given.partition("=")[2]
    return UserError(
        f"unknown key {key!r}.",
        expected="a group or a key of the composed configuration (see: kdface train --cfg job)",
        nearest=near,
        origin=f"command line: {given}",
        mend=f"{near}={value}" if near else "kdface train --cfg job shows every key",
    )


def _keys(tree: Any, prefix: str = "") -> Iterator[str]:
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield f"{prefix}{key}"
            yield from _keys(value, f"{prefix}{key}.")


def _resolve(config: DictConfig, origins: Origins) -> dict[str, Any]:
    try:
        tree = OmegaConf.to_container(config, resolve=True, throw_on_missing=False)
    except OmegaConfBaseException as error:
        raise _unresolved(error, "", origins) from None
    assert isinstance(tree, dict)
    return {str(key): value for key, value in tree.items()}


def _unresolved(error: Exception, key: str, origins: Origins) -> UserError:
    key = str(getattr(error, "full_key", "") or key)
    return UserError(f"{key} cannot be resolved: {str(error).splitlines()[0]}", origin=origins.of(key))
