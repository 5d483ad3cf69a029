"""From a composed job to its run folder, which is named by a hash of the configuration."""

from __future__ import annotations

import functools
import secrets
import sys
from pathlib import Path
from typing import Any

from kdface.commands.arguments import Arguments
from kdface.config.compose import Composed
from kdface.config.files import paths_in
from kdface.config.fingerprint import fingerprint, fingerprints_of_before, same_but_paths
from kdface.runs.folder import RunFolder, prepare
from kdface.runs.named import is_edited
from kdface.training.identity import same_files


def run_folder(composed: Composed) -> RunFolder:
    """The run folder of a job. A null seed is drawn here and recorded.

    Also finds a run that started when its files were elsewhere (outside `paths.data`, which is not part of the name),
    or whose name still includes dataset.on_error.
    """
    tree = composed.tree
    if tree["seed"] is None:
        tree["seed"] = secrets.randbelow(2**31)
        composed.origins.set("seed", "drawn, since seed=null")
    beside = Path(tree["paths"]["runs"]) / tree["name"]
    folder = RunFolder(beside / f"seed{tree['seed']}-{fingerprint(tree)[:8]}")
    if folder.root.exists() or not beside.is_dir():
        return folder
    for name in fingerprints_of_before(tree):
        of_before = RunFolder(beside / f"seed{tree['seed']}-{name[:8]}")
        if of_before.config.is_file():
            return of_before
    roots = tuple(f"{tree['paths'][key]}/" for key in ("data", "runs"))
    if all(f"{path}/".startswith(roots) for _, path in paths_in(tree)):
        return folder
    for config in sorted(beside.glob(f"seed{tree['seed']}-*/config.yaml")):
        found, before = RunFolder(config.parent), _read(config, config.stat().st_mtime_ns)
        if same_but_paths(before, tree) and not is_edited(found, before) and same_files(found, tree):
            return found
    return folder


@functools.lru_cache(maxsize=1024)
def _read(config: Path, time: int) -> dict[str, Any]:
    """Read a configuration; cached, since every job of a sweep reads those of its neighbours."""
    return RunFolder(config.parent).read_config()


def prepare_run(folder: RunFolder, composed: Composed, arguments: Arguments) -> None:
    """Create the run folder of a job if it does not exist."""
    about = {
        "command": [
            *("kdface", "train", *arguments.overrides),
            *(word for folder in arguments.config_dirs for word in ("--config-dir", str(folder.absolute()))),
        ],
        "choices": composed.choices,
        "where": composed.origins.where,
        "python": sys.executable,
    }
    prepare(folder.root, composed.tree, about)
