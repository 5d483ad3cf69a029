"""Every record of a run reaches the logger, in its order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kdface.commands import sync
from kdface.errors import UserError
from tests.reports.folders import config, make_run


def test_tensorboard_gets_every_record_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason="the logger")
    root = make_run(tmp_path, config(tmp_path), {"a": 0.5}, losses=[3.0, 2.0, 1.5])
    assert sync.run([str(root), "logger=tensorboard"]) == 0
    assert capsys.readouterr().out.startswith("3 records")
    found = reader.EventAccumulator(str(root / "tensorboard"))
    found.Reload()
    # as while training: Lightning counts steps from 0
    assert [(scalar.step, scalar.value) for scalar in found.Scalars("train/loss")] == [(9, 3.0), (19, 2.0), (29, 1.5)]
    with pytest.raises(UserError, match="already exists"):
        sync.run([str(root), "logger=tensorboard"])


def test_wandb_is_online_unless_told_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_run(tmp_path, config(tmp_path), {"a": 0.5})
    made: list[Any] = []

    class Logger:
        def __init__(self, **settings: Any) -> None:
            made.append(settings)

        def log_hyperparams(self, config: dict[str, Any]) -> None:
            made.append(config["seed"])

        def log_metrics(self, metrics: dict[str, float], step: int) -> None:
            made.append((step, metrics["train/loss"]))

        def finalize(self, status: str) -> None:
            made.append(status)

    monkeypatch.setattr("kdface.assembly.build.build", lambda node, group: Logger(**node))
    assert sync.run([str(root), "logger=wandb"]) == 0
    assert made[0]["offline"] is False and made[0]["name"].startswith("demo/seed0-")
    assert made[1] == 0 and [step for step, _ in made[2:-1]] == [9, 19, 29] and made[-1] == "success"
    made.clear()
    assert sync.run([str(root), "logger=wandb", "logger.wandb.offline=true"]) == 0
    assert made[0]["offline"] is True


def test_a_failing_logger_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_run(tmp_path, config(tmp_path), {"a": 0.5})

    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no network")

    monkeypatch.setattr("kdface.assembly.build.build", broken)
    with pytest.raises(UserError, match="no network"):
        sync.run([str(root), "logger=wandb"])


@pytest.mark.parametrize("words", [[], ["runs/x"], ["logger=wandb"], ["runs/x", "logger=wandb", "seed=1"]])
def test_what_is_not_understood_is_told(words: list[str]) -> None:
    with pytest.raises(UserError, match=r"invalid arguments|RUN is missing"):
        sync.run(words)
