"""kdface completion: print the line for ~/.bashrc that completes commands, groups, choices and keys.

They are read from file names and YAML text only, so that completion starts fast.
"""

from __future__ import annotations

import os
from pathlib import Path

from kdface.cli import COMMANDS
from kdface.commands.arguments import Parser
from kdface.config.origin import lines
from kdface.config.paths import choices, conf_folder, groups, root_groups


def run(words: list[str]) -> int:
    """Without arguments, print the line for ~/.bashrc. Bash calls this with COMP_LINE set."""
    line = os.environ.get("COMP_LINE")
    if line is None:
        Parser("completion", __doc__).read(words)
        print("complete -o nospace -C 'kdface completion' kdface")
        return 0
    point = int(os.environ.get("COMP_POINT", len(line)))
    for answer in answers(line[:point]):
        print(answer)
    return 0


def answers(line: str) -> list[str]:
    """The completions of a command line, given up to the cursor."""
    words = line.split()
    word = "" if line.endswith(" ") or not words else words[-1]
    before = words[:-1] if word else words
    if len(before) <= 1:
        return [f"{name} " for name in COMMANDS if name.startswith(word)]
    if before[1] == "list":
        return [f"{name} " for name in groups() if name.startswith(word)]
    if "=" in word:
        group, _, start = word.partition("=")
        if group in groups():  # bash breaks words at "=", so complete only what follows it
            return [f"{name} " for name in choices(group) if name.startswith(start)]
        return []
    found = [f"{name}=" for name in (*root_groups(), *_keys())]
    return sorted({option for option in found if option.startswith(word)})


def _keys() -> list[str]:
    """Dotted keys of the root and of each group's files, read as text."""
    conf = conf_folder()
    found = _keys_of(conf / "config.yaml", "")
    for group in root_groups():
        for name in choices(group):
            if group not in ("experiment", "evaluation"):
                found += _keys_of(conf / group / f"{name}.yaml", f"{group}.")
    return found


def _keys_of(file: Path, prefix: str) -> list[str]:
    return [prefix + key for key, _ in lines(file) if key.partition(".")[0] not in ("defaults", "_target_", "hydra")]
