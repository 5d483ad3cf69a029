"""kdface config: where the value of a key was set, or what differs between two runs."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from kdface.commands.arguments import Arguments, Parser, act, is_override
from kdface.errors import UserError, nearest


def run(words: list[str]) -> int:
    """Run `kdface config` and return the exit code. Raises `UserError` for invalid arguments."""
    usage = Parser("config why", "Print the value of a key and every place that sets it.", "KEY", overrides=is_override)
    differ = Parser("config diff", "Print the values that differ between two runs.", "RUN", "RUN")
    actions = {"why": (usage.config_dir(), _why), "diff": (differ, _diff)}
    if fix := _meant(words, list(actions)):
        raise UserError(
            f"kdface config {' '.join(words)}: invalid arguments.",
            expected=", ".join(parser.call for parser, _ in actions.values()),
            fix=fix,
        )
    return act("config", __doc__, words, **actions)


def _meant(words: list[str], actions: list[str]) -> str:
    """The command that was meant by overrides without a key, or by a key without an action; empty: neither."""
    others = [word for word in words if word not in actions]
    if others and all(map(is_override, others)):
        return f"kdface train {shlex.join(others)} --cfg job"
    if others[:1] == words[:1] and words and not (words[0].startswith("-") or nearest(words[0], actions)):
        return f"kdface config why {shlex.join(words)}"
    return ""


def _why(given: Arguments) -> int:
    return why(given.things[0], given.overrides, given.config_dirs)


def _diff(given: Arguments) -> int:
    return diff(*given.things)


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
