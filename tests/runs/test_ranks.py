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


def test_a_sweep_over_numbers_of_ranks_trains_each_job_as_told(tmp_path: Path) -> None:
    """Extra ranks read the job's file, so they can neither start the sweep again nor inherit another job's rank."""
    words = ["train", "-m", *TINY, "trainer.max_steps=2", f"paths.runs={tmp_path}/runs"]
    said = command(*words, "trainer.devices=2,1", "head.margin=1.4,1.2", cwd=tmp_path)
    assert said.returncode == 0, said.stdout + said.stderr
    runs = [file.parent for file in (tmp_path / "runs").rglob("config.yaml")]
    assert len(runs) == 4
    assert all((run / "DONE").is_file() for run in runs)
    worlds = sorted(json.loads((run / "environment.json").read_text())["world_size"] for run in runs)
    assert worlds == [1, 1, 2, 2]
