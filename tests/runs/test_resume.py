"""Killed at any step and started again, a run ends with the bytes of one that was never killed."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from kdface.cli import main
from kdface.lightning import Resume
from tests.conftest import TINY, UNTESTED, Kdface, command, only_run
from tests.forked import Forked

# Four steps an epoch, two epochs and three steps; a checkpoint after every third step and each epoch: kills fall
# everywhere.
LONG = [
    *TINY,
    "trainer.max_epochs=3",
    "trainer.max_steps=11",
    "resume.every_n_train_steps=3",
    "validation=evaluation",
    "ema.decay=0.9",
    "backbone.dropout=0.3",
    "augmentation.geometric=0.5",
]
# Two of the six people are held out, which leaves three steps an epoch.
PEOPLE = ["validation=people", "validation.people.pairs_per_fold=8", "validation.people.fars=[0.25]"]


def weights(run: Path) -> dict[str, Any]:
    return dict(torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"])


def records(run: Path) -> list[dict[str, Any]]:
    """Without what a clock says."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in ("time", "images_per_second")} for row in rows]


def kill_at(step: int, runs: Path, cwd: Path, words: Sequence[str] = LONG) -> None:
    """Start the run and SIGKILL it as soon as its record holds the step."""
    process = Forked("train", *words, f"paths.runs={runs}", cwd=cwd)
    deadline = time.monotonic() + 240
    while process.poll() is None and time.monotonic() < deadline:
        files = list(runs.rglob("metrics.jsonl"))
        if files and any(f'"step": {step},' in line for line in files[0].read_text().splitlines()):
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.005)
    assert process.wait(60) == -signal.SIGKILL, "the run ended before it could be killed"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained by the interpreter of the tests: strings hash otherwise here than in the processes that are killed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    assert main(["train", *LONG, f"paths.runs={folder}/runs"]) == 0
    return only_run(folder / "runs")


@pytest.mark.parametrize("kills", [[2], [5, 8], [10]], ids=["before any checkpoint", "mid-epoch, twice", "last epoch"])
def test_a_killed_run_ends_with_the_same_bytes(undisturbed: Path, tmp_path: Path, kills: list[int]) -> None:
    for step in kills:
        kill_at(step, tmp_path / "runs", tmp_path)
        assert not (only_run(tmp_path / "runs") / "DONE").exists()
    said = command("train", *LONG, f"paths.runs={tmp_path}/runs", cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    run = only_run(tmp_path / "runs")
    if kills[-1] > 3:
        assert "resuming at step" in said.stderr
    expected, found = weights(undisturbed), weights(run)
    assert list(expected) == list(found)
    for name, value in expected.items():
        assert value.numpy().tobytes() == found[name].numpy().tobytes(), name
    assert records(run) == records(undisturbed)
    results = [json.loads((folder / "results.json").read_text())["metrics"] for folder in (run, undisturbed)]
    assert results[0] == results[1]


# Validation in the middle of each epoch, after steps with and without a checkpoint; callbacks with a state, one of them
# the user's own, which changes what is trained.
CALLBACKS = [
    *LONG,
    "resume.every_n_train_steps=2",
    "trainer.val_check_interval=0.5",
    "callbacks=[best,early_stopping]",
    "callbacks.best.save_top_k=2",
    "callbacks.early_stopping.patience=9",
    "callbacks.mine._target_=own_callbacks.Slower",
]
OWN = """
import pytorch_lightning as pl


class Slower(pl.Callback):
    def __init__(self):
        self.batches = 0

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        for group in trainer.optimizers[0].param_groups:
            group["weight_decay"] = 0.01 * self.batches
        self.batches += 1

    def on_validation_end(self, trainer, pl_module):
        assert "toy_pairs/eer" in trainer.callback_metrics
        self.batches += 100

    def state_dict(self):
        return {"batches": self.batches}

    def load_state_dict(self, state):
        self.batches = state["batches"]
"""


@pytest.mark.parametrize("kills", [[3, 7], [10]], ids=["after a validation, twice", "last epoch"])
def test_callbacks_and_validation_in_mid_epoch_resume_exactly(
    with_callbacks: Path, tmp_path: Path, kills: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", _path(with_callbacks.parents[3]))
    monkeypatch.setenv("KDFACE_PLUGINS", "own_callbacks")
    for step in kills:
        kill_at(step, tmp_path / "runs", tmp_path, CALLBACKS)
    said = command("train", *CALLBACKS, f"paths.runs={tmp_path}/runs", cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    run = only_run(tmp_path / "runs")
    for path in sorted((with_callbacks / "checkpoints").glob("*.ckpt")):
        expected, found = (
            torch.load(folder / "checkpoints" / path.name, weights_only=True) for folder in (with_callbacks, run)
        )
        for name, value in expected["state_dict"].items():
            assert value.numpy().tobytes() == found["state_dict"][name].numpy().tobytes(), name
        for content in (expected, found):
            for state in content["callbacks"].values():
                state.pop("current_score", None)  # of the last validation; Lightning does not restore it
        assert str(expected["callbacks"]) == str(found["callbacks"])
    names = [sorted(path.name for path in (folder / "checkpoints").iterdir()) for folder in (with_callbacks, run)]
    assert names[0] == names[1] and len(names[0]) == 3
    assert records(run) == records(with_callbacks)
    evaluated = [row["step"] for row in records(run) if row["kind"] == "evaluation"]
    assert evaluated == [2, 4, 6, 8, 10, 11]


def _path(folder: Path) -> str:
    return os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])


@pytest.fixture(scope="module")
def with_callbacks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("callbacks")
    (folder / "own_callbacks.py").write_text(OWN)
    env = {"PYTHONPATH": _path(folder), "KDFACE_PLUGINS": "own_callbacks"}
    said = command("train", *CALLBACKS, f"paths.runs={folder}/runs", cwd=folder, env=env)
    assert said.returncode == 0, said.stderr
    return only_run(folder / "runs")


def test_a_run_that_stopped_early_stays_stopped_and_its_best_checkpoint_is_evaluated(
    kdface: Kdface, tmp_path: Path
) -> None:
    words = [*TINY, "trainer.max_epochs=9", "validation=evaluation", "callbacks=[best,early_stopping]"]
    words += ["callbacks.early_stopping.patience=1", "callbacks.early_stopping.min_delta=1", f"paths.runs={tmp_path}/r"]
    assert kdface("train", *words).code == 0
    run = only_run(tmp_path / "r")
    before, rows = weights(run), records(run)
    assert rows[-1]["step"] == 8  # the second validation is no better by 1 than the first
    for name in ("DONE", "results.json"):  # as if killed before it was evaluated
        (run / name).unlink()
    moved = tmp_path / "moved"
    run.rename(moved)
    assert kdface("run", str(moved)).code == 0
    assert records(moved) == rows
    assert all(torch.equal(value, before[name]) for name, value in weights(moved).items())
    said = kdface("evaluate", f"run={moved}", "checkpoint=best")
    assert said.code == 0, said.err
    step = int(next((moved / "checkpoints").glob("best-*.ckpt")).stem.rpartition("-")[2])
    found = json.loads((moved / f"evaluations/toy_pairs@best-000-{step:06d}/results.json").read_text())
    (validated,) = (row["metrics"] for row in rows if row["kind"] == "evaluation" and row["step"] == step)
    assert found["step"] == step and found["metrics"]["toy_pairs/eer"] == validated["toy_pairs/eer"]
    assert kdface("evaluate", f"run={moved}", "checkpoint=better").code == 2


def test_what_lightning_is_asked_to_tell_is_told(
    kdface: Kdface, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("pytorch_lightning"), "propagate", True)
    words = [*TINY, "trainer.max_epochs=1", "trainer.profiler=simple", "validation=evaluation"]
    words += ["callbacks=early_stopping", "callbacks.early_stopping.verbose=true"]
    assert kdface("train", *words).code == 0
    assert "Metric toy_pairs/eer improved." in caplog.text
    report = only_run(tmp_path / "runs") / "profile" / "fit-profile.txt"
    assert "run_training_batch" in report.read_text()
    assert f"profile: {report}" in caplog.text


def test_no_validation_of_the_last_step_is_lost(kdface: Kdface, tmp_path: Path) -> None:
    words = ["train", *TINY, "trainer.max_epochs=1", *PEOPLE]
    assert kdface(*words).code == 0
    run = only_run(tmp_path / "runs")
    before = records(run)
    assert [row["test"] for row in before if row["kind"] == "evaluation"] == ["people", "toy_pairs"]
    for name in ("DONE", "results.json"):  # as if killed while it was evaluated
        (run / name).unlink()
    assert kdface(*words).code == 0
    assert records(run) == before


@pytest.mark.parametrize("every", [1, 2])
def test_an_extended_run_has_what_one_of_that_length_has(kdface: Kdface, tmp_path: Path, every: int) -> None:
    words = ["train", *TINY, "scheduler=constant", "validation=evaluation", f"trainer.check_val_every_n_epoch={every}"]
    words += ["callbacks=best", "callbacks.best.save_top_k=-1"]
    (tmp_path / "disk").mkdir()
    (tmp_path / "runs").symlink_to("disk")
    assert kdface(*words, "trainer.max_epochs=1", "paths.runs=runs").code == 0
    shorter = only_run(tmp_path / "disk")
    assert kdface(*words, "paths.runs=runs").code == 0
    assert kdface(*words, "paths.runs=straight").code == 0
    (longer,) = {file.parent for file in (tmp_path / "disk").rglob("DONE")} - {shorter}
    assert json.loads((longer / "results.json").read_text())["resumed_at"] == 4
    straight = only_run(tmp_path / "straight")
    assert records(longer) == records(straight)
    kept = [{path.name: path for path in (run / "checkpoints").iterdir()} for run in (longer, straight)]
    assert kept[0].keys() == kept[1].keys() and len(kept[0]) == 1 + 2 // every
    states = [torch.load(each["last.ckpt"], weights_only=True)["callbacks"] for each in kept]
    assert str(states[0]) == str(states[1]) and str(tmp_path) not in str(states[0])
    for name in kept[0]:
        assert kdface("evaluate", f"run={longer}", f"checkpoint={name}").code == 0


@pytest.mark.parametrize("least", ["trainer.min_epochs=1", "trainer.min_steps=3"])
def test_the_last_step_is_the_last_whatever_the_least_is(
    kdface: Kdface, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, least: str
) -> None:
    def killed(*given: Any) -> None:
        raise KeyboardInterrupt

    words = ["train", *UNTESTED, "trainer.max_steps=2", *PEOPLE, least]
    with monkeypatch.context() as patched:
        patched.setattr(Resume, "on_train_epoch_end", killed)  # after the last step and its checkpoint
        assert kdface(*words).code == 130
    run = only_run(tmp_path / "runs")
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["kdface"]["step"] == 2
    assert kdface(*words).code == 0
    assert [row["step"] for row in records(run) if row["kind"] == "train"] == [1, 2]
    assert json.loads((run / "results.json").read_text())["step"] == 2


def test_the_best_checkpoint_may_lie_in_any_folder(kdface: Kdface, tmp_path: Path) -> None:
    words = [*TINY, "trainer.max_epochs=1", "validation=evaluation", "callbacks=best"]
    nested = r"callbacks.best.filename='{epoch}-{toy_pairs/eer:.3f}'"  # the metric's name makes a folder
    said = kdface("train", *words, nested, "callbacks.best.auto_insert_metric_name=true", f"paths.runs={tmp_path}/in")
    assert said.code == 0, said.err
    run = only_run(tmp_path / "in")
    (kept,) = run.glob("checkpoints/epoch=0-toy_pairs/eer=*.ckpt")
    name = f"epoch=0-toy_pairs/{kept.stem}"
    assert kdface("evaluate", f"run={run}", "checkpoint=best").code == 0
    assert kdface("evaluate", f"run={run}", f"checkpoint={name}").code == 0
    said = kdface("train", *words, f"callbacks.best.dirpath={tmp_path}/kept", f"paths.runs={tmp_path}/out")
    assert said.code == 0, said.err
    run, best = only_run(tmp_path / "out"), next((tmp_path / "kept").glob("best-*.ckpt"))
    said = kdface("evaluate", f"run={run}", "checkpoint=best")
    assert said.code == 2 and f"lies outside it: {best}" in said.err
    shutil.copy(best, run / "checkpoints")
    assert kdface("evaluate", f"run={run}", "checkpoint=best").code == 0


def test_accumulated_batches_resume_exactly(tmp_path: Path) -> None:
    parts = ("trainer.accumulate_grad_batches=2", "resume.every_n_train_steps=1")
    for name in ("straight", "killed"):
        if name == "killed":
            kill_at(6, tmp_path / name, tmp_path, [*LONG, *parts])
        said = command("train", *LONG, *parts, f"paths.runs={tmp_path / name}", cwd=tmp_path)
        assert said.returncode == 0, said.stderr
    expected, found = weights(only_run(tmp_path / "straight")), weights(only_run(tmp_path / "killed"))
    for name, value in expected.items():
        assert value.numpy().tobytes() == found[name].numpy().tobytes(), name


def test_the_same_command_again_says_that_the_run_is_finished(undisturbed: Path) -> None:
    runs = undisturbed.parents[2]  # runs/METHOD/BACKBONE/RUN
    before = (undisturbed / "metrics.jsonl").read_bytes()
    said = command("train", *LONG, f"paths.runs={runs}", cwd=runs)
    assert said.returncode == 0
    assert "this run is finished" in said.stdout
    assert (undisturbed / "metrics.jsonl").read_bytes() == before


@pytest.mark.parametrize("workers", [1, 2])
def test_the_number_of_loader_workers_changes_nothing(undisturbed: Path, tmp_path: Path, workers: int) -> None:
    said = command("train", *LONG, f"loader.num_workers={workers}", f"paths.runs={tmp_path}/runs", cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    found = weights(only_run(tmp_path / "runs"))
    for name, value in weights(undisturbed).items():
        assert value.numpy().tobytes() == found[name].numpy().tobytes(), name


def test_a_run_that_another_process_writes_is_left_alone(kdface: Kdface, tmp_path: Path) -> None:
    words = ("train", *TINY, "trainer.max_steps=1", f"paths.runs={tmp_path}/runs")
    assert kdface(*words).code == 0
    run = only_run(tmp_path / "runs")
    (run / "DONE").unlink()
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import fcntl,time; f=open({str(run / '.lock')!r},'a'); fcntl.flock(f,fcntl.LOCK_EX); "
            "print('held',flush=True); time.sleep(60)",
        ],
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        said = kdface(*words)
    finally:
        holder.kill()
    assert said.code == 2
    assert "is being written by process" in said.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_asked_to_stop_saves_its_step_and_says_how_to_go_on(tmp_path: Path, number: int) -> None:
    process = Forked("train", *TINY, "trainer.max_epochs=10000", f"paths.runs={tmp_path}/runs", cwd=tmp_path)
    while process.poll() is None and not list(tmp_path.rglob("metrics.jsonl")):
        time.sleep(0.05)
    process.send_signal(number)
    assert process.wait(120) == 130
    said = process.stderr
    assert "rerun the same command" in said and "Traceback" not in said
    run = only_run(tmp_path / "runs")
    saved = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["kdface"]["step"]
    assert saved == records(run)[-1]["step"]  # no step is lost
