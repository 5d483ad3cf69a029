"""Check that a run's folder name, config.yaml and checkpoint belong together."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdface.config.files import replace_paths
from kdface.config.fingerprint import fingerprint, fingerprints_of_before, settings_that_differ
from kdface.errors import UserError
from kdface.runs.folder import RunFolder

_NAMED = re.compile(r"seed(\d+)-([0-9a-f]{8})")
Tree = Mapping[str, Any]


def require_one_run(folder: RunFolder, config: Tree, about: Tree | None = None, checkpoint: Path | None = None) -> None:
    """Raise `UserError` if a folder's name, its config.yaml and a checkpoint are not from the same run.

    Args:
        folder: the run folder; a renamed one is identified only by its checkpoint.
        config: its config.yaml.
        about: metadata of the checkpoint.
        checkpoint: file of the checkpoint.
    """
    from kdface.runs.checkpoint import read_checkpoint

    edited = is_edited(folder, config)
    if edited and about is None and folder.last.is_file():
        about = read_checkpoint(folder.last)["kdface"]  # identifies the edited setting
    theirs = about.get("config") if about is not None else None
    rows: list[tuple[str, Any, Any]] = []
    if isinstance(theirs, Mapping):
        rows = [("seed", theirs.get("seed"), config.get("seed"))] if theirs.get("seed") != config.get("seed") else []
        rows += settings_that_differ(theirs, config)
    key, then, now = rows[0] if rows else ("", None, None)
    what = f"{key} was {_plain(then)} and is {_plain(now)}" if rows else "its fingerprint does not match the name"
    if edited:
        beside = command_again(folder, f"{key}={_plain(now)}" if rows else "KEY=VALUE")
        raise UserError(
            f"{folder.config} was edited after the run was created: {what}.",
            fix=f"restore the file, or train another run with it: {beside}",
        )
    if rows:
        raise UserError(
            f"{checkpoint or folder.last} is not from the run in its folder: {what} in config.yaml.",
            fix=f"restore the run's own, or restart it: rm {folder.last}; kdface run {folder.root}",
        )


def is_edited(folder: RunFolder, config: Tree) -> bool:
    """Whether config.yaml does not match the folder's name."""
    named = _NAMED.fullmatch(folder.root.name)
    if named is None:
        return False
    before = replace_paths(config, folder.read_origin().get("began_at") or {})
    names = (fingerprint(before), *fingerprints_of_before(before))
    return named[2] not in [name[:8] for name in names] or str(config.get("seed")) != named[1]


def command_again(folder: RunFolder, *more: str) -> str:
    """The command that created a run, with further overrides."""
    given = folder.read_origin().get("command") or ["kdface", "train"]
    keys = {word.partition("=")[0] for word in more}
    return shlex.join([*(str(word) for word in given if word.partition("=")[0] not in keys), *more])


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
