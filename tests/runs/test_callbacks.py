"""What the recorder says while a run trains."""

from __future__ import annotations

import logging
import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from kdface.heads import CosFace
from kdface.heads import SphereFaceR as SphereFaceRHead
from kdface.lightning import Health, MetricRecords, Resume
from kdface.lightning.interruption import Interruption
from kdface.methods import SphereFaceR, Views
from kdface.runs.folder import RunFolder
from kdface.runs.records import Records, read
from tests.methods.test_distillation import SMALL, small_network


def _trainer(step: int, cosine: float = 0.4, **metrics: float) -> Any:
    logged = {"train/loss": torch.tensor(3.2), "train/target_cosine": torch.tensor(cosine)}
    logged |= {f"train/{name}": torch.tensor(value) for name, value in metrics.items()}
    return SimpleNamespace(
        global_step=step,
        current_epoch=0,
        is_global_zero=True,
        optimizers=[SimpleNamespace(param_groups=[{"lr": 0.1}])],
        callback_metrics=logged,
        log_every_n_steps=1,
    )


def _method(head: torch.nn.Module) -> SphereFaceR:
    return SphereFaceR(small_network(), head, SMALL, Views("image"))


def test_a_margin_past_its_fold_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    health = Health()
    with caplog.at_level(logging.WARNING, logger="kdface"):
        for step, cosine in enumerate((0.4, -0.98, -0.99), 1):
            health.on_train_batch_end(_trainer(step, cosine), _method(CosFace(8, 3)), None, None, 0)
            assert len(caplog.records) == (step > 1)
    assert "step 2" in caplog.messages[0] and "head.monotone=true" in caplog.messages[0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2, signal.SIGINT])
def test_a_signal_is_heeded_when_the_step_has_been_saved(tmp_path: Path, number: int) -> None:
    folder, interruption = RunFolder(tmp_path), Interruption()
    checkpoints = Resume(folder.last, None, 9, interruption=interruption)
    saved: list[int] = []

    def save(path: str) -> None:
        saved.append(trainer.global_step)
        Path(path).parent.mkdir(exist_ok=True)
        Path(path).parent.mkdir(exist_ok=True)
        Path(path).write_text("weights")

    strategy = SimpleNamespace(reduce_boolean_decision=lambda decision, all: decision)
    trainer: Any = SimpleNamespace(
        global_step=0,
        num_training_batches=9,
        world_size=1,
        save_checkpoint=save,
        strategy=strategy,
        fit_loop=SimpleNamespace(_data_fetcher=None),
    )
    before = signal.getsignal(number)
    with interruption.restored():
        checkpoints.on_train_start(trainer, None)  # type: ignore[arg-type]
        trainer.global_step = 1
        checkpoints.on_train_batch_end(trainer, None, None, None, 0)  # type: ignore[arg-type]
        assert saved == []
        os.kill(os.getpid(), number)  # in the middle of the second step, which goes on
        trainer.global_step = 2
        with pytest.raises(KeyboardInterrupt):
            checkpoints.on_train_batch_end(trainer, None, None, None, 1)  # type: ignore[arg-type]
    assert saved == [2] and folder.last.is_file()
    assert signal.getsignal(number) == before


def test_embeddings_of_zeros_are_counted_and_told_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    method, health, records = _method(CosFace(8, 3)), Health(), MetricRecords(Records(tmp_path / "metrics.jsonl"))
    with caplog.at_level(logging.WARNING, logger="kdface"):
        for step, zeros in enumerate([0, 0, 3, 2, 4, 1], 1):
            trainer = _trainer(step, zero_embeddings=zeros)
            trainer.log_every_n_steps = 2  # between records they count too
            for callback in (health, records):
                callback.on_train_batch_end(trainer, method, None, None, 0)
    assert len(caplog.records) == 1
    assert "up to step 4: 5 embedding(s) of zeros" in caplog.messages[0]
    rows = [row for row in read(tmp_path / "metrics.jsonl") if row["kind"] == "train"]
    assert [row.get("zero_embeddings") for row in rows] == [None, 2.0, 1.0]


def test_the_record_says_once_by_how_much_each_loss_is_scaled(tmp_path: Path) -> None:
    records = MetricRecords(Records(tmp_path / "metrics.jsonl"))
    for step in (1, 2):
        records.on_train_batch_end(_trainer(step), _method(SphereFaceRHead(8, 3)), None, None, 0)
    (row,) = (row for row in read(tmp_path / "metrics.jsonl") if row["kind"] == "heads")
    assert row["step"] == 1 and row["loss_scale"] == {"head": pytest.approx(50 / 60)}
