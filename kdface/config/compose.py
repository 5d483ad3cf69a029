"""Compose Hydra's command line into a checked, resolved, plain tree. Hydra's errors are translated to `UserError`."""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import yaml
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kdface.config.advice import Trial
from kdface.config.callbacks import check_callbacks
from kdface.config.check import UnknownKeyError, check_tree
from kdface.config.files import absolute, require_bounded, require_name, with_paths
from kdface.config.fit import check_parts, register_views, require_transfer
from kdface.config.hydra_api import Chosen, Hydra, hydra_over, kept_values
from kdface.config.locate import fields, require_targets
from kdface.config.origin import Origins
from kdface.config.paths import choices, conf_folder, groups, require_config_dir, root_groups
from kdface.config.refused import (
    bad_override,
    missing_choice,
    not_a_choice,
    require_listed,
    require_package_line,
    require_used,
    unknown_key,
)
from kdface.config.schema import Configuration
from kdface.config.trainer import arguments
from kdface.config.unparsed import not_parsed
from kdface.config.unsupported import require_supported
from kdface.errors import UserError

log = logging.getLogger("kdface")
register_views()
# Groups that the evaluation of a finished run may set.
_OWN_OF_AN_EVALUATION = ("evaluation", "paths", "trainer", "hardware", "loader", "logger")


@dataclass
class Composed:
    """A checked configuration: plain containers, resolved interpolations, absolute paths."""

    tree: dict[str, Any]
    choices: dict[str, str]
    origins: Origins = field(default_factory=Origins)


@contextmanager
def hydra_context(config_dirs: list[Path]) -> Iterator[Hydra]:
    """Open Hydra on the shipped conf/; the user's own folders take precedence."""
    for folder in config_dirs:
        require_config_dir(folder)
        require_bounded(folder)
    before = GlobalHydra.instance().hydra  # state of the user's own application
    GlobalHydra.instance().clear()
    try:
        yield hydra_over(conf_folder(), config_dirs)
    finally:
        GlobalHydra.instance().hydra = before


def compose(
    overrides: list[str],
    config_dirs: list[Path] | None = None,
    around: dict[str, Any] | None = None,
    trains: bool = True,
) -> Composed:
    """Compose, resolve and check one job. Raises `UserError` for every user mistake.

    Args:
        overrides: as on the command line, without `~`, which `kdface.cli` and `kdface.api` expand.
        config_dirs: the user's own folders of YAML, which take precedence over the shipped one.
        around: the resolved configuration of a run, whose parts replace the composed ones, so that interpolations of
            a test set (`${dataset.size}`) refer to the run.
        trains: false: for inspecting data, without a teacher and without checking that parts fit together.
    """
    with hydra_context(config_dirs or []) as hydra:
        return compose_in(hydra, overrides, around, trains)


def compose_in(
    hydra: Hydra, overrides: list[str], around: dict[str, Any] | None = None, trains: bool = True
) -> Composed:
    """`compose` within an open Hydra context."""
    loaded = load(hydra, overrides)
    config, origins = loaded.config, loaded.origins
    chosen = {
        str(group): str(choice)
        for group, choice in OmegaConf.to_container(config.hydra.runtime.choices).items()  # type: ignore[union-attr]
        if not str(group).startswith("hydra/") and choice is not None
    }
    OmegaConf.set_struct(config, False)
    del config["hydra"]
    if "dataset" in chosen and any(override.lstrip("+").startswith("dataset=") for override in overrides):
        _use_own_dataset(hydra, loaded, overrides, chosen["dataset"])
    for key, value in (around or {}).items():
        if key not in _OWN_OF_AN_EVALUATION:
            config[key] = {} if value is None and key in groups() else value
    if not trains:
        config["teacher"] = {}
    tree = _resolve(config, origins)
    tree = null_for_none(tree)
    for key in tree:
        if key not in Configuration.__dataclass_fields__:
            require_package_line(key, origins)
    require_transfer((tree.get("method") or {}).get("_target_"), chosen.get("transfer", "none"), origins)
    if trains and around is None:
        require_supported(tree, origins)
    try:
        check_tree(tree, origins)
    except UnknownKeyError as error:
        for word in overrides:
            if not word.startswith("~") and f"{word.lstrip('+').partition('=')[0]}.".startswith(f"{error.key}."):
                told = unknown_key(word, overrides, _trial(hydra))
                raise (told if told.nearest or "." not in error.key else error) from None
        raise
    if trains and around is None:
        check_callbacks(tree, origins)
    if trains:
        check_parts(tree, origins)
    if not _advising:
        for path, kept in loaded.kept.items():
            _tell_kept(path, tuple(f"{key} = {tree[path][key]} ({origins.of(f'{path}.{key}')})" for key in kept))
    if tree["name"] is None:
        name = chosen.get("experiment") or f"{chosen['method']}/{chosen['backbone']}"
        tree["name"] = f"debug/{name}" if chosen.get("debug") else name
    require_name(tree["name"])
    return Composed(tree, chosen, origins)


def null_for_none(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A tree with null for each group whose choice is `none`, which Hydra composes to an empty node."""
    return {key: None if value == {} and key != "evaluation" else value for key, value in tree.items()}


def _use_own_dataset(hydra: Hydra, loaded: Chosen, overrides: list[str], chosen: str) -> None:
    """If the command line and the experiment name different datasets, use the values and origins of the former: what
    the experiment sets under `dataset` applies only to the dataset that it names."""
    named = chosen
    without: dict[str, Any] = {}
    for default in loaded.defaults:
        if str(default.config_path).startswith("experiment/"):
            file = hydra.config_loader.file(default.config_path)
            for entry in file.defaults_list or ():
                if entry.is_override() and str(entry.group).lstrip("/") == "dataset":
                    named = str(entry.value)
            if isinstance(node := file.config.get("dataset"), DictConfig):
                values = cast(dict[str, Any], OmegaConf.to_container(node, resolve=False))
                without |= {f"dataset.{key}": value for key, value in values.items()}
    if named == chosen or not without:
        return
    of_dataset = []  # without removals of keys that are left out
    for word in overrides:
        key = word.lstrip("+~").split("=")[0]
        if re.match(r"dataset\b", key) and not (word.startswith("~") and key in without):
            of_dataset.append(word)
    own = load(hydra, of_dataset)
    loaded.config["dataset"] = OmegaConf.to_container(own.config["dataset"], resolve=False)
    loaded.origins.take("dataset", own.origins)
    _tell(chosen, ", ".join(f"{key}={value}" for key, value in without.items()))


@functools.cache
def _tell(chosen: str, values: str) -> None:
    """Warn once per process, even for a sweep of many jobs."""
    log.warning("dataset=%s is not the experiment's dataset: it uses its own values, without %s", chosen, values)


@functools.cache
def _tell_kept(path: str, kept: tuple[str, ...]) -> None:
    """Warn once per process of the values of a replaced part that its replacement accepts too."""
    if kept:
        log.warning("%s._target_ replaces a part, whose values stay: %s", path, ", ".join(kept))


def load(hydra: Hydra, overrides: list[str]) -> Chosen:
    """Compose with Hydra and translate its errors."""
    require_used(overrides)
    require_listed(overrides)
    loader = hydra.config_loader
    overrides = _normalised(overrides, loader.folders)
    try:
        choosing, values = loader.split(overrides)
        made = loader.choose(choosing)
        config = loader.with_values(made.config, values)
    except OverrideParseException as error:
        raise not_parsed(error, overrides, _trial(hydra)) from None
    except MissingConfigException as error:
        raise missing_choice(error, overrides, loader.folders) from None
    except (ConfigCompositionException, OmegaConfBaseException, HydraException, ValueError, TypeError) as error:
        raise bad_override(error, overrides, loader.folders, _trial(hydra)) from None
    except (yaml.YAMLError, OSError) as error:
        raise UserError(f"a configuration file cannot be read: {' '.join(str(error).split())}.") from None
    origins = made.origins.copy()
    for value in values:
        given = value.value()
        for key in ("", *(f".{key}" for key in _keys(given if isinstance(given, dict) else {}))):
            origins.set(f"{value.key_or_group}{key}", f"command line: {value.input_line}")
    for word in choosing:
        if word.lstrip("+").startswith(("hydra.", "hydra/")):
            origins.set(word.lstrip("+").partition("=")[0].replace("/", "."), f"command line: {word}")
    require_targets(OmegaConf.to_container(config.hydra, resolve=False), origins.of, "hydra")
    return Chosen(config, made.defaults, origins, kept_values(made.config, config, values))


def _normalised(overrides: list[str], folders: list[Path]) -> list[str]:
    """Normalise choices for Hydra: `+experiment=demo` to `experiment=demo`, since every group is in the root's
    defaults list; `logger=null` to `logger=none`; `validation=lfw` to `+evaluation@validation=lfw`, since choices of
    the group `evaluation` may also be used during training; drop `experiment=null`, whose group is optional and has no
    `none`. Raises `UserError` for null where a choice is required."""
    found: list[str] = []
    known = root_groups(folders)
    for word in overrides:
        key, _, value = word.removeprefix("+").partition("=")
        if key not in known:
            found.append(word)
        elif key == "validation" and value not in choices(key) and value in choices("evaluation"):
            found.append(f"+evaluation@validation={value}")
        elif value != "null":
            found.append(word.removeprefix("+"))
        elif "none" in choices(key, folders):
            found.append(f"{key}=none")
        elif (part := fields(Configuration).get(key)) is not None and part.required:
            raise not_a_choice(f"{word}: a run needs one.", key, value, word, folders)
        else:
            found = [earlier for earlier in found if not earlier.startswith(f"{key}=")]
    return found


_advising = False


def _trial(hydra: Hydra) -> Trial:
    """Tries command lines, to suggest only what works; within a trial nothing is suggested."""

    def keys(overrides: list[str]) -> list[str]:
        tree = OmegaConf.to_container(load(hydra, overrides).config, resolve=False)
        more = [f"trainer.{name}" for name in arguments()]
        return [*root_groups(hydra.config_loader.folders), *more, *_keys(tree)]

    def problem(overrides: list[str]) -> UserError | None:
        global _advising
        if _advising:
            return UserError("no suggestions requested")
        _advising = True
        try:
            compose_in(hydra, overrides)
        except UserError as error:
            return error
        finally:
            _advising = False
        return None

    return Trial(keys, problem)


def _keys(tree: Any, prefix: str = "") -> Iterator[str]:
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield f"{prefix}{key}"
            yield from _keys(value, f"{prefix}{key}.")


def _resolve(config: DictConfig, origins: Origins) -> dict[str, Any]:
    """The plain tree, with absolute paths."""
    key = ""
    try:
        for key in ("paths.data", "paths.runs"):  # absolute before they are interpolated
            if isinstance(value := OmegaConf.select(config, key), str):
                OmegaConf.update(config, key, absolute(value))
        key = "the configuration"
        tree = OmegaConf.to_container(config, resolve=True, throw_on_missing=False)
    except OmegaConfBaseException as error:
        key = str(getattr(error, "full_key", "") or key)
        raise UserError(f"{key} cannot be resolved: {str(error).splitlines()[0]}", origin=origins.of(key)) from None
    return with_paths(cast(dict[str, Any], tree), lambda _, path: absolute(path))
