"""kdface list [GROUP]: the config groups, or the choices of one, with the line that describes each."""

from __future__ import annotations

import sys

from kdface.config.paths import choices, groups
from kdface.errors import UserError, nearest
from kdface.terminal import folded


def run(arguments: list[str]) -> int:
    """`kdface list`: returns the exit code. Raises `UserError` for words that it does not understand."""
    if not arguments:
        width = max(map(len, groups()))
        for group in groups():
            print(f"{group:<{width}}  {len(choices(group)):>2} choices")
        print("\nkdface list GROUP shows them")
        return 0
    group = arguments[0]
    if group not in groups():
        near = nearest(group, groups())
        raise UserError(
            f"there is no config group {group!r}.",
            expected=f"one of {', '.join(groups())}",
            nearest=f"kdface list {near}" if near else "",
        )
    found = choices(group)
    width = max(len(name) for name in found)
    for name, text in found.items():
        print(folded(f"{name:<{width}}  {text}".rstrip(), width + 2, sys.stdout))
    return 0
