"""kdface list [GROUP] [--config-dir DIR]: list the config groups, or the choices of one with a description."""

from __future__ import annotations

import sys

from kdface.commands.arguments import Parser, add_config_dirs
from kdface.config.paths import choices, conf_folder, groups, require_config_dir
from kdface.errors import UserError, nearest
from kdface.terminal import folded


def run(arguments: list[str]) -> int:
    """Run `kdface list` and return the exit code. Raises `UserError` if the group or folder does not exist."""
    parser = Parser(prog="kdface list", description=__doc__)
    parser.add_argument("group", nargs="?", help="list its choices; default: list the groups")
    add_config_dirs(parser)
    given = parser.parse_args(arguments)
    for folder in given.config_dirs:
        require_config_dir(folder)
    folders = [*given.config_dirs, conf_folder()]
    known = groups(folders)
    if given.group is None:
        width = max(map(len, known))
        for group in known:
            print(f"{group:<{width}}  {len(choices(group, folders)):>2} choices")
        print("\nkdface list GROUP shows the choices")
        return 0
    if given.group not in known:
        near = nearest(given.group, known)
        raise UserError(
            f"there is no config group {given.group!r}.",
            expected=f"one of {', '.join(known)}",
            nearest=f"kdface list {near}" if near else "",
        )
    found = choices(given.group, folders)
    width = max(len(name) for name in found)
    for name, text in found.items():
        print(folded(f"{name:<{width}}  {text}".rstrip(), width + 2, sys.stdout))
    return 0
