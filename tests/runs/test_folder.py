"""What a run folder holds, and what is refused when it is read."""

from __future__ import annotations

import inspect
import json
import logging
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from pytorch_lightning.loggers import CSVLogger

from kdface.atomic import write_json
from kdface.errors import UserError
from kdface.faces import Preprocessing
from kdface.lightning.loggers import guarded
from kdface.runs.checkpoint import fill, read_checkpoint
from kdface.runs.folder import RunFolder, find_run, prepare
from kdface.runs.records import Records, read
from tests.conftest import TINY, Kdface, command, only_run


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    said = command("train", *TINY, "evaluate_untrained=true", f"paths.runs={folder}/runs", cwd=folder)
    assert said.returncode == 0, said.stderr
    return only_run(folder / "runs")


@pytest.fixture
def finished(trained: Path, tmp_path: Path) -> Path:
    """A copy of a finished run, to be spoilt."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def test_the_folder_describes_itself(finished: Path, kdface: Kdface) -> None:
    config = yaml.safe_load((finished / "config.yaml").read_text())
    assert config["trainer"]["max_epochs"] == 2 and "${" not in (finished / "config.yaml").read_text()
    origin = json.loads((finished / "origin.json").read_text())
    assert origin["where"]["trainer.max_epochs"] == "command line: trainer.max_epochs=2"
    assert origin["where"]["trainer.gradient_clip_val"].split(":")[0].endswith("trainer/default.yaml")
    environment = json.loads((finished / "environment.json").read_text())
    assert environment["packages"]["torch"].startswith(torch.__version__.split("+")[0])
    assert environment["profile"]["name"]
    data = json.loads((finished / "data.json").read_text())
    assert data["train"]["images"] == 36 and len(data["train"]["fingerprint"]) == 64
    assert data["evaluation.toy_pairs"]["people"] == 8
    results = json.loads((finished / "results.json").read_text())
    assert set(results["metrics"]["toy_pairs/accuracy"]) == {"value", "std", "standard_error"}
    assert results["counts"]["toy_pairs"]["pairs"] == 16
    assert set(results["untrained"]) == set(results["metrics"])
    steps = [row["step"] for row in read(finished / "metrics.jsonl") if row["kind"] == "train"]
    assert steps == list(range(1, 9))  # 36 images make 4 whole batches of 8 an epoch
    for name in ("toy_pairs_roc.png", "toy_pairs_det.pdf", "toy_pairs_scores.png", "loss.png", "views.png"):
        assert (finished / "figures" / name).stat().st_size > 1000
    assert (finished / "DONE").is_file()
    said = kdface("config", "diff", str(finished), str(finished))
    assert "the same" in said.out


def test_a_finished_run_is_evaluated_again_to_the_same_numbers(finished: Path, kdface: Kdface) -> None:
    said = kdface("evaluate", f"run={finished}")
    assert said.code == 0, said
    before = json.loads((finished / "results.json").read_text())["metrics"]
    found = json.loads((finished / "evaluations/toy_pairs/results.json").read_text())
    assert found["metrics"] == before
    trained = json.loads((finished / "environment.json").read_text())
    assert found["environment"].keys() == trained.keys() >= {"git", "packages", "processor"}
    assert found["environment"]["packages"] == trained["packages"]
    paths = RunFolder(finished).read_config()["paths"]  # what a table tells of the test is told from these
    assert found["paths"] == {key: paths[key] for key in ("data", "runs")}
    assert kdface("evaluate", f"run={finished}/checkpoints/last.ckpt").code == 0


def test_a_run_of_other_crops_refuses_the_evaluation(finished: Path, kdface: Kdface) -> None:
    said = kdface("evaluate", f"run={finished}", "evaluation=toy_pairs", "evaluation.toy_pairs.dataset.size=[112,112]")
    assert said.code == 2
    assert "[32, 32] for the network, [112, 112] for evaluation.toy_pairs" in said.err


def test_a_test_set_follows_the_size_of_the_runs_images(finished: Path, kdface: Kdface) -> None:
    few = ["people=4", "images_per_person=4"]
    words = [
        f"evaluation.toy_pairs.{word}" for word in (*(f"dataset.{key}" for key in few), "folds=2", "pairs_per_fold=4")
    ]
    said = kdface("evaluate", f"run={finished}", "evaluation=toy_pairs", *words, "evaluation.toy_pairs.fars=[0.25]")
    assert said.code == 0, said.err


def test_a_run_cannot_be_evaluated_as_something_else(finished: Path, kdface: Kdface) -> None:
    said = kdface("evaluate", f"run={finished}", "backbone=iresnet18")
    assert said.code == 2 and "how a run was trained" in said.err


def test_an_evaluation_of_two_runs_is_not_that_of_the_last(finished: Path, kdface: Kdface) -> None:
    said = kdface("evaluate", f"run={finished.parent / 'other'}", f"run={finished}")
    assert said.code == 2 and "run= is given more than once" in said.err


def test_a_finished_run_with_the_checkpoint_of_an_unfinished_one_is_not_loaded(finished: Path, kdface: Kdface) -> None:
    """As where two folders of runs were merged by copying the older files over the newer ones."""
    content = torch.load(finished / "checkpoints" / "last.ckpt", weights_only=True)
    content["kdface"]["step"] = 5
    torch.save(content, finished / "checkpoints" / "last.ckpt")
    for word in (f"run={finished}", f"run={finished}/checkpoints/last.ckpt"):
        said = kdface("export", word, "network.pt")
        assert said.code == 2 and "finished after 8 steps, but its checkpoint is from step 5" in said.err
    (finished / "DONE").unlink()
    assert kdface("export", f"run={finished}", "network.pt").code == 0


def test_data_that_has_changed_stops_a_resume(finished: Path, kdface: Kdface) -> None:
    (finished / "DONE").unlink()
    data = json.loads((finished / "data.json").read_text())
    data["train"]["fingerprint"] = "0" * 64
    write_json(finished / "data.json", data)
    said = kdface("run", str(finished))
    assert said.code == 2 and "has changed since the run started" in said.err


def test_a_configuration_that_names_other_code_is_not_run(finished: Path, kdface: Kdface) -> None:
    config = yaml.safe_load((finished / "config.yaml").read_text())
    config["backbone"] = {"_target_": "subprocess.check_output", "args": "id"}
    (finished / "config.yaml").write_text(yaml.safe_dump(config))
    said = kdface("evaluate", f"run={finished}")
    assert said.code == 2 and "outside the packages" in said.err


def test_the_checkpoint_holds_tensors_and_plain_values_only(finished: Path) -> None:
    content = torch.load(finished / "checkpoints" / "last.ckpt", weights_only=True)
    assert content["kdface"]["preprocessing"]["size"] == [32, 32]
    assert content["kdface"]["seed"] == 0
    assert not [name for name in content["state_dict"] if "_orig_mod" in name]

    def plain(value: Any) -> bool:
        if isinstance(value, dict):
            return all(plain(item) for item in (*value.keys(), *value.values()))
        if isinstance(value, list | tuple):
            return all(plain(item) for item in value)
        return value is None or isinstance(value, torch.Tensor | str | int | float | bool)

    assert plain(content)


FIELDS = {"format": 1, "preprocessing": Preprocessing().to_dict(), "num_classes": 2, "step": 1, "batches": 1}


class _Evil:
    def __reduce__(self) -> Any:
        return (print, ("executed",))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"state_dict": {}, "kdface": _Evil()}, "more than tensors and plain values"),
        ({"weights": {}}, "is not a checkpoint of kdface"),
        ({"state_dict": {}, "kdface": {"format": 99}}, "format 99"),
        ({"state_dict": {}, "kdface": {"format": 1}}, "preprocessing: field required"),
        ({"state_dict": {}, "kdface": {**FIELDS, "step": "many"}}, "step: input should be a valid integer"),
        ({"state_dict": {"weight": 1}, "kdface": FIELDS}, "is not a checkpoint of kdface"),
        ({"state_dict": {"weight": torch.eye(2).to_sparse()}, "kdface": FIELDS}, "is not a checkpoint of kdface"),
        ({"state_dict": {}, "kdface": {**FIELDS, "preprocessing": {"x": 1}}}, "preprocessing.template: field required"),
        ({"state_dict": {}, "kdface": {**FIELDS, "config": {"name": 3}}}, "config.name: input should be a valid str"),
        (b"half a file", "is broken|more than tensors"),
        (b"", r"is broken \(it is empty or cut off\)\.\n  fix: +restore it; or rm .*last.ckpt; the run's own command"),
    ],
)
def test_what_is_no_checkpoint_is_refused_and_runs_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: Any, told: str
) -> None:
    path = tmp_path / "last.ckpt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path, pickle_module=pickle)
    with pytest.raises(UserError, match=told):
        read_checkpoint(path)
    assert "executed" not in capsys.readouterr().out


def test_a_flipped_bit_and_useless_weights_are_refused(tmp_path: Path) -> None:
    module = torch.nn.Linear(64, 64)
    path = tmp_path / "last.ckpt"
    content = {"state_dict": module.state_dict(), "kdface": FIELDS}
    torch.save(content, path)
    fill(torch.nn.Linear(64, 64), read_checkpoint(path)["state_dict"], path)
    whole = path.read_bytes()
    at = whole.index(module.weight.detach().numpy().tobytes())
    path.write_bytes(whole[: at + 3] + bytes([whole[at + 3] ^ 0x40]) + whole[at + 4 :])
    with pytest.raises(UserError, match="broken"):
        fill(torch.nn.Linear(64, 64), read_checkpoint(path)["state_dict"], path)
    torch.save({**content, "state_dict": {**module.state_dict(), "bias": torch.full((64,), torch.nan)}}, path)
    with pytest.raises(UserError, match="bias has non-finite values"):
        fill(torch.nn.Linear(64, 64), read_checkpoint(path)["state_dict"], path)
    torch.save({**content, "state_dict": {**module.state_dict(), "bias": torch.zeros(1).expand(1 << 40)}}, path)
    with pytest.raises(UserError, match="size mismatch for bias"):  # 4 TiB, if anything were computed of it
        fill(torch.nn.Linear(64, 64), read_checkpoint(path)["state_dict"], path)
    torch.save({**content, "state_dict": {**module.state_dict(), "bias": torch.zeros(64, dtype=torch.float64)}}, path)
    with pytest.raises(UserError, match=r"bias is torch\.float64, not torch\.float32"):
        fill(torch.nn.Linear(64, 64), read_checkpoint(path)["state_dict"], path)


def test_a_folder_that_is_not_ours_is_never_written_into(kdface: Kdface, tmp_path: Path) -> None:
    words = ["train", *TINY, "trainer.max_steps=1", f"paths.runs={tmp_path}/runs"]
    assert kdface(*words).code == 0
    run = only_run(tmp_path / "runs")
    for file in run.rglob("*"):
        if file.is_file():
            file.unlink()
    (run / "thesis.txt").write_text("mine")
    said = kdface(*words)
    assert said.code == 2 and "is not a kdface run" in said.err
    assert (run / "thesis.txt").read_text() == "mine"


def test_a_folder_of_the_same_name_with_another_configuration_is_kept(finished: Path) -> None:
    tree = yaml.safe_load((finished / "config.yaml").read_text())
    (finished / "DONE").unlink()
    before = (finished / "config.yaml").read_bytes()
    other = {**tree, "optimizer": {**tree["optimizer"], "lr": 0.5}}
    with pytest.raises(UserError, match=r"optimizer.lr: 0.01 there, 0.5 here"):
        prepare(finished, other, {})
    assert (finished / "config.yaml").read_bytes() == before
    elsewhere = {**tree, "paths": {**tree["paths"], "runs": "/another/folder"}}
    assert prepare(finished, elsewhere, {}).read_config() == elsewhere  # where it lies does not make it another


def test_a_record_cut_off_by_a_kill_is_left_out_and_written_again(tmp_path: Path) -> None:
    records = Records(tmp_path / "metrics.jsonl")
    for step in range(1, 6):
        records.write("train", step, loss=float("nan") if step == 2 else step / 2)
    with open(records.path, "a") as file:
        file.write('{"kind": "train", "st')
    assert [row["step"] for row in read(records.path)] == [1, 2, 3, 4, 5]
    assert [row["loss"] for row in read(records.path)] == [0.5, None, 1.5, 2.0, 2.5]
    records.rewind(3)
    assert [row["step"] for row in read(records.path)] == [1, 2, 3]
    lines = records.path.read_text().splitlines()
    records.path.write_text("\n".join([lines[0], lines[1][:20], lines[2], ""]))
    told: list[str] = []
    assert [row["step"] for row in read(records.path, told.append)] == [1, 3]  # the rest is not dropped with it
    assert len(told) == 1 and "line 2 is broken and skipped" in told[0]


def test_a_logger_that_fails_never_stops_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Failing(CSVLogger):
        def log_metrics(self, metrics: Any, step: int | None = None) -> None:
            raise ConnectionError("no network")

    logger = guarded(Failing(str(tmp_path)))
    with caplog.at_level(logging.WARNING, logger="kdface"):
        for step in (1, 2):
            logger.log_metrics({"loss": 1.0}, step)
        logger.finalize("success")
    assert len(caplog.messages) == 1 and "no network" in caplog.messages[0]


def test_people_who_are_in_training_and_test_are_told_of(kdface: Kdface, caplog: pytest.LogCaptureFixture) -> None:
    words = ["train", *TINY, "trainer.max_steps=1", "evaluation.toy_pairs.dataset.split=train"]
    assert kdface(*words).code == 0
    assert "6 people of evaluation.toy_pairs are also in the training set (person_0000, ...)" in caplog.text


def test_a_run_may_be_named_without_its_fingerprint(finished: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    first = Path(shutil.copytree(finished, runs / "seed0-1a2b3c4d"))
    shutil.copytree(finished, runs / "seed10-1a2b3c4d")
    assert find_run(runs / "seed0").root == first
    shutil.copytree(finished, runs / "seed0-5e6f7a8b")
    with pytest.raises(UserError, match="the folder contains no run"):
        find_run(runs / "seed0")  # two are meant


def test_a_run_is_looked_for_in_so_many_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any folder may be given for a run, the root of the file system too."""
    monkeypatch.setattr("kdface.runs.folder._LOOKED_THROUGH", 4)
    (tmp_path / "a" / "b" / "run").mkdir(parents=True)
    (tmp_path / "a" / "b" / "run" / "origin.json").write_text("{}")
    assert find_run(tmp_path).root == tmp_path / "a" / "b" / "run"
    monkeypatch.setattr("kdface.runs.folder._LOOKED_THROUGH", 3)
    with pytest.raises(UserError, match="the folder contains no run"):
        find_run(tmp_path)


def test_paths_of_the_class_can_be_inspected() -> None:
    assert inspect.getattr_static(RunFolder, "last") is RunFolder.last
