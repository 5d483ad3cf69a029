"""kdface list: list the config groups, or the choices of one with a description."""

from __future__ import annotations

import sys

from kdface.commands.arguments import Parser
from kdface.config.paths import choices, conf_folder, groups, require_config_dir
from kdface.errors import UserError, nearest
from kdface.terminal import folded


def run(words: list[str]) -> int:
    """Run `kdface list` and return the exit code. Raises `UserError` if the group or folder does not exist."""
    given = Parser("list", __doc__, "[GROUP]").config_dir().read(words)
    for folder in given.config_dirs:
        require_config_dir(folder)
    folders = [*given.config_dirs, conf_folder()]
    known = groups(folders)
    if not given.things:
        width = max(map(len, known))
        for name in known:
            print(f"{name:<{width}}  {len(choices(name, folders)):>2} choices")
        print("\nkdface list GROUP shows the choices")
        return 0
    (group,) = given.things
    if group not in known:
        near = nearest(group, known)
        raise UserError(
            f"there is no config group {group!r}.",
            expected=f"one of {', '.join(known)}",
            nearest=f"kdface list {near}" if near else "",
        )
    found = choices(group, folders)
    width = max(len(name) for name in found)
    for name, text in found.items():
        print(folded(f"{name:<{width}}  {text}".rstrip(), width + 2, sys.stdout))
    return 0
