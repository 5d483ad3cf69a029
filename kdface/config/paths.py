"""The location, groups and choices of conf/. Lightweight: `--help`, completion and `list` use only this file."""

from __future__ import annotations

import os
import re
from pathlib import Path

from kdface.errors import UserError

# `~` at the start of a value or of an element of a list or sweep; Hydra's grammar has no unquoted `~`.
_HOME = re.compile(r"(?<=[=\[,])~[\w.-]*(?=[/\],]|$)")

# Groups that compose the files of conf/evaluation; on the command line they need a package:
# +protocol@evaluation.mine=random +testset@evaluation.mine.dataset=ytf347
WITHIN_TESTS = ("protocol", "testset")

PACKAGE = Path(__file__).resolve().parent.parent


def conf_folder() -> Path:
    """conf/ inside the installed package, or at the top of a checkout."""
    inside = PACKAGE / "conf"
    return inside if inside.is_dir() else PACKAGE.parent / "conf"


def expand_home(word: str) -> str:
    """An override with the home folder in the place of `~`: `dataset.root=~/faces`."""
    key, equals, value = word.partition("=")
    return key + _HOME.sub(lambda found: os.path.expanduser(found[0]), equals + value)


def require_config_dir(folder: Path) -> None:
    """Raise `UserError` if a folder for --config-dir is not there."""
    if not folder.is_dir():
        raise UserError(f"--config-dir {folder}: there is no such folder.", fix="give a folder of YAML files")


def groups(folders: list[Path] | None = None) -> list[str]:
    """The names of the config groups."""
    found = {
        entry.name
        for folder in (folders or [conf_folder()])
        for entry in folder.iterdir()
        if entry.is_dir() and entry.name != "hydra" and not entry.name.startswith((".", "_"))
    }
    return sorted(found)


def root_groups(folders: list[Path] | None = None) -> list[str]:
    """The names of the config groups that are chosen by their name alone: `head=arcface`."""
    return [name for name in groups(folders) if name not in WITHIN_TESTS]


def choices(group: str, folders: list[Path] | None = None) -> dict[str, str]:
    """The choices of a group with the one line that describes each (the first comment of its file)."""
    found: dict[str, str] = {}
    for folder in folders or [conf_folder()]:
        for file in sorted((folder / group).rglob("*.yaml")):
            if file.name.startswith("_"):  # what its siblings have in common
                continue
            name = file.relative_to(folder / group).with_suffix("").as_posix()
            found.setdefault(name, _first_comment(file))
    return dict(sorted(found.items()))


def _first_comment(file: Path) -> str:
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.startswith("#") and not line.startswith("# @package"):
            return line.lstrip("# ").strip()
        if line and not line.startswith("#"):
            break
    return ""
