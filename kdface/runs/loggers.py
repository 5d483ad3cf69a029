"""Loggers besides metrics.jsonl. Each takes the same records; each is imported only where it is chosen."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from kdface.errors import UserError


def scalars(record: dict[str, Any]) -> dict[str, float]:
    """The numbers of a record under slash-separated names, without step and time."""
    found: dict[str, float] = {}

    def walk(value: Any, name: str) -> None:
        if isinstance(value, dict):
            for key, each in value.items():
                walk(each, f"{name}/{key}")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[name] = float(value)

    for key, value in record.items():
        if key not in ("kind", "step", "time"):
            walk(value, f"{record['kind']}/{key}")
    return found


class WandbLogger:
    """Weights & Biases, one run per run folder; offline, it writes below the folder and needs no network."""

    def __init__(
        self,
        folder: Path,
        run_name: str,
        project: str = "kdface",
        mode: Literal["offline", "online"] = "offline",
    ) -> None:
        os.environ.setdefault("WANDB_SILENT", "true")
        import wandb

        self._run = wandb.init(project=project, name=run_name, dir=str(folder), mode=mode, reinit="create_new")

    def write(self, record: dict[str, Any]) -> None:
        self._run.log(scalars(record), step=int(record["step"]))

    def close(self) -> None:
        self._run.finish()


class TensorBoardLogger:
    """TensorBoard event files in FOLDER/tensorboard."""

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise UserError(
                "logger=tensorboard: TensorBoard is not installed.", mend='pip install "kdface[tensorboard]"'
            ) from None
        self._writer = SummaryWriter(str(folder / "tensorboard"))

    def write(self, record: dict[str, Any]) -> None:
        for name, value in scalars(record).items():
            self._writer.add_scalar(name, value, int(record["step"]))

    def close(self) -> None:
        self._writer.close()
