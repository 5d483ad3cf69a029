"""From a composed job to its run folder, whose name is what the job computes."""

from __future__ import annotations

import secrets
import sys
from pathlib import Path

from kdface.commands.arguments import Arguments
from kdface.config.compose import Composed
from kdface.config.fingerprint import fingerprint
from kdface.runs.folder import RunFolder, prepare


def run_folder(composed: Composed) -> RunFolder:
    """Where a job's run lies. A seed of null is drawn here, and recorded."""
    tree = composed.tree
    if tree["seed"] is None:
        tree["seed"] = secrets.randbelow(2**31)
        composed.origins.set("seed", "drawn, since seed=null")
    return RunFolder(Path(tree["paths"]["runs"]) / tree["name"] / f"seed{tree['seed']}-{fingerprint(tree)[:8]}")


def prepare_run(composed: Composed, arguments: Arguments) -> RunFolder:
    """The run folder of a job, made where there is none."""
    folder = run_folder(composed)
    about = {
        "command": ["kdface", "train", *arguments.overrides],
        "choices": composed.choices,
        "where": composed.origins.where,
        "python": sys.executable,
    }
    return prepare(folder.root, composed.tree, about)
