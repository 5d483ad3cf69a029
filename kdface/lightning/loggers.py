"""Lightning's own loggers in a run's folder: placed below it, one identity for one folder, never in the way."""

from __future__ import annotations

import functools
import hashlib
import importlib
import logging
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger

from kdface.runs.folder import write_text
from kdface.runs.records import scalars
from kdface.stored import tail

log = logging.getLogger("kdface")
_LOGGED = ("wandb", "tensorboard", "csv", "mlflow.db", "mlflow.run", "mlruns", ".lock")
_GUARDED = ("log_metrics", "log_hyperparams", "log_graph", "save", "finalize", "after_save_checkpoint", "log_image")


def placed(
    target: str, given: Mapping[str, Any], folder: Path, run_name: str, tags: Sequence[str] = ()
) -> dict[str, Any]:
    """Where a logger writes, what it calls the run and by which words it is found, unless its node says so.

    One run of the logger for one folder: a resumed run goes on with it, and a record sent twice makes no second one.
    """
    identity = hashlib.sha256(run_name.encode()).hexdigest()[:12]
    known = folder / "mlflow.run"
    values: dict[str, dict[str, Any]] = {
        "WandbLogger": {"save_dir": str(folder), "name": run_name, "id": identity, "resume": "allow"},
        "TensorBoardLogger": {"save_dir": str(folder), "name": "", "version": "tensorboard"},
        "CSVLogger": {"save_dir": str(folder), "name": "", "version": "csv"},
        "MLFlowLogger": {
            "tracking_uri": f"sqlite:///{folder / 'mlflow.db'}",
            "run_name": run_name,
            "run_id": next(iter(tail(known, 1)), None),
            "tags": {"tags": ", ".join(tags)} if tags else None,
        },
    }
    os.environ.setdefault("WANDB_SILENT", "true")
    name = target.rpartition(".")[2]
    found = {key: value for key, value in values.get(name, {}).items() if given.get(key) is None}
    if name == "WandbLogger" and given.get("offline") and given.get("log_model"):
        found["log_model"] = False  # Lightning's own upload of checkpoints refuses to be offline; `keep` does not
    return found


def started(logger: Logger, folder: Path) -> None:
    """Keep the number that MLflow gives a run."""
    if type(logger).__name__ == "MLFlowLogger" and not (folder / "mlflow.run").is_file():
        write_text(folder / "mlflow.run", f"{logger.run_id}\n")  # type: ignore[attr-defined]


def with_allowed_names(logger: Logger) -> Logger:
    """The logger, which writes `tar@far=1e-3` as `tar at far 1e-3` if it is MLflow's, which allows neither sign."""
    if type(logger).__name__ == "MLFlowLogger":
        stock = logger.log_metrics
        logger.log_metrics = lambda metrics, step=None: stock(  # type: ignore[method-assign]
            {name.replace("@", " at ").replace("=", " "): value for name, value in metrics.items()}, step
        )
    return logger


def guarded(logger: Logger) -> Logger:
    """The logger, whose failures are logged once and never stop training."""
    failed: list[str] = []

    def guard(method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            if failed:
                return None
            try:
                return method(*args, **kwargs)
            except Exception as error:  # a logger must never stop training, whatever it raises
                failed.append(str(error))
                log.warning(
                    "%s failed and is left out from here on (%s); metrics.jsonl goes on", type(logger).__name__, error
                )
                return None

        return call

    for name in _GUARDED:
        if hasattr(logger, name):
            setattr(logger, name, guard(getattr(logger, name)))
    return logger


def replay(logger: Logger, records: Iterable[Mapping[str, Any]]) -> int:
    """Give a logger every record in its order; how many there were."""
    count = 0
    for record in records:
        if values := scalars(record):
            logger.log_metrics(values, step=int(record["step"]) - 1)  # Lightning counts steps from 0
        count += 1
    return count


def starts_anew(logger: Logger) -> bool:
    """Whether a resumed run must give it again what came before: CSVLogger empties its file, and of several offline
    runs of one identity wandb keeps the last."""
    return type(logger).__name__ in ("CSVLogger", "WandbLogger")


def goes_on(logger: Logger, records: Iterable[Mapping[str, Any]], step: int) -> None:
    """Have a logger show each step of a resumed run once, although a process that was killed may have logged some that
    come again.

    Args:
        logger: on rank 0.
        records: of the run, up to the step that it goes on from.
        step: that step.
    """
    if starts_anew(logger):
        replay(logger, records)
    elif type(logger).__name__ == "TensorBoardLogger":  # which leaves out what came before its new start
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # type: ignore[import-untyped]

        start = Event(step=step, session_log=SessionLog(status=SessionLog.START))
        logger.experiment.file_writer.add_event(start)  # type: ignore[attr-defined]


def show(logger: Logger, figures: Iterable[Path]) -> None:
    """Give a logger pictures, as it takes them."""
    kind = type(logger).__name__
    for file in figures:
        if kind == "WandbLogger":
            logger.log_image(f"figures/{file.stem}", [str(file)])  # type: ignore[attr-defined]
        elif kind == "MLFlowLogger":
            logger.experiment.log_artifact(logger.run_id, str(file), "figures")  # type: ignore[attr-defined]
        elif kind == "TensorBoardLogger":
            import cv2

            image = cv2.imread(str(file))
            assert image is not None
            image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
            logger.experiment.add_image(f"figures/{file.stem}", image, dataformats="HWC")  # type: ignore[attr-defined]


def tabulate(logger: Logger, metrics: Mapping[str, Mapping[str, float | None]]) -> None:
    """Give a logger the results as a table of test set, metric, value and standard deviation, as it takes one."""
    columns = ["test set", "metric", "value", "std"]
    rows = [[*key.split("/", 1), metric.get("value"), metric.get("std")] for key, metric in metrics.items()]
    kind = type(logger).__name__
    if kind == "WandbLogger":
        logger.log_table("results", columns=columns, data=rows)  # type: ignore[attr-defined]
    elif kind == "MLFlowLogger":
        data = {column: [row[place] for row in rows] for place, column in enumerate(columns)}
        logger.experiment.log_table(logger.run_id, data, "results.json")  # type: ignore[attr-defined]
    elif kind == "TensorBoardLogger":
        lines = ["| " + " | ".join("" if word is None else str(word) for word in row) + " |" for row in rows]
        text = "\n".join([f"| {' | '.join(columns)} |", "|---" * len(columns) + "|", *lines])
        logger.experiment.add_text("results", text)  # type: ignore[attr-defined]


def keep(logger: Logger, folder: Path) -> None:
    """Give W&B or MLflow the run's folder as an artifact, without what loggers themselves wrote there."""
    kind = type(logger).__name__
    files = {
        path: path.relative_to(folder)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink() and path.relative_to(folder).parts[0] not in _LOGGED
    }
    if kind == "WandbLogger":
        artifact = importlib.import_module("wandb").Artifact(re.sub(r"[^\w.-]", "_", folder.name), type="run")
        for path, name in files.items():
            artifact.add_file(str(path), name=str(name))
        logger.experiment.log_artifact(artifact)  # type: ignore[attr-defined]
    elif kind == "MLFlowLogger":
        for path, name in files.items():
            logger.experiment.log_artifact(logger.run_id, str(path), str("run" / name.parent))  # type: ignore[attr-defined]


def finish(
    logger: Logger,
    folder: Path,
    figures: Iterable[Path],
    metrics: Mapping[str, Mapping[str, float | None]],
    nodes: Mapping[str, Mapping[str, Any]],
) -> None:
    """All that a finished run has for a logger: pictures, the table of results, and with `log_model` its folder."""
    show(logger, figures)
    tabulate(logger, metrics)
    kind = type(logger).__name__
    if any(node.get("log_model") and str(node["_target_"]).endswith(f".{kind}") for node in nodes.values()):
        keep(logger, folder)


def close(logger: Logger, status: str) -> None:
    """End a logger's run."""
    logger.finalize(status)
    if type(logger).__name__ == "WandbLogger":
        importlib.import_module("wandb").finish(exit_code=int(status != "success"))


def attempt(action: Callable[[Logger], None], logger: Logger) -> None:
    """Do something with a logger that may fail: a failure is a warning and stops nothing."""
    try:
        action(logger)
    except Exception as error:
        log.warning("%s failed (%s); metrics.jsonl has everything", type(logger).__name__, error)
