"""Runs that a limit of time ends, Trainers with parts by name, and finished runs that are asked for another display."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pytorch_lightning.callbacks import Timer

from tests.conftest import UNTESTED, Kdface, only_run

_LIGHTNING = "pytorch_lightning"
_TIMER = [f"+callbacks.clock._target_={_LIGHTNING}.callbacks.Timer", "+callbacks.clock.duration=00:00:00:09"]


@pytest.mark.parametrize(
    ("words", "by"), [(["trainer.max_time=00:00:00:09"], "trainer.max_time"), (_TIMER, "callbacks.clock")]
)
def test_a_run_that_a_budget_ends_is_finished_and_says_so(
    kdface: Kdface, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], by: str
) -> None:
    monkeypatch.setattr(Timer, "time_elapsed", lambda timer, stage="train": 9.0 if timer.start_time() else 0.0)
    said = kdface("train", *UNTESTED, *words)
    results = json.loads((only_run(tmp_path / "runs") / "results.json").read_text())
    told = f"stopped by {by} at step {results['step']} of 8"
    assert said.code == 0 and f"warning: {told}" in said.out
    assert results["step"] < 8 and results["stopped"] == {"by": by, "total_steps": 8}
    again = kdface("train", *UNTESTED, *words)
    assert "this run is finished" in again.out and told in again.out and "NAME" not in again.out
    assert kdface("report", "runs").code == 0
    assert told in (tmp_path / "runs" / "report.html").read_text()
    whole = kdface("train", *UNTESTED)  # another run, to its end
    assert "8 steps" in whole.out and "stopped" not in whole.out


def test_a_run_without_a_step_has_no_results(kdface: Kdface) -> None:
    said = kdface("train", *UNTESTED, "trainer.max_time=00:00:00:00")
    assert said.code == 2 and "stopped by trainer.max_time before its first step" in said.err


def test_a_finished_run_that_is_to_show_more_says_how_to_train_it_again(kdface: Kdface) -> None:
    words = ["train", *UNTESTED, "trainer.max_steps=1"]
    first = kdface(*words)
    assert "; 1 step of 8 images" in first.err and "1 step in" in first.out
    said = kdface(*words, "trainer.profiler=simple", "callbacks=lr_monitor", "logger=csv")
    assert "trainer.profiler, callbacks.lr_monitor, logger.csv would not change its result; name=NAME" in said.out
    assert "would not change" not in kdface(*words).out


def test_parts_of_the_trainer_are_given_by_name(kdface: Kdface, tmp_path: Path) -> None:
    said = kdface(
        *("train", *UNTESTED, "trainer.max_steps=1"),
        *(f"trainer.strategy._target_={_LIGHTNING}.strategies.SingleDeviceStrategy", "+trainer.strategy.device=cpu"),
        f"trainer.plugins._target_={_LIGHTNING}.plugins.environments.LightningEnvironment",
    )
    assert said.code == 0 and only_run(tmp_path / "runs"), said.err


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (["trainer.max_time=1h"], "trainer.max_time"),
        ([f"trainer.plugins._target_={_LIGHTNING}.plugins.io.TorchCheckpointIO"], "trainer.plugins"),
        ([f"+callbacks.x._target_={_LIGHTNING}.callbacks.ModelCheckpoint", "+callbacks.x.mode=least"], "callbacks.x"),
        (["scheduler._target_=torch.optim.lr_scheduler.ChainedScheduler", "+scheduler.schedulers=[]"], "scheduler"),
        (
            [f"+callbacks.x._target_={_LIGHTNING}.callbacks.EarlyStopping", "+callbacks.x.monitor=val_acc"],
            "callbacks.x",
        ),
        (["optimizer._target_=torch.optim.SparseAdam"], "optimizer"),
    ],
)
def test_what_cannot_train_fails_before_there_is_a_folder(
    kdface: Kdface, tmp_path: Path, words: list[str], key: str
) -> None:
    said = kdface("train", *UNTESTED, *words)
    assert said.code == 2 and "fix:" in said.err and key in said.err and "Traceback" not in said.err
    assert not (tmp_path / "runs").exists()
