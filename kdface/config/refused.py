"""What Hydra refuses, told in our words: what was wrong, where it was set, and a fix that works."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from hydra.errors import MissingConfigException, OverrideParseException

from kdface.config.advice import (
    ALIASES,
    LAUNCHER_KEYS,
    LAUNCHERS,
    SWEEPERS,
    among,
    close_to,
    meant,
    or_another,
    renamed,
)
from kdface.config.check import INJECTED, given_by_framework
from kdface.config.paths import choices, groups, root_groups
from kdface.errors import UserError, nearest

PACKAGE_LINE = "# @package _global_"
# What Hydra does for a program that it starts; kdface names and fills run folders itself.
_NOT_USED = {
    "hydra.run": ("the run folder is named after what is computed", "paths.runs="),
    "hydra.sweep": ("a sweep's run folders are named after what is computed", "paths.runs="),
    "hydra.output_subdir": ("a run folder describes itself (config.yaml, origin.json)", ""),
    "hydra.job.chdir": ("kdface stays in the current folder", ""),
    "hydra.job.name": ("a run is named by name=", "name="),
    "hydra.job_logging": ("kdface prints to the terminal; output of jobs is in their run folders", ""),
    "hydra.hydra_logging": ("kdface prints to the terminal; output of jobs is in their run folders", ""),
    "hydra.verbose": ("the log has one level", ""),
    "hydra.mode": ("a sweep is started by -m", ""),
    "hydra/job_logging": ("kdface prints to the terminal; output of jobs is in their run folders", ""),
    "hydra/hydra_logging": ("kdface prints to the terminal; output of jobs is in their run folders", ""),
    # of Hydra's own sweeper plug-ins
    "hydra.sweeper.direction": ("each objective has its direction", "hydra.sweeper.objectives={METRIC:%}"),
    "hydra.sweeper.n_jobs": ("the launcher runs the jobs", "hydra.launcher.n_jobs="),
    "hydra.sweeper.study_name": ("a study is named after its runs, and lies in the sweep's folder", "name="),
    "hydra.sweeper.storage": ("a study lies in the sweep's folder, below paths.runs", ""),
    "hydra.sweeper.search_space": ("the space stands in hydra.sweeper.params, or on the command line", ""),
    "hydra.sweeper.sampler.seed": ("the sampler is named by a word", "hydra.sweeper.seed="),
    "hydra/sweeper/sampler": ("the sampler is named by a word", "hydra.sweeper.sampler="),
}


_NAMED = re.compile(
    r"override '?([\w./@]+)'?|Key '([\w./@]+)'|override (\S+?)=|item is already at '([\w./@]+)'|'([\w.]+)' does not"
)


def require_used(overrides: Sequence[str]) -> None:
    """Refuse settings of Hydra that have no effect here, by name."""
    for word in overrides:
        key, _, value = word.lstrip("+").partition("=")
        for prefix, (reason, ours) in _NOT_USED.items():
            if key == prefix or key.startswith(f"{prefix}."):
                instead = ours.replace("%", value) if "%" in ours else f"{ours}{value}" if ours else ""
                raise UserError(
                    f"{key} is not used here: {reason}.",
                    nearest=instead if "%" not in ours else "",
                    origin=f"command line: {word}",
                    fix=instead or f"remove {key}",
                )


def not_parsed(error: OverrideParseException) -> UserError:
    """A word that is no override."""
    bad = str(getattr(error, "override", "") or "")
    return UserError(
        f"cannot read the override {bad!r}: {str(error.__cause__ or error).splitlines()[0].rstrip('.')}.",
        expected="KEY=VALUE, GROUP=CHOICE, +KEY=VALUE or ~KEY, as in Hydra",
        origin=f"command line: {bad}",
        fix="quote values with spaces, commas or brackets: 'KEY=\"VALUE, VALUE\"'",
    )


def missing_choice(error: MissingConfigException, overrides: Sequence[str], folders: list[Path]) -> UserError:
    """A choice that no file of its group has: `backbone=resnt18`, `experiment=maskinv/smal_hg`."""
    missing = str(error.missing_cfg_file or "")
    if missing.startswith("hydra/"):
        return _missing_plugin(missing, overrides, list(error.options or ()))
    group, _, choice = missing.partition("/")
    written = re.compile(rf"\+?{re.escape(group)}(@[^=]*)?={re.escape(choice)}")
    word = next((override for override in overrides if written.fullmatch(override)), "")
    if not word:  # one of a list: callbacks=[a,b]
        word = next(
            (override for override in overrides if re.match(rf"\+?{re.escape(group)}=\[.*\b{choice}\b", override)), ""
        )
    near, listed = among(choice, list(choices(group, folders)))
    if group not in groups(folders):
        return UserError(
            f"there is no config group {group!r}.",
            nearest=nearest(group, groups(folders)),
            origin=f"command line: {word}" if word else "a defaults list",
            fix="kdface list",
        )
    plain = word if "@" in word else word.lstrip("+")
    whole = near.join(plain.rsplit(choice, 1)) if word else f"{group}={near}"
    return UserError(
        f"there is no {group} named {choice!r}.",
        expected=f"one of {', '.join(listed)}{or_another(group)}",
        nearest=whole if near else "",
        origin=f"command line: {word}" if word else _defaults_entry(choice, folders) or "a defaults list",
        fix=f"kdface list {group}",
    )


def _missing_plugin(missing: str, overrides: Sequence[str], options: list[str]) -> UserError:
    """`hydra/launcher=joblib`: the launcher of ours that does it, and its keys by our names."""
    group, _, choice = missing.rpartition("/")
    known = LAUNCHERS if group == "hydra/launcher" else SWEEPERS
    options = [option for option in options if option != "basic" or group != "hydra/launcher"]
    ours = known.get(choice) or nearest(choice, options)
    kind = group.partition("/")[2]
    old, new = [f"{group}={choice}"], [f"{group}={ours}"]
    for word in overrides:
        prefix, _, key = word.lstrip("+").partition("=")[0].rpartition(".")
        if prefix == f"hydra.{kind}" and key in LAUNCHER_KEYS:
            old.append(word)
            new.append(f"{prefix}.{LAUNCHER_KEYS[key]}={word.partition('=')[2]}")
    return UserError(
        f"there is no {group} named {choice!r}.",
        expected=f"one of {', '.join(options)}",
        nearest=f"{group}={ours}" if ours and len(new) == 1 else "",
        origin=f"command line: {group}={choice}" if f"{group}={choice}" in overrides else "",
        fix=f"{' '.join(new)} in place of {' '.join(old)}" if ours else f"{group}={options[0]}",
    )


def bad_override(
    error: Exception,
    overrides: Sequence[str],
    folders: list[Path],
    keys_without: Callable[[list[str]], list[str]],
    problem: Callable[[list[str]], UserError | None],
) -> UserError:
    """A composition that Hydra refused: which override or file it was, and what was meant.

    Args:
        error: Hydra's.
        overrides: the command line.
        folders: the folders of configuration.
        keys_without: every key and group of what a command line composes to. Raises `UserError`.
        problem: the first mistake of a command line, if there is one.
    """
    text = " ".join(str(part) for part in (error, error.__cause__) if part)
    if isinstance(error, UnicodeDecodeError):
        return not_utf8(folders, error)
    if found := re.search(r"In '([^']+)': Could not override '([^']+)'", text):
        return _bad_defaults(found[1], found[2], folders)
    named = re.search(
        r"override '?([\w./@]+)'?|Key '([\w./@]+)'|override (\S+?)=|at '([\w./@]+)'|'([\w.]+)' does", text
    )
    key = next((group for group in named.groups() if group), "") if named else ""
    given = next(
        (override for override in overrides if key and override.lstrip("+~").split("=")[0] in (key, key.split("@")[0])),
        "",
    )
    if not given:
        for override in overrides:
            group, _, value = override.partition("=")
            if group in groups(folders) and not value.startswith("[") and value not in choices(group, folders):
                near, listed = among(value, list(choices(group, folders)))
                return UserError(
                    f"{group} = {value} is not a choice of its group.",
                    expected=f"one of {', '.join(listed)}",
                    nearest=f"{group}={near}" if near else "",
                    origin=f"command line: {override}",
                    fix=f"kdface list {group}",
                )
        first = [line.strip() for line in str(error).splitlines() if line.strip()][:2]
        return UserError(f"the configuration cannot be composed: {' '.join(first)}")
    return unknown_key(given, overrides, keys_without, problem)


def unknown_key(
    given: str,
    overrides: Sequence[str],
    keys_without: Callable[[list[str]], list[str]],
    problem: Callable[[list[str]], UserError | None],
) -> UserError:
    """An override whose key is not there, and what it is called here."""
    key, _, value = given.lstrip("+~").partition("=")
    try:
        keys = keys_without([override for override in overrides if override != given])
    except UserError as earlier:
        return earlier
    group, _, name = key.partition(".")
    if name in INJECTED.get(group, ()):
        return given_by_framework(key, value, f"command line: {given}")
    if name and group in keys and not given.startswith("~") and not any(key.startswith(f"{group}.") for key in keys):
        return UserError(
            f"{key} is set, and {group} is none.",
            origin=f"command line: {given}",
            fix=f"remove {key}, or choose one (kdface list {group})",
        )
    if given.startswith("~"):
        near = nearest(key, keys)
        return UserError(
            f"{key!r} is not there to be removed.",
            nearest=f"~{near}" if near else "",
            origin=f"command line: {given}",
            fix=f"remove {key}",
        )
    if key == "head.gradient" and not given.startswith("+"):
        return UserError(
            "head.gradient: the head that is chosen has no rules to choose from: its margin lies outside the cosine, "
            "it has none, or the margin always acts on the gradient.",
            origin=f"command line: {given}",
            fix=f"remove {key}",
        )
    there = key in keys
    near = meant(given, keys, overrides, problem)
    alias = renamed(key, keys)
    if not near and value and "." in (ours := alias or close_to(key, keys)):
        refused = problem([*(word for word in overrides if word != given), f"{ours}={value}"])
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
        f"{key!r} is there already, and + adds what is not." if there else f"unknown key {key!r}.",
        expected="" if there else "a group or a key of the composed configuration (see: kdface train --cfg job)",
        nearest=near,
        origin=f"command line: {given}",
        fix=near or f"remove {key}   (kdface train --cfg job shows every key)",
    )


def _bad_defaults(config: str, group: str, folders: list[Path]) -> UserError:
    """A file's defaults list overrides a group that is none: `override /data: lfw`."""
    name = group.lstrip("/").partition("@")[0]
    known = groups(folders)
    ours = next((alias for alias in ALIASES.get(name, ()) if alias in known), "") or nearest(name, known)
    origin = config
    for folder in folders:
        file = folder / f"{config}.yaml"
        if file.is_file():
            lines = file.read_text(encoding="utf-8").splitlines()
            found = [number for number, line in enumerate(lines, 1) if re.search(rf"override\s+/?{name}\b", line)]
            origin = f"{file}:{found[0]}" if found else str(file)
            break
    return UserError(
        f"{config}.yaml overrides /{name}, and there is no such group.",
        expected=f"one of {', '.join(known)}",
        nearest=f"/{ours}" if ours else "",
        origin=origin,
        fix=f"write /{ours} in place of /{name}" if ours else "kdface list",
    )


def _defaults_entry(choice: str, folders: list[Path]) -> str:
    """The file and line of a defaults list that names a choice; empty if none is found."""
    for folder in folders:
        for file in sorted(folder.rglob("*.yaml")):
            for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
                if re.match(rf"\s*-\s[^#]*:\s*{re.escape(choice)}\s*(#|$)", line):
                    return f"{file}:{number}"
    return ""


def not_utf8(folders: list[Path], error: UnicodeDecodeError) -> UserError:
    """A configuration file in another encoding."""
    for folder in folders:
        for file in sorted(folder.rglob("*.yaml")):
            try:
                file.read_text(encoding="utf-8")
            except UnicodeDecodeError as found:
                line = file.read_bytes()[: found.start].count(b"\n") + 1
                return UserError(
                    f"{file} is not UTF-8 (byte 0x{file.read_bytes()[found.start]:02x}).",
                    origin=f"{file}:{line}",
                    fix=f"save {file} as UTF-8",
                )
    return UserError(f"a configuration file is not UTF-8: {error.reason}.")


def require_package_line(key: str, origin: str, known: Sequence[str]) -> None:
    """Refuse a file of a group whose values are meant for the whole tree and lie below the group's name.

    Args:
        key: a key of the tree's root.
        origin: the file and line of a value below it.
        known: the keys that the root has.
    """
    if key in known or key not in root_groups() or ".yaml:" not in origin:
        return
    file = Path(origin.rpartition(":")[0])
    if file.read_bytes().startswith(codecs.BOM_UTF8):
        raise UserError(
            f"{file} begins with a byte-order mark, so Hydra does not see its first line, {PACKAGE_LINE}.",
            origin=origin,
            fix=f"save {file} as UTF-8 without a byte-order mark",
        )
    raise UserError(
        f"{file} sets values of {key}.*, not of the configuration: its first line is not {PACKAGE_LINE}.",
        origin=origin,
        fix=f"write the line '{PACKAGE_LINE}' at the top of {file}",
    )
