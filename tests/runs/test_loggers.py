"""Every logger takes the same records; wandb stays offline and within the run folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdface.runs.loggers import scalars
from tests.conftest import TINY, command, only_run


def test_scalars_are_flattened_under_the_kind() -> None:
    record = {
        "kind": "train",
        "step": 3,
        "time": 1.0,
        "loss": 2.0,
        "terms": {"a": {"raw": 1.0}},
        "note": "x",
        "ok": True,
    }
    assert scalars(record) == {"train/loss": 2.0, "train/terms/a/raw": 1.0}


def test_wandb_offline_writes_below_the_run_folder(tmp_path: Path) -> None:
    words = ["train", *TINY, "logger=wandb", "trainer.max_steps=2", f"paths.runs={tmp_path}/runs"]
    said = command(*words, cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    run = only_run(tmp_path / "runs")
    assert len(list(run.glob("wandb/offline-run-*/*.wandb"))) == 1
    assert not (tmp_path / "wandb").exists()


def test_tensorboard_writes_event_files(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="an extra")
    words = ["train", *TINY, "logger=tensorboard", "trainer.max_steps=2", f"paths.runs={tmp_path}/runs"]
    said = command(*words, cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    assert len(list(only_run(tmp_path / "runs").glob("tensorboard/events.*"))) == 1


def test_mlflow_writes_a_database_below_the_run_folder(tmp_path: Path) -> None:
    pytest.importorskip("mlflow", reason="an extra")
    words = ["train", *TINY, "logger=mlflow", "trainer.max_steps=2", f"paths.runs={tmp_path}/runs"]
    said = command(*words, cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    run = only_run(tmp_path / "runs")
    assert (run / "mlflow.db").stat().st_size > 0
    again = command("sync", str(run), "logger=mlflow", cwd=tmp_path)  # what is there already is not stored again
    assert again.returncode == 0, again.stderr
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{run}/mlflow.db")
    experiment = client.get_experiment_by_name("kdface")
    assert experiment is not None
    (stored,) = client.search_runs([experiment.experiment_id])
    assert stored.info.status == "FINISHED"
    losses = client.get_metric_history(stored.info.run_id, "train/loss")
    assert [each.step for each in losses] == [1, 2]
