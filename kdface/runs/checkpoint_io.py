"""How Lightning writes and reads the checkpoints of a run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pytorch_lightning.plugins import CheckpointIO

from kdface.runs.checkpoint import read_checkpoint, write_checkpoint
from kdface.runs.folder import RunFolder, flush


class RunCheckpoints(CheckpointIO):
    """Checkpoints lie in the run's folder, and nowhere else on the way there."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        """Of the records, all that came before the checkpoint are on the disk before it is."""
        folder = RunFolder(Path(path).parent.parent)
        folder.require_there()
        if folder.metrics.is_file():
            flush(folder.metrics)
        write_checkpoint(checkpoint, Path(path))

    def load_checkpoint(
        self, path: str | os.PathLike[str], map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Verified against its checksum and read without executing anything, whatever `weights_only` says."""
        return read_checkpoint(Path(path))

    def remove_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Remove a checkpoint; one that is gone is gone."""
        Path(path).unlink(missing_ok=True)
