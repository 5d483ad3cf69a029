"""Load a trained run: its method with weights, and its image format."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdface.assembly.method import method_of
from kdface.assembly.model_file import is_model_file, open_model
from kdface.errors import UserError
from kdface.methods import Method
from kdface.runs.folder import RunFolder
from kdface.runs.opened import open_run
from kdface.teachers import Teacher


@dataclass
class LoadedRun:
    """Attributes:
    folder: its run folder.
    method: the method in eval mode with the checkpoint's weights; `method.embed(images, method.preprocessing)` embeds.
    config: the resolved configuration of the training.
    checkpoint, step: the source of the weights.
    """

    folder: RunFolder
    method: Method
    config: dict[str, Any]
    checkpoint: Path
    step: int


def load_run(path: str | Path) -> LoadedRun:
    """Load a run from its folder (the last checkpoint) or from a checkpoint. Needs no dataset.

    Raises `UserError` if the run, the checkpoint or a part of the configuration is unusable. The configuration names
    only allowed packages and the checkpoint contains only tensors, so an untrusted folder cannot run code.
    """
    run = open_run(path)
    return LoadedRun(run.folder, method_of(run), run.config, run.checkpoint, run.step)


def load_network(run: Path) -> Teacher:
    """The frozen network of a run, with its image format and head, or the network of a file
    (`kdface.assembly.model_file`).

    Raises `UserError` if the run is not finished, unless one of its checkpoints is named.
    """
    if is_model_file(run):
        found, _ = open_model(run)
        return Teacher(found.network, found.preprocessing)
    loaded = load_run(run)
    if not loaded.folder.done and run.suffix != ".ckpt":
        raise UserError(
            f"the teacher run {loaded.folder.root} is not finished.",
            fix=f"finish it (kdface run {loaded.folder.root}), or name a checkpoint in it",
        )
    method = loaded.method
    return Teacher(method.embedder, method.preprocessing, head=method.head, people=method.people)
