"""kdface config why KEY [OVERRIDES] [--config-dir FOLDER]; kdface config diff RUN RUN."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from kdface.commands.arguments import Parser, add_config_dirs
from kdface.errors import UserError, nearest

_ACTIONS = ("why", "diff")
_USAGE = "kdface config why KEY [OVERRIDES] [--config-dir FOLDER], or kdface config diff RUN RUN"


def run(arguments: list[str]) -> int:
    """Run `kdface config` and return the exit code. Raises `UserError` for invalid arguments."""
    parser = Parser(prog="kdface config", usage=_USAGE, add_help=False)
    parser.add_argument("words", nargs="*")
    add_config_dirs(parser)
    given = parser.parse_intermixed_args(arguments)
    match given.words:
        case ["why", key, *overrides] if not _is_override(key):
            return why(key, overrides, given.config_dirs)
        case ["diff", _, _] if given.config_dirs:
            raise UserError(
                "kdface config diff compares two runs and does not read --config-dir.",
                expected="kdface config diff RUN RUN",
                fix=shlex.join(["kdface", "config", *given.words]),
            )
        case ["diff", first, second]:
            return diff(first, second)
        case words:
            raise _invalid(words)


def _invalid(words: list[str]) -> UserError:
    """The error for overrides without a key, a key without an action, or a misspelt action."""
    first = words[0] if words else ""
    near, fix = "", ""
    if overrides := [word for word in words if word not in _ACTIONS]:
        if all(map(_is_override, overrides)):
            fix = f"kdface train {shlex.join(overrides)} --cfg job"
        elif first not in _ACTIONS and not _is_override(first) and not (near := nearest(first, _ACTIONS)):
            fix = f"kdface config why {shlex.join(words)}"
    return UserError(
        f"{' '.join(['kdface config', *words])}: invalid arguments.",
        expected=_USAGE,
        nearest=f"kdface config {near}" if near else "",
        fix=fix,
    )


def _is_override(word: str) -> bool:
    return "=" in word or word.startswith("~")


def why(key: str, overrides: list[str], config_dirs: list[Path]) -> int:
    """Print the value of a key and every place that sets it, the last one first."""
    from kdface.config.compose import compose
    from kdface.config.fingerprint import flatten

    composed = compose(overrides, config_dirs)
    leaves = flatten(composed.tree)
    shown = {name: value for name, value in leaves.items() if name == key or name.startswith(f"{key}.")}
    if not shown:
        near = nearest(key, leaves)
        raise UserError(f"there is no key {key!r}.", nearest=near, fix="kdface train --cfg job shows every key")
    for name, value in shown.items():
        print(f"{name} = {json.dumps(value)}")
        print(f"  set in   {composed.origins.of(name) or 'the program'}")
        for earlier in reversed(composed.origins.earlier.get(name, [])):
            print(f"  over     {earlier}")
    return 0


def diff(first: str, second: str) -> int:
    """Print the values that differ between two runs."""
    from kdface.config.fingerprint import difference
    from kdface.runs.folder import find_run

    one, two = find_run(first), find_run(second)
    rows = difference(one.read_config(), two.read_config())
    if not rows:
        print("the two configurations are the same")
        return 0
    print(f"- {one.root}\n+ {two.root}")
    for key, before, after in rows:
        print(f"  {key}\n    - {json.dumps(before)}\n    + {json.dumps(after)}")
    return 0
