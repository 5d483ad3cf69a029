"""Compose Hydra's command line into a checked, resolved, plain tree. Hydra's errors are translated to `UserError`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kdface.config import views
from kdface.config.bounded import require_bounded
from kdface.config.check import UnknownKeyError, check_tree
from kdface.config.choosing import choose, split, with_values
from kdface.config.files import absolute, absolute_paths, require_name
from kdface.config.fit import check_parts, require_tags, require_transfer
from kdface.config.hydra_api import Hydra, folders, hydra_over
from kdface.config.locate import require_targets
from kdface.config.origin import Origins
from kdface.config.paths import choices, conf_folder, expand_home, groups, require_config_dir, root_groups
from kdface.config.recipe import left_out, overrides_of_dataset, tell
from kdface.config.refused import (
    bad_override,
    missing_choice,
    not_parsed,
    require_package_line,
    require_used,
    unknown_key,
)
from kdface.config.renamed import refuse_old_names
from kdface.config.schema import Configuration
from kdface.config.trainer import arguments
from kdface.errors import UserError

views.register()
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
        overrides: as on the command line.
        config_dirs: the user's own folders of YAML, which take precedence over the shipped one.
        around: the resolved configuration of a run, whose parts replace the composed ones, so that interpolations of
            a test set (`${dataset.size}`) refer to the run.
        trains: false: for inspecting data, without a teacher and without checking that parts fit together.
    """
    with hydra_context(config_dirs or []) as hydra:
        return compose_in(hydra, [expand_home(override) for override in overrides], around, trains)


def compose_in(
    hydra: Hydra, overrides: list[str], around: dict[str, Any] | None = None, trains: bool = True
) -> Composed:
    """`compose` within an open Hydra context."""
    overrides = _choices(overrides, hydra.config_loader)
    config, origins = _load(hydra, overrides)
    chosen = {
        str(group): str(choice)
        for group, choice in OmegaConf.to_container(config.hydra.runtime.choices).items()  # type: ignore[union-attr]
        if not str(group).startswith("hydra/") and choice is not None
    }
    OmegaConf.set_struct(config, False)
    del config["hydra"]
    if any(override.lstrip("+").startswith("dataset=") for override in overrides) and chosen.get("experiment"):
        _use_own_dataset(hydra, config, overrides, chosen, origins)
    for key, value in (around or {}).items():
        if key not in _OWN_OF_AN_EVALUATION:
            config[key] = {} if value is None and key in groups() else value
    if not trains:
        config["teacher"] = {}
    _absolute_folders(config, origins)
    tree = absolute_paths(_resolve(config, origins))
    for group, value in tree.items():
        if value == {} and group != "evaluation":
            tree[group] = None
    for key in tree:
        below = [other for other in origins.under(key) if other != key]
        require_package_line(key, origins.of(below[0]) if below else "", [*Configuration.__dataclass_fields__])
    require_transfer(tree, chosen, origins)
    try:
        check_tree(tree, Configuration, origins)
    except UnknownKeyError as error:
        added = [override for override in overrides if not override.startswith("~") and _key_of(override, error.key)]
        if not added:
            raise
        raise unknown_key(added[0], overrides, partial(_keys_of, hydra), partial(_problem, hydra)) from None
    if trains:
        check_parts(tree)
        require_tags(tree, origins)
    if tree["name"] is None:
        name = chosen.get("experiment") or f"{chosen['method']}/{chosen['backbone']}"
        tree["name"] = f"debug/{name}" if chosen.get("debug") else name
    require_name(tree["name"])
    return Composed(tree, chosen, origins)


def _use_own_dataset(
    hydra: Hydra, config: DictConfig, overrides: list[str], chosen: dict[str, str], origins: Origins
) -> None:
    """If the command line and the experiment name different datasets, use the values and origins of the former."""
    loader = hydra.config_loader
    without = left_out(loader, choose(loader, split(loader, overrides)[0]).defaults, chosen["dataset"])
    if not without:
        return
    own, origins_of_own = _load(hydra, overrides_of_dataset(overrides, without))
    config["dataset"] = OmegaConf.to_container(own["dataset"], resolve=False)
    origins.take("dataset", origins_of_own)
    tell(chosen["dataset"], ", ".join(f"{key}={value}" for key, value in without.items()))


def _absolute_folders(config: DictConfig, origins: Origins) -> None:
    """Make the two folders absolute before they are interpolated."""
    for key in ("data", "runs"):
        try:
            value = config.paths[key]
        except OmegaConfBaseException as error:
            raise _unresolved(error, f"paths.{key}", origins) from None
        if isinstance(value, str):
            config.paths[key] = absolute(value)


def load(hydra: Hydra, overrides: list[str]) -> DictConfig:
    """Compose with Hydra and translate its errors."""
    return _load(hydra, overrides)[0]


def _validation(word: str) -> str:
    """Rewrite `validation=lfw`: choices of the group `evaluation` may also be used during training."""
    group, _, choice = word.partition("=")
    if group == "validation" and choice not in choices("validation") and choice in choices("evaluation"):
        return f"+evaluation@validation={choice}"
    return word


def _load(hydra: Hydra, overrides: list[str]) -> tuple[DictConfig, Origins]:
    refuse_old_names(overrides)
    require_used(overrides)
    loader = hydra.config_loader
    overrides = [_validation(word) for word in _choices(overrides, loader)]
    try:
        choosing, values = split(loader, overrides)
        made = choose(loader, choosing)
        config = with_values(loader, made.config, values)
    except OverrideParseException as error:
        raise not_parsed(error) from None
    except MissingConfigException as error:
        raise missing_choice(error, overrides, folders(loader)) from None
    except (ConfigCompositionException, OmegaConfBaseException, HydraException, ValueError, TypeError) as error:
        raise bad_override(
            error, overrides, folders(loader), partial(_keys_of, hydra), partial(_problem, hydra)
        ) from None
    except (yaml.YAMLError, OSError) as error:
        raise UserError(f"a configuration file cannot be read: {' '.join(str(error).split())}.") from None
    origins = made.origins.copy()
    for value in values:
        origins.set(value.key_or_group, f"command line: {value.input_line}")
    for word in choosing:
        if word.lstrip("+").startswith("hydra."):
            origins.set(word.lstrip("+").partition("=")[0], f"command line: {word}")
    _require_unused(config, origins)
    return config, origins


def _require_unused(config: DictConfig, origins: Origins) -> None:
    """Raise `UserError` for settings in Hydra's own node that would be ignored."""
    own = OmegaConf.to_container(config.hydra, resolve=False)
    assert isinstance(own, dict)
    if callbacks := own["callbacks"]:
        where = f"hydra.callbacks.{next(iter(callbacks))}"
        raise UserError(
            f"{where} has no effect: kdface does not call Hydra's callbacks.",
            expected="training callbacks, in the group callbacks",
            origin=origins.of(where),
            fix=f"remove {where}",
        )
    require_targets(own, origins.of, "hydra")


def _choices(overrides: list[str], loader: Any) -> list[str]:
    """Normalise choices for Hydra: `+experiment=demo` to `experiment=demo`, since every group is in the root's
    defaults list; `logger=null` to `logger=none`; drop `experiment=null`, whose group has no `none`."""
    found: list[str] = []
    known = root_groups(folders(loader))
    for word in overrides:
        key, _, value = word.removeprefix("+").partition("=")
        if key not in known:
            found.append(word)
        elif value != "null":
            found.append(word.removeprefix("+"))
        elif "none" in choices(key, folders(loader)):
            found.append(f"{key}=none")
        else:
            found = [earlier for earlier in found if not earlier.startswith(f"{key}=")]
    return found


def _key_of(word: str, key: str) -> bool:
    """Whether an override sets this key or one below it."""
    given = word.lstrip("+").partition("=")[0]
    return given == key or given.startswith(f"{key}.")


def _keys_of(hydra: Hydra, overrides: list[str]) -> list[str]:
    config = load(hydra, overrides)
    more = [f"trainer.{name}" for name in arguments()]
    return [*root_groups(folders(hydra.config_loader)), *more, *_keys(OmegaConf.to_container(config, resolve=False))]


_advising = False


def _problem(hydra: Hydra, overrides: list[str]) -> UserError | None:
    """The first error of a command line, if any, without suggestions."""
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
