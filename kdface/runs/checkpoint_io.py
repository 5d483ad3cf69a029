"""Checkpoint I/O for Lightning."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pytorch_lightning.plugins import CheckpointIO

from kdface.runs.checkpoint import read_checkpoint, write_checkpoint
from kdface.runs.folder import RunFolder, flush


class RunCheckpoints(CheckpointIO):
    """Writes checkpoints to the run folder only, without temporary files elsewhere."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        """Save a checkpoint after flushing all earlier records to disk."""
        folder = RunFolder(Path(path).parent.parent)
        folder.require_there()
        if folder.metrics.is_file():
            flush(folder.metrics)
        write_checkpoint(checkpoint, Path(path))

    def load_checkpoint(
        self, path: str | os.PathLike[str], map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Load a checkpoint, verifying its checksum and executing nothing, whatever `weights_only` is."""
        return read_checkpoint(Path(path))

    def remove_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Remove a checkpoint if it exists."""
        Path(path).unlink(missing_ok=True)
