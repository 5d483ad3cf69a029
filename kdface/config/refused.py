"""Translate Hydra's errors: what is wrong, where it was set, and a fix that works."""

from __future__ import annotations

import codecs
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from hydra.errors import MissingConfigException

from kdface.config.advice import (
    ALIASES,
    CLOSE,
    LAUNCHER_KEYS,
    LAUNCHERS,
    SWEEPERS,
    Trial,
    among,
    meant,
    or_another,
    renamed,
    works,
)
from kdface.config.check import INJECTED, given_by_framework
from kdface.config.locate import fields
from kdface.config.origin import Origins
from kdface.config.paths import choices, conf_folder, groups, root_groups
from kdface.config.renamed import old_name
from kdface.config.schema import Configuration, Part, TrainerArguments
from kdface.errors import UserError, nearest

_PLATEAU = "it follows a metric, but a schedule is a function of the step"
# What kdface takes from Hydra's own node; its callbacks have their own message.
_USED = ("launcher", "sweeper", "searchpath", "callbacks")
_OTHERS = "of Hydra's own settings, kdface uses hydra.launcher, hydra.sweeper and hydra.searchpath"
PACKAGE_LINE = "# @package _global_"
# Hydra's job management, which kdface replaces by its own run folders.
_NOT_USED = {
    "hydra.run": ("run folders are named after the configuration", "paths.runs="),
    "hydra.sweep": ("the run folders of a sweep are named after the configuration", "paths.runs="),
    "hydra.output_subdir": ("run folders are self-contained (config.yaml, origin.json)", ""),
    "hydra.job.chdir": ("kdface does not change the current folder", ""),
    "hydra.job.name": ("set the name of a run with name=", "name="),
    "hydra.job_logging": ("kdface prints to the terminal; output of jobs is in their run folders", ""),
    "hydra.hydra_logging": ("kdface prints to the terminal; output of jobs is in their run folders", ""),
    "hydra.verbose": ("there is only one log level", ""),
    "hydra.job.env_set": ("set variables for the command itself: NAME=VALUE kdface train", ""),
    "hydra.mode": ("-m starts a sweep", ""),
    "hydra/job_logging": ("kdface prints to the terminal; output of jobs is in their run folders", ""),
    "hydra/hydra_logging": ("kdface prints to the terminal; output of jobs is in their run folders", ""),
    # Hydra's own sweeper plugins
    "hydra.sweeper.direction": ("each objective has its own direction", "hydra.sweeper.objectives={METRIC:%}"),
    "hydra.sweeper.n_jobs": ("the launcher runs the jobs", "hydra.launcher.n_jobs="),
    "hydra.sweeper.study_name": ("a study is named after its runs and stored in the sweep's folder", "name="),
    "hydra.sweeper.storage": ("a study is stored in the sweep's folder, under paths.runs", ""),
    "hydra.sweeper.search_space": ("define the space in hydra.sweeper.params or on the command line", ""),
    "hydra.sweeper.sampler.seed": ("the sampler is chosen by name", "hydra.sweeper.seed="),
    "hydra/sweeper/sampler": ("the sampler is chosen by name", "hydra.sweeper.sampler="),
}


def require_used(overrides: Sequence[str]) -> None:
    """Raise `UserError` for Hydra settings that have no effect in kdface."""
    for word in overrides:
        key, _, value = word.lstrip("+~").partition("=")
        of_hydra = re.match(r"hydra[./](\w+)", key)
        others = {key: (_OTHERS, "")} if of_hydra and not nearest(of_hydra[1], _USED, CLOSE) else {}
        for prefix, (reason, ours) in (*_NOT_USED.items(), *others.items()):
            if key == prefix or key.startswith(f"{prefix}."):
                instead = ours.replace("%", value) if "%" in ours else f"{ours}{value}" if ours else ""
                raise UserError(
                    f"{key} has no effect: {reason}.",
                    nearest=instead if "%" not in ours else "",
                    origin=f"command line: {word}",
                    fix=instead or f"remove {key}",
                )


def require_listed(overrides: Sequence[str]) -> None:
    """Raise `UserError` for a package where choices name their parts themselves: `+callbacks@x=lr_monitor`."""
    for word in overrides:
        if found := re.fullmatch(r"\+?(callbacks|logger)@[^=]*=(.*)", word):
            group, choice = found.groups()
            others = [each.partition("=")[2].strip("[]") for each in overrides if each.startswith(f"{group}=")]
            listed = [name for name in (*others, choice) if name not in ("none", "null")]
            raise UserError(
                f"{word}: choices of {group} name their parts themselves.",
                nearest=f"{group}=[{','.join(listed)}]",
                origin=f"command line: {word}",
                fix=f"{group}=[{','.join(listed)}]",
            )


def missing_choice(error: MissingConfigException, overrides: Sequence[str], folders: list[Path]) -> UserError:
    """The error for an unknown choice: `backbone=resnt18`, `experiment=maskinv/smal_hg`."""
    missing = str(error.missing_cfg_file or "")
    if missing.startswith("hydra/"):
        return _missing_plugin(missing, overrides, list(error.options or ()))
    group, _, choice = missing.partition("/")
    written = rf"\+?{re.escape(group)}((@[^=]*)?={re.escape(choice)}$|=\[.*\b{re.escape(choice)}\b)"  # or in a list
    word = next((override for override in overrides if re.match(written, override)), "")
    if group not in groups(folders):
        return UserError(
            f"there is no config group {group!r}.",
            nearest=nearest(group, groups(folders)),
            origin=f"command line: {word}" if word else "a defaults list",
            fix="kdface list",
        )
    why = f": {_PLATEAU}" if group == "scheduler" and "plateau" in choice.lower() else ""
    return not_a_choice(f"there is no {group} named {choice!r}{why}.", group, choice, word, folders)


def not_a_choice(problem: str, group: str, choice: str, word: str, folders: list[Path]) -> UserError:
    """The error for a wrong choice, given by an override or, if that is empty, in a defaults list."""
    near, listed = among(choice, list(choices(group, folders)))
    entry = rf"\s*-\s[^#]*:\s*{re.escape(choice)}\s*(#|$)"
    plain = word if "@" in word else word.lstrip("+")
    whole = near.join(plain.rsplit(choice, 1)) if word and choice else f"{group}={near}"
    return UserError(
        problem,
        expected=f"one of {', '.join(listed)}{or_another(group)}",
        nearest=whole if near else "",
        origin=f"command line: {word}" if word else _line(_files(folders), entry) or "a defaults list",
        fix=f"kdface list {group}",
    )


def _missing_plugin(missing: str, overrides: Sequence[str], options: list[str]) -> UserError:
    """The error for `hydra/launcher=joblib`, with the equivalent launcher of kdface and its keys."""
    group, _, choice = missing.rpartition("/")
    known = LAUNCHERS if group == "hydra/launcher" else SWEEPERS
    options = [option for option in options if option != "basic" or group != "hydra/launcher"]
    ours = next(iter(known.get(choice, ())), "") or nearest(choice, options)
    kind = group.partition("/")[2]
    old, new = [f"{group}={choice}"], [f"{group}={ours}"]
    for word in overrides:
        prefix, _, key = word.lstrip("+").partition("=")[0].rpartition(".")
        if prefix == f"hydra.{kind}" and key in LAUNCHER_KEYS:
            old.append(word)
            new.append(f"{prefix}.{LAUNCHER_KEYS[key][0]}={word.partition('=')[2]}")
    return UserError(
        f"there is no {group} named {choice!r}.",
        expected=f"one of {', '.join(options)}",
        nearest=f"{group}={ours}" if ours and len(new) == 1 else "",
        origin=f"command line: {group}={choice}" if f"{group}={choice}" in overrides else "",
        fix=f"{' '.join(new)} in place of {' '.join(old)}" if ours else f"{group}={options[0]}",
    )


def bad_override(error: Exception, overrides: Sequence[str], folders: list[Path], trial: Trial) -> UserError:
    """The error for a composition that Hydra rejected, with the offending override or file and a suggestion."""
    text = " ".join(str(part) for part in (error, error.__cause__) if part)
    if isinstance(error, UnicodeDecodeError):
        return not_utf8(folders, error)
    if "--multirun" in text:
        return _sweep(next(word for word in overrides if f"'{word}'" in text), overrides, trial)
    if found := re.search(r"In '([^']+)': Could not override '([^']+)'", text):
        return _bad_defaults(found[1], found[2], folders)
    named = re.search(
        r"override '?([\w./@]+)'?|Key '([\w./@]+)'|override (\S+?)=|item is already at '([\w./@]+)'|"
        r"'([\w.]+)' does not",
        text,
    )
    key = next((group for group in named.groups() if group), "") if named else ""
    given = next(
        (override for override in overrides if key and override.lstrip("+~").split("=")[0] in (key, key.split("@")[0])),
        "",
    )
    if not given:
        for word in overrides:
            group, _, value = word.partition("=")
            if group in groups(folders) and not value.startswith("[") and value not in choices(group, folders):
                return not_a_choice(f"{group} = {value} is not a choice of its group.", group, value, word, folders)
        first = [line.strip() for line in str(error).splitlines() if line.strip()][:2]
        return UserError(f"the configuration cannot be composed: {' '.join(first)}")
    return unknown_key(given, overrides, trial)


def _sweep(word: str, overrides: Sequence[str], trial: Trial) -> UserError:
    """The error for several values (`a=1,2`, `choice(1,2)`) where one job is composed."""
    key, _, value = word.partition("=")
    values = value.removeprefix("choice(").removesuffix(")")
    place = overrides.index(word)

    def fits(one: str) -> bool:
        return works(f"{key}={one}", [*overrides[:place], f"{key}={one}", *overrides[place + 1 :]], trial)

    of_root = fields(Configuration).get(key)
    takes_one = of_root is not None and of_root.hint in (Part, Part | None, TrainerArguments)
    lists = not takes_one and fits(f"[{values}]")
    sweeps = not lists or fits(values.partition(",")[0])
    return UserError(
        f"{word} gives several values, but this is one job.",
        origin=f"command line: {word}",
        fix=", or ".join([f"{key}=[{values}]"] * lists + [f"add -m to sweep over {key.lstrip('+')}"] * sweeps),
    )


def unknown_key(given: str, overrides: Sequence[str], trial: Trial) -> UserError:
    """The error for an override of an unknown key, with the right name if there is one."""
    key, _, value = given.lstrip("+~").partition("=")
    try:
        keys = trial.keys([override for override in overrides if override != given])
    except UserError as earlier:
        return earlier
    group, _, name = key.partition(".")
    if name in INJECTED.get(group, ()):
        return given_by_framework(key, value, f"command line: {given}")
    if name and group in keys and not given.startswith("~") and not any(key.startswith(f"{group}.") for key in keys):
        return UserError(
            f"{key} is set, but {group} is none.",
            origin=f"command line: {given}",
            fix=f"remove {key}, or choose one (kdface list {group})",
        )
    if given.startswith("~"):
        near = "" if key in keys else nearest(key, keys)
        return UserError(
            f"{key!r} cannot be removed: it is {'null already' if key in keys else 'not there'}.",
            nearest=f"~{near}" if near else "",
            origin=f"command line: {given}",
            fix=f"remove ~{key}",
        )
    if key == "head.gradient" and not given.startswith("+"):
        return UserError(
            "head.gradient: the chosen head has no choice of gradient: its margin is outside the cosine, it has no "
            "margin, or the margin always affects the gradient.",
            origin=f"command line: {given}",
            fix=f"remove {key}",
        )
    if error := old_name(key, None if value == "null" else value, f"command line: {given}"):  # such as +key=null
        return error
    outside = [name for name in keys if not key.startswith(f"{name}.") and not name.endswith("._target_")]
    there = key in keys
    near = meant(given, keys, overrides, trial)
    alias = renamed(key, keys)
    if not near and value and "." in (ours := alias or nearest(key, outside, CLOSE)):
        refused = trial.problem([*(word for word in overrides if word != given), f"{ours}={value}"])
        return UserError(
            f"{key} is named {ours} here, and {ours}={value} cannot be used."
            if alias
            else f"unknown key {key!r}, and {ours}={value} cannot be used.",
            expected=refused.expected if refused else "",
            nearest=f"{ours}=VALUE",
            origin=f"command line: {given}",
            fix=f"{ours}=VALUE",
        )
    return UserError(
        f"{key!r} already exists; + only adds new keys." if there else f"unknown key {key!r}.",
        expected="" if there else "a group or a key of the composed configuration (see: kdface train --cfg job)",
        nearest=near,
        origin=f"command line: {given}",
        fix=near or f"remove {key}   (kdface train --cfg job shows every key)",
    )


def _bad_defaults(config: str, group: str, folders: list[Path]) -> UserError:
    """The error for a defaults list that overrides an unknown group: `override /data: lfw`."""
    name = group.lstrip("/").partition("@")[0]
    known = groups(folders)
    ours = next((alias for alias in ALIASES.get(name, ()) if alias in known), "") or nearest(name, known)
    file = next((folder / f"{config}.yaml" for folder in folders if (folder / f"{config}.yaml").is_file()), None)
    origin = config if file is None else _line([file], rf".*override\s+/?{name}\b") or str(file)
    return UserError(
        f"{config}.yaml overrides /{name}, which is not a group.",
        expected=f"one of {', '.join(known)}",
        nearest=f"/{ours}" if ours else "",
        origin=origin,
        fix=f"write /{ours} in place of /{name}" if ours else "kdface list",
    )


def _files(folders: list[Path]) -> list[Path]:
    return [file for folder in folders for file in sorted(folder.rglob("*.yaml"))]


def _line(files: Iterable[Path], pattern: str) -> str:
    """FILE:LINE of the first line that begins with a pattern; empty if there is none."""
    for file in files:
        for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            if re.match(pattern, line):
                return f"{file}:{number}"
    return ""


def not_utf8(folders: list[Path], error: UnicodeDecodeError) -> UserError:
    """The error for a configuration file in another encoding."""
    for file in _files(folders):
        content = file.read_bytes()
        try:
            content.decode("utf-8")
        except UnicodeDecodeError as found:
            line = content[: found.start].count(b"\n") + 1
            return UserError(
                f"{file} is not UTF-8 (byte 0x{content[found.start]:02x}).",
                origin=f"{file}:{line}",
                fix=f"save {file} as UTF-8",
            )
    return UserError(f"a configuration file is not UTF-8: {error.reason}.")


def require_package_line(key: str, origins: Origins) -> None:
    """Raise `UserError` for a group file whose values are meant for another node but end up under the group's name,
    an unknown key of the root."""
    origin = next((origins.of(below) for below in origins.under(key) if below != key), "")
    if key not in root_groups() or ".yaml:" not in origin:
        return
    file, line = Path(origin.rpartition(":")[0]), _package_line(key)
    if file.read_bytes().startswith(codecs.BOM_UTF8):
        raise UserError(
            f"{file} starts with a byte-order mark, which hides its first line, {line}, from Hydra.",
            origin=origin,
            fix=f"save {file} as UTF-8 without a byte-order mark",
        )
    raise UserError(
        f"{file} sets values of {key}.*, which are not used: its first line is not {line}.",
        origin=origin,
        fix=f"write the line '{line}' at the top of {file}",
    )


def _package_line(group: str) -> str:
    """The first line of most choices of a group that says where their values belong."""
    firsts = (file.read_text(encoding="utf-8").partition("\n")[0] for file in (conf_folder() / group).rglob("*.yaml"))
    counted = Counter(line for line in firsts if line.startswith("# @package"))
    return counted.most_common(1)[0][0] if counted else PACKAGE_LINE
