"""Loggers besides metrics.jsonl. Each takes the same records; each is imported only where it is chosen."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any, Literal

from kdface.errors import UserError
from kdface.runs.folder import write_text


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

        # One run for one folder: a resumed run goes on with it, and a record sent twice makes no second one.
        identity = hashlib.sha256(run_name.encode()).hexdigest()[:12]
        self._run = wandb.init(
            project=project, name=run_name, id=identity, resume="allow", dir=str(folder), mode=mode, reinit="create_new"
        )

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


class MLflowLogger:
    """MLflow in a local SQLite file, without a server; by default mlflow.db in the run's folder."""

    def __init__(self, folder: Path, run_name: str, experiment: str = "kdface", database: Path | None = None) -> None:
        try:
            from mlflow.exceptions import MlflowException
            from mlflow.tracking import MlflowClient
        except ImportError:
            raise UserError("logger=mlflow: MLflow is not installed.", mend='pip install "kdface[mlflow]"') from None
        file = (database or folder / "mlflow.db").absolute()
        self._client = MlflowClient(tracking_uri=f"sqlite:///{file}")
        found = self._client.get_experiment_by_name(experiment)
        number = found.experiment_id if found else self._client.create_experiment(experiment)
        # One run for one folder, which keeps its number: a resumed run goes on with it, and a record sent twice is
        # stored once. Another database does not know the number.
        kept = folder / "mlflow.run"
        known = kept.read_text(encoding="utf-8").strip() if kept.is_file() else ""
        try:
            self._run = self._client.get_run(known).info.run_id
            self._client.update_run(self._run, status="RUNNING")
        except MlflowException:
            self._run = self._client.create_run(number, run_name=run_name).info.run_id
            write_text(kept, f"{self._run}\n")

    def write(self, record: dict[str, Any]) -> None:
        from mlflow.entities import Metric

        now, step = int(record["time"] * 1000), int(record["step"])
        # MLflow allows neither "@" nor "=" in names.
        values = {name.replace("@", ".at.").replace("=", "."): value for name, value in scalars(record).items()}
        self._client.log_batch(self._run, metrics=[Metric(name, value, now, step) for name, value in values.items()])

    def close(self) -> None:
        self._client.set_terminated(self._run)
