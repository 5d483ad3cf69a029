"""What the recorder says while a run trains."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from kdface.heads import CosFace
from kdface.methods import SphereFaceR, Views
from kdface.runs.callbacks import Recorder
from kdface.runs.records import Records
from tests.methods.test_distillation import SMALL, small_network


def _step(recorder: Recorder, method: SphereFaceR, step: int, cosine: float) -> None:
    method.last_loss = torch.tensor(3.2)
    method.last_metrics = {"target_cosine": torch.tensor(cosine)}
    optimizer: Any = SimpleNamespace(param_groups=[{"lr": 0.1}])
    trainer: Any = SimpleNamespace(global_step=step, current_epoch=0, is_global_zero=True, optimizers=[optimizer])
    recorder.on_train_batch_end(trainer, method, None, SimpleNamespace(skipped=[]), 0)  # type: ignore[arg-type]


def test_a_margin_past_its_fold_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    method = SphereFaceR(small_network(), CosFace(8, 3), SMALL, Views("image"))
    recorder = Recorder(Records(tmp_path / "metrics.jsonl"), 1, 10, 4)
    with caplog.at_level(logging.WARNING, logger="kdface"):
        _step(recorder, method, 1, 0.4)
        assert not caplog.records
        _step(recorder, method, 2, -0.98)
        _step(recorder, method, 3, -0.99)
    assert len(caplog.records) == 1
    assert "step 2" in caplog.messages[0] and "head.monotone=true" in caplog.messages[0]
