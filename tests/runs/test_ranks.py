"""Two ranks on one machine (gloo): one file for all, every image once, the evaluation of one rank."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import TINY, command, only_run

_TWO = ["trainer.devices=2", "trainer.strategy=ddp"]


def test_two_ranks_train_one_configuration_and_evaluate_every_image_once(tmp_path: Path) -> None:
    """32 images do not divide evenly over batches of 256 and two ranks' parts; none is counted twice."""
    words = ["train", *TINY, "trainer.max_steps=3", f"paths.runs={tmp_path}/runs"]
    said = command(*words, *_TWO, cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    run = only_run(tmp_path / "runs")
    results = json.loads((run / "results.json").read_text())
    assert results["step"] == 3
    counts = results["counts"]["toy_pairs"]
    assert counts["images_embedded"] == counts["images"]
    single = command("evaluate", f"run={run}", cwd=tmp_path)
    assert single.returncode == 0, single.stderr
    alone = json.loads((run / "evaluations/toy_pairs/results.json").read_text())["metrics"]
    for name, metric in results["metrics"].items():
        assert metric["value"] == pytest.approx(alone[name]["value"], abs=1e-9), name
