"""Mistakes in where and how a sweep runs: one message before any job starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import TINY, Kdface


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["optimizer.lr=interval(0.1,0.2)"], ["an interval needs a search", "hydra/sweeper=random"]),
        (
            ["seed=0,1", "+hydra.launcher.partition=gpu"],
            ["key 'hydra.launcher.partition'", "n_jobs", "slurm"],
        ),
        (["seed=0,1", "+hydra.launcher.n_job=2"], ["hydra.launcher.n_jobs"]),
        (["seed=0,1", "hydra.launcher.n_jobs=0"], ["hydra.launcher.n_jobs = 0"]),
        (
            ["seed=range(0,3)", "hydra/sweeper=random", "+hydra.sweeper.sampler=tpe"],
            ["key 'hydra.sweeper.sampler'", "n_trials", "optuna"],
        ),
    ],
)
def test_a_mistake_is_told_before_a_job_starts(
    kdface: Kdface, tmp_path: Path, words: list[str], told: list[str]
) -> None:
    said = kdface("train", "-m", *TINY, f"paths.runs={tmp_path}/runs", *words)
    assert said.code == 2 and "Traceback" not in said.err
    for text in told:
        assert text in said.err, said.err
    assert not (tmp_path / "runs").exists()
