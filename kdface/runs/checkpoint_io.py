"""Checkpoint I/O for Lightning."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pytorch_lightning.plugins import CheckpointIO

from kdface.atomic import flush
from kdface.runs.checkpoint import read_checkpoint, write_checkpoint
from kdface.runs.folder import RunFolder


class RunCheckpoints(CheckpointIO):
    """Writes checkpoints in place, without temporary files elsewhere.

    Args:
        folder: of the run. Callbacks may save checkpoints anywhere.
    """

    def __init__(self, folder: RunFolder) -> None:
        super().__init__()
        self.folder = folder

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        """Save a checkpoint after flushing all earlier records to disk."""
        self.folder.require_there()
        if self.folder.metrics.is_file():
            flush(self.folder.metrics)
        write_checkpoint(checkpoint, Path(path))

    def load_checkpoint(
        self, path: str | os.PathLike[str], map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Load a checkpoint, verifying its checksum and executing nothing, whatever `weights_only` is."""
        return read_checkpoint(Path(path))

    def remove_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Remove a checkpoint if it exists."""
        Path(path).unlink(missing_ok=True)
