"""A trained run, loaded: its method with its weights, and what kind of images it takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdface.config.check import check_tree
from kdface.config.method import build_method
from kdface.config.origin import Origins
from kdface.config.schema import Configuration
from kdface.errors import UserError
from kdface.faces import Preprocessing
from kdface.hardware import weights_dtype
from kdface.methods import Method
from kdface.runs.checkpoint import load_weights_into, read_checkpoint
from kdface.runs.folder import RunFolder, find_run
from kdface.runs.named import require_one_run
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

    Raises `UserError` where the run, the checkpoint or a part of the configuration cannot be used. The configuration
    names only allowed packages and the checkpoint holds only tensors, so a folder from elsewhere runs no code.
    """
    folder = find_run(path)
    checkpoint = Path(path).expanduser() if Path(path).suffix == ".ckpt" else folder.last
    config = folder.read_config()
    check_tree(config, Configuration, Origins())
    about = read_checkpoint(checkpoint)["kdface"]
    require_one_run(folder, config, about, checkpoint)
    if checkpoint.name == folder.last.name:
        folder.require_final(int(about["step"]))
    preprocessing = Preprocessing.from_dict(about["preprocessing"])
    method = build_method(config, preprocessing, int(about["num_classes"]), load_network=None)
    method.people = tuple(about.get("people", ()))
    if config["ema"]["decay"] is not None:
        method.add_average()
    if (dtype := weights_dtype(config["trainer"].get("precision"))) is not None:
        method.to(dtype)
    load_weights_into(method, checkpoint)
    return LoadedRun(folder, method.eval(), config, checkpoint, int(about["step"]))


def load_network(run: Path) -> Teacher:
    """The network that a run ships, frozen, with the kind of image it sees and the head it was trained with.

    Raises `UserError` where the run is not finished; a checkpoint of it may be named all the same.
    """
    loaded = load_run(run)
    if not loaded.folder.done and run.suffix != ".ckpt":
        raise UserError(
            f"the run {loaded.folder.root} is not finished, and was to be a teacher.",
            fix=f"finish it (kdface run {loaded.folder.root}), or name a checkpoint in it",
        )
    method = loaded.method
    return Teacher(method.embedder, method.preprocessing, head=method.head)
