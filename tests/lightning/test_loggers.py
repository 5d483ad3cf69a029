"""Lightning's own loggers in a run's folder, any number of them; wandb stays offline."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from kdface.runs.records import scalars
from tests.conftest import TINY, command, only_run

SHORT = [*TINY, "trainer.max_steps=2"]


@pytest.mark.parametrize(
    ("record", "found"),
    [
        (
            {
                "kind": "train",
                "step": 3,
                "epoch": 1,
                "loss": 2.0,
                "terms": {"a": {"raw": 4.0, "weighted": 2.0}},
                "n": "x",
            },
            {"train/loss": 2.0, "train/a": 4.0, "train/a_weight": 0.5, "epoch": 1.0},
        ),
        (
            {"kind": "evaluation", "step": 3, "test": "lfw", "metrics": {"lfw/eer": {"value": 0.1, "std": 0.2}}},
            {"lfw/eer": 0.1},
        ),
        ({"kind": "validation", "step": 3, "val_loss": 2.0}, {"val_loss": 2.0}),
    ],
)
def test_a_record_has_the_names_that_were_logged(record: dict[str, Any], found: dict[str, float]) -> None:
    assert scalars(record) == found


def test_two_loggers_at_once_write_below_the_run_folder(tmp_path: Path) -> None:
    words = ["train", *SHORT, "logger=[wandb,csv]", "logger.wandb.tags=[a,b]", f"paths.runs={tmp_path}/runs"]
    said = command(*words, cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    run = only_run(tmp_path / "runs")
    assert len(list(run.glob("wandb/offline-run-*/*.wandb"))) == 1
    assert not (tmp_path / "wandb").exists()
    with open(run / "csv/metrics.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["train/loss"]) > 0 for row in rows if row["train/loss"]] == [True, True]
    assert any(row["toy_pairs/eer"] for row in rows)


def test_tensorboard_writes_event_files(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="an extra")
    said = command("train", *SHORT, "logger=tensorboard", f"paths.runs={tmp_path}/runs", cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    assert len(list(only_run(tmp_path / "runs").glob("tensorboard/events.*"))) >= 1


def test_mlflow_writes_a_database_below_the_run_folder(tmp_path: Path) -> None:
    pytest.importorskip("mlflow", reason="an extra")
    said = command("train", *SHORT, "logger=mlflow", f"paths.runs={tmp_path}/runs", cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    run = only_run(tmp_path / "runs")
    again = command("sync", str(run), "logger=mlflow", cwd=tmp_path)  # goes on with the same run
    assert again.returncode == 0, again.stderr
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{run}/mlflow.db")
    experiment = client.get_experiment_by_name("kdface")
    assert experiment is not None
    (stored,) = client.search_runs([experiment.experiment_id])
    assert stored.info.status == "FINISHED" and stored.data.params["seed"] == "0"
    assert {each.step for each in client.get_metric_history(stored.info.run_id, "train/loss")} == {0, 1}
