"""A trained run, loaded: its method with its weights, and what kind of images it takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdface.config.check import check_tree
from kdface.config.method import build_method
from kdface.config.model_file import is_model_file, open_model
from kdface.config.origin import Origins
from kdface.config.schema import Configuration
from kdface.errors import UserError
from kdface.hardware import weights_dtype
from kdface.methods import Method
from kdface.runs.checkpoint import fill
from kdface.runs.folder import RunFolder
from kdface.runs.opened import OpenedRun, open_run
from kdface.teachers import Teacher


@dataclass
class LoadedRun:
    """Attributes:
    folder: where it lies.
    method: with the checkpoint's weights, in eval mode; `method.embed(images, method.preprocessing)` embeds.
    config: the resolved configuration it was trained with.
    checkpoint, step: which weights.
    """

    folder: RunFolder
    method: Method
    config: dict[str, Any]
    checkpoint: Path
    step: int


def load_run(path: str | Path) -> LoadedRun:
    """Load a run from its folder (its last checkpoint) or from one of its checkpoints. No dataset is needed.

    Raises `UserError` if the run, the checkpoint or a part of the configuration cannot be used. The configuration
    names only allowed packages and the checkpoint holds only tensors, so a folder from elsewhere runs no code.
    """
    run = open_run(path)
    return LoadedRun(run.folder, method_of(run), run.config, run.checkpoint, run.step)


def method_of(run: OpenedRun) -> Method:
    """The method of an opened run with its weights, without its teacher, in eval mode."""
    config, about = run.config, run.about
    check_tree(config, Configuration, Origins())
    method = build_method(config, run.source, int(about["num_classes"]), load_network=None)
    method.people = tuple(about.get("people", ()))
    if config["ema"]["decay"] is not None:
        method.add_average()
    if (dtype := weights_dtype(config["trainer"].get("precision"))) is not None:
        method.to(dtype)
    fill(method, run.weights, run.checkpoint)
    return method.eval()


def load_network(run: Path) -> Teacher:
    """The network that a run ships, frozen, with the kind of image it sees and the head it was trained with; or that of
    a file (`kdface.config.model_file`).

    Raises `UserError` if the run is not finished; a checkpoint of it may be named all the same.
    """
    if is_model_file(run):
        found, _ = open_model(run)
        return Teacher(found.network, found.preprocessing)
    loaded = load_run(run)
    if not loaded.folder.done and run.suffix != ".ckpt":
        raise UserError(
            f"the run {loaded.folder.root} is not finished, and was to be a teacher.",
            fix=f"finish it (kdface run {loaded.folder.root}), or name a checkpoint in it",
        )
    method = loaded.method
    return Teacher(method.embedder, method.preprocessing, head=method.head)
