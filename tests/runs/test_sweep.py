"""A sweep: Hydra's -m, one process a job, the same command again runs only what is missing."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import yaml

from tests.conftest import TINY, Kdface, command


def test_a_sweep_runs_each_job_once_and_overlaps_reuse_them(tmp_path: Path) -> None:
    words = ["train", "-m", *TINY, "trainer.max_steps=2", f"paths.runs={tmp_path}/runs", "hydra.launcher.n_jobs=2"]
    said = command(*words, "seed=0,1", cwd=tmp_path)
    assert said.returncode == 0, said.stderr + said.stdout
    assert "2 jobs, 0 of them finished already" in said.stdout
    found = {yaml.safe_load(file.read_text())["seed"]: file.parent for file in (tmp_path / "runs").rglob("config.yaml")}
    assert set(found) == {0, 1}
    assert all((folder / "DONE").is_file() for folder in found.values())
    results = [json.loads((folder / "results.json").read_text())["metrics"] for folder in found.values()]
    assert results[0] != results[1]

    again = command(*words, "seed=1,2", cwd=tmp_path)
    assert again.returncode == 0, again.stderr + again.stdout
    assert "2 jobs, 1 of them finished already" in again.stdout
    assert len(list((tmp_path / "runs").rglob("config.yaml"))) == 3


def test_a_job_that_fails_is_listed_and_stops_no_other(tmp_path: Path) -> None:
    for name in ("bad", "good"):
        for index in range(16):
            path = tmp_path / name / f"person_{index // 4}" / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), np.random.default_rng(index).integers(0, 256, (32, 32, 3), dtype=np.uint8))
    (tmp_path / "bad" / "person_0" / "0.png").write_bytes(b"not an image")
    words = [word for word in TINY if not word.startswith(("dataset", "evaluation"))]
    words += ["dataset=image_folder", "dataset.size=[32,32]", "evaluation=none", "trainer.max_epochs=1"]
    said = command("train", "-m", *words, "dataset.root=bad,good", f"paths.runs={tmp_path}/runs", cwd=tmp_path)
    assert said.returncode == 1
    assert "Traceback" not in said.stderr
    assert said.stderr.count("failed: ") == 1 and "dataset.root=bad" in said.stderr
    assert len(list((tmp_path / "runs").rglob("DONE"))) == 1
    (log,) = [file for file in (tmp_path / "runs").rglob("output.log") if "person_0/0.png" in file.read_text()]
    assert "error: " in log.read_text() and "Traceback" not in log.read_text()


def test_a_mistake_in_any_job_is_told_before_the_first_one_starts(kdface: Kdface, tmp_path: Path) -> None:
    said = kdface("train", "-m", *TINY, "head.margin=1.4,0.5", f"paths.runs={tmp_path}/runs")
    assert said.code == 2
    assert "head.margin = 0.5" in said.err
    assert not list((tmp_path / "runs").rglob("DONE"))
