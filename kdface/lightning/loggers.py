"""Lightning's loggers in a run folder: writing below it, with one identity per folder, and never stopping training."""

from __future__ import annotations

import functools
import hashlib
import importlib
import logging
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from pytorch_lightning.loggers import Logger

from kdface.atomic import write_text
from kdface.runs.records import scalars
from kdface.stored import tail

log = logging.getLogger("kdface")
_LOGGED = ("wandb", "tensorboard", "csv", "mlflow.db", "mlflow.run", "mlruns", ".lock")
_GUARDED = ("log_metrics", "log_hyperparams", "log_graph", "save", "finalize", "after_save_checkpoint", "log_image")


def placed(
    target: str, given: Mapping[str, Any], folder: Path, run_name: str, tags: Sequence[str] = ()
) -> dict[str, Any]:
    """Default save folder, run name and tags of a logger, unless set in its node.

    Each run folder has one logger run: resumed runs continue it, and records sent twice are not duplicated.
    """
    identity = hashlib.sha256(run_name.encode()).hexdigest()[:12]
    values: dict[str, dict[str, Any]] = {
        "WandbLogger": {"save_dir": str(folder), "name": run_name, "id": identity, "resume": "allow"},
        "TensorBoardLogger": {"save_dir": str(folder), "name": "", "version": "tensorboard"},
        "CSVLogger": {"save_dir": str(folder), "name": "", "version": "csv"},
        "MLFlowLogger": {
            "tracking_uri": f"sqlite:///{folder / 'mlflow.db'}",
            "run_name": run_name,
            "run_id": _mlflow_run(folder),
            "tags": {"tags": ", ".join(tags)} if tags else None,
        },
    }
    os.environ.setdefault("WANDB_SILENT", "true")
    name = target.rpartition(".")[2]
    found = {key: value for key, value in values.get(name, {}).items() if given.get(key) is None}
    if name == "WandbLogger" and given.get("offline") and given.get("log_model"):
        found["log_model"] = False  # Lightning's checkpoint upload does not work offline; `keep` does
    return found


def started(logger: Logger, folder: Path) -> None:
    """Store the run id assigned by MLflow; ranks other than 0 have none."""
    if type(logger).__name__ != "MLFlowLogger" or _mlflow_run(folder) is not None:
        return
    if (number := logger.run_id) is not None:  # type: ignore[attr-defined]
        write_text(folder / "mlflow.run", f"{number}\n")


def _mlflow_run(folder: Path) -> str | None:
    """The stored run id, if there is one. In earlier versions, further ranks stored None."""
    found = next(iter(tail(folder / "mlflow.run", 1)), None)
    return None if found == "None" else found


def with_allowed_names(logger: Logger) -> Logger:
    """The logger; MLflow's writes `tar@far=1e-3` as `tar at far 1e-3`, since it allows neither sign."""
    if type(logger).__name__ == "MLFlowLogger":
        stock = logger.log_metrics
        logger.log_metrics = lambda metrics, step=None: stock(  # type: ignore[method-assign]
            {name.replace("@", " at ").replace("=", " "): value for name, value in metrics.items()}, step
        )
    return logger


def guarded(logger: Logger) -> Logger:
    """The logger with failures logged once and never stopping training."""
    failed: list[str] = []

    def guard(method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            if failed:
                return None
            try:
                return method(*args, **kwargs)
            except Exception as error:  # a logger must never stop training
                failed.append(str(error))
                log.warning(
                    "%s failed and is disabled from here on (%s); metrics.jsonl continues", type(logger).__name__, error
                )
                return None

        return call

    for name in _GUARDED:
        if hasattr(logger, name):
            setattr(logger, name, guard(getattr(logger, name)))
    return logger


def replay(logger: Logger, records: Iterable[Mapping[str, Any]]) -> int:
    """Send all records to a logger in order; returns their number."""
    count = 0
    for record in records:
        if values := scalars(record):
            logger.log_metrics(values, step=int(record["step"]) - 1)  # Lightning counts steps from 0
        count += 1
    return count


def goes_on(logger: Logger, records: Iterable[Mapping[str, Any]], step: int) -> None:
    """Make a logger show each step of a resumed run once, even if a killed process already logged some of them.

    Args:
        logger: on rank 0.
        records: of the run, up to the step it resumes from.
        step: that step.
    """
    if type(logger).__name__ in ("CSVLogger", "WandbLogger"):  # CSVLogger truncates its file; wandb keeps only the last
        replay(logger, records)  # of several offline runs with one id
    elif type(logger).__name__ == "TensorBoardLogger":  # which drops what came before the new start
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # type: ignore[import-untyped]

        start = Event(step=step, session_log=SessionLog(status=SessionLog.START))
        logger.experiment.file_writer.add_event(start)  # type: ignore[attr-defined]


def finish(
    logger: Logger,
    folder: Path,
    figures: Iterable[Path],
    metrics: Mapping[str, Mapping[str, float | None]],
    nodes: Mapping[str, Mapping[str, Any]],
) -> None:
    """Send a finished run to a logger: figures, a table of the results, and with `log_model` the run folder.

    Args:
        logger: others than W&B, MLflow and TensorBoard receive nothing.
        folder: of the run.
        figures: files of images.
        metrics: TEST/METRIC -> value and standard deviation.
        nodes: of the configured loggers.
    """
    kind, sink = type(logger).__name__, cast(Any, logger)
    columns = ["test set", "metric", "value", "std"]
    rows = [[*key.split("/", 1), metric.get("value"), metric.get("std")] for key, metric in metrics.items()]
    keeps = any(node.get("log_model") and str(node["_target_"]).endswith(f".{kind}") for node in nodes.values())
    files = _files(folder) if keeps else {}
    if kind == "WandbLogger":
        for file in figures:
            sink.log_image(f"figures/{file.stem}", [str(file)])
        sink.log_table("results", columns=columns, data=rows)
        if files:
            artifact = importlib.import_module("wandb").Artifact(re.sub(r"[^\w.-]", "_", folder.name), type="run")
            for path, name in files.items():
                artifact.add_file(str(path), name=str(name))
            sink.experiment.log_artifact(artifact)
    elif kind == "MLFlowLogger":
        run = sink.run_id
        for file in figures:
            sink.experiment.log_artifact(run, str(file), "figures")
        sink.experiment.log_table(
            run, {name: [row[place] for row in rows] for place, name in enumerate(columns)}, "results.json"
        )
        for path, name in files.items():
            sink.experiment.log_artifact(run, str(path), str("run" / name.parent))
    elif kind == "TensorBoardLogger":
        import cv2

        writer = sink.experiment
        for file in figures:
            image = cv2.imread(str(file))
            assert image is not None
            writer.add_image(f"figures/{file.stem}", cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dataformats="HWC")
        lines = ["| " + " | ".join("" if word is None else str(word) for word in row) + " |" for row in rows]
        writer.add_text("results", "\n".join([f"| {' | '.join(columns)} |", "|---" * len(columns) + "|", *lines]))


def _files(folder: Path) -> dict[Path, Path]:
    """The files of a run folder that no logger wrote -> their places in it."""
    return {
        path: path.relative_to(folder)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink() and path.relative_to(folder).parts[0] not in _LOGGED
    }


def close(logger: Logger, status: str) -> None:
    """End a logger's run."""
    logger.finalize(status)
    if type(logger).__name__ == "WandbLogger":
        importlib.import_module("wandb").finish(exit_code=int(status != "success"))


def attempt(action: Callable[[Logger], None], logger: Logger) -> None:
    """Run an action on a logger; failures are only warnings."""
    try:
        action(logger)
    except Exception as error:
        log.warning("%s failed (%s); metrics.jsonl has everything", type(logger).__name__, error)
