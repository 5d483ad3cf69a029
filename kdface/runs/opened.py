"""An opened run folder: its configuration and one of its checkpoints, checked to belong together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdface.config.locate import require_targets
from kdface.faces import Preprocessing
from kdface.runs.checkpoint import read_checkpoint
from kdface.runs.folder import RunFolder, find_run
from kdface.runs.named import require_one_run
from kdface.runs.pack import require_whole_pack


@dataclass(frozen=True)
class OpenedRun:
    """Attributes:
    folder: the run folder.
    checkpoint: file of the weights.
    config: the resolved configuration of the training.
    about: metadata of the checkpoint.
    weights: tensors by their names in the method.
    """

    folder: RunFolder
    checkpoint: Path
    config: dict[str, Any]
    about: dict[str, Any]
    weights: dict[str, Any]

    @property
    def step(self) -> int:
        """The step of the checkpoint."""
        return int(self.about["step"])

    @property
    def source(self) -> Preprocessing:
        """The images of the training set, before its augmentation."""
        return Preprocessing.from_dict(self.about["preprocessing"])


def open_run(path: str | Path) -> OpenedRun:
    """Open a run by its folder (the last checkpoint) or by a checkpoint.

    Raises `UserError` if there is no run, or its files cannot be read or are not from the same run.
    """
    folder = find_run(path)
    checkpoint = Path(path).expanduser() if Path(path).suffix == ".ckpt" else folder.weights
    require_whole_pack(folder.root)
    config = folder.read_config()
    require_targets(config)
    content = read_checkpoint(checkpoint)
    about = content["kdface"]
    require_one_run(folder, config, about, checkpoint)
    if checkpoint == folder.weights:
        folder.require_final(int(about["step"]))
    return OpenedRun(folder, checkpoint, config, about, content["state_dict"])
