"""Lightning's own loggers in a run's folder, any number of them; wandb stays offline."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pytorch_lightning.loggers import TensorBoardLogger

from kdface.lightning.loggers import goes_on, placed, started
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


def test_only_a_number_is_kept_as_that_of_an_mlflow_run(tmp_path: Path) -> None:
    class MLFlowLogger:
        """MLflow's, which has a number on rank 0 alone."""

        def __init__(self, run_id: str | None) -> None:
            self.run_id = run_id

    def known() -> Any:
        return placed("x.MLFlowLogger", {}, tmp_path, "name").get("run_id")

    started(MLFlowLogger(None), tmp_path)  # type: ignore[arg-type]
    assert not (tmp_path / "mlflow.run").exists() and known() is None
    (tmp_path / "mlflow.run").write_text("None\n")  # as a rank of an earlier version left it
    assert known() is None
    for number in ("1a2b", "3c4d"):  # the first one stays
        started(MLFlowLogger(number), tmp_path)  # type: ignore[arg-type]
        assert known() == "1a2b"


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that three loggers were given."""
    folder = tmp_path_factory.mktemp("logged")
    words = ["logger=[wandb,csv,tensorboard]", "logger.wandb.tags=[a,b]", "logger.wandb.group=g"]
    more = ["logger.wandb.log_model=true", f"paths.runs={folder}/runs"]
    said = command("train", *SHORT, *words, *more, cwd=folder)
    assert said.returncode == 0, said.stderr
    assert "failed" not in said.stderr
    assert not (folder / "wandb").exists()
    return only_run(folder / "runs")


def test_two_loggers_at_once_write_below_the_run_folder(logged: Path) -> None:
    with open(logged / "csv/metrics.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["train/loss"]) > 0 for row in rows if row["train/loss"]] == [True, True]
    assert any(row["toy_pairs/eer"] for row in rows)


def _wandb_records(content: bytes) -> Iterator[bytes]:
    """The records of a .wandb file: LevelDB's log format in blocks of 32 KiB, after a header of seven bytes."""
    at, parts = 7, b""
    while at + 7 <= len(content):
        if (room := -at % 32768) and room < 7:  # no header fits: the rest of the block is padding
            at += room
            continue
        length, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        parts, at = parts + content[at + 7 : at + 7 + length], at + 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield parts
            parts = b""


def test_wandb_has_configuration_tags_images_results_and_the_folder(logged: Path) -> None:
    """Read back as `wandb sync` reads it, by wandb's own messages."""
    from wandb.proto import wandb_internal_pb2

    (written,) = logged.glob("wandb/offline-run-*/*.wandb")
    config: dict[str, Any] = {}
    history: dict[str, Any] = {}
    run, artifacts = None, []
    for data in _wandb_records(written.read_bytes()):
        record = wandb_internal_pb2.Record()  # type: ignore[attr-defined]
        record.ParseFromString(data)
        if record.HasField("run"):
            run = record.run
        for update in (*record.config.update, *(run.config.update if run and record.HasField("run") else ())):
            config[update.key or "/".join(update.nested_key)] = json.loads(update.value_json)
        history |= {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
        if record.HasField("artifact"):
            artifacts.append(record.artifact)
    assert run is not None and sorted(run.tags) == ["a", "b"] and run.run_group == "g" and run.job_type == "train"
    tree = yaml.safe_load((logged / "config.yaml").read_text())
    assert config["optimizer"]["lr"] == tree["optimizer"]["lr"] and config["seed"] == 0
    kinds = {key.removesuffix("/_type"): value for key, value in history.items() if key.endswith("/_type")}
    drawn = ("loss", "views", "toy_pairs_det", "toy_pairs_roc", "toy_pairs_scores")
    assert kinds == {**{f"figures/{name}": "images/separated" for name in drawn}, "results": "table-file"}
    metrics = json.loads((logged / "results.json").read_text())["metrics"]
    assert history["results/nrows"] == len(metrics)
    assert history["toy_pairs/eer"] == metrics["toy_pairs/eer"]["value"]
    (folder,) = (artifact for artifact in artifacts if artifact.type == "run")
    paths = {entry.path for entry in folder.manifest.contents}
    assert {"config.yaml", "results.json", "checkpoints/last.ckpt"} <= paths
    assert not any(path.startswith(("wandb", "csv", "tensorboard")) for path in paths)


def test_tensorboard_has_scalars_images_and_results(logged: Path) -> None:
    pytest.importorskip("tensorboard", reason="an extra")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

    events = EventAccumulator(str(logged / "tensorboard"))
    events.Reload()
    assert {"train/loss", "toy_pairs/eer"} <= set(events.Tags()["scalars"])
    assert {"figures/views", "figures/toy_pairs_roc"} <= set(events.Tags()["images"])
    (results,) = events.Tensors("results/text_summary")
    assert "| toy_pairs | eer |" in results.tensor_proto.string_val[0].decode()


def test_tensorboard_shows_a_step_once_that_was_logged_before_a_kill_and_after(tmp_path: Path) -> None:
    """Killed after step 5, the run goes on from the checkpoint of step 3."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason="an extra")
    for steps, value in ((range(5), 1.0), (range(3, 8), 2.0)):
        logger = TensorBoardLogger(str(tmp_path), name="", version="tensorboard")
        if steps[0]:
            goes_on(logger, [], steps[0])
        for step in steps:
            logger.log_metrics({"train/loss": value}, step)
        logger.save()
        logger.experiment.flush()
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    found = [(event.step, event.value) for event in events.Scalars("train/loss")]
    assert found == [(step, 1.0 if step < 3 else 2.0) for step in range(8)]


def test_mlflow_writes_a_database_below_the_run_folder(tmp_path: Path) -> None:
    pytest.importorskip("mlflow", reason="an extra")
    said = command("train", *SHORT, "logger=mlflow", f"paths.runs={tmp_path}/runs", cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    run = only_run(tmp_path / "runs")
    again = command("sync", str(run), "logger=mlflow", cwd=tmp_path)  # goes on with the same run
    assert again.returncode == 0, again.stderr
    assert "MLFlow only allows" not in said.stderr + again.stderr
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{run}/mlflow.db")
    experiment = client.get_experiment_by_name("kdface")
    assert experiment is not None
    (stored,) = client.search_runs([experiment.experiment_id])
    assert stored.info.status == "FINISHED" and stored.data.params["seed"] == "0"
    assert {point.step for point in client.get_metric_history(stored.info.run_id, "train/loss")} == {0, 1}
    assert "toy_pairs/tar at far 2.5e-1" in stored.data.metrics  # MLflow allows neither @ nor = in a name
