"""Mistakes in sweeps and searches: told before a job starts. What a fix changes is checked, and no job run."""

from __future__ import annotations

from tests.advice.fixtures import text
from tests.advice.row import Row
from tests.conftest import TINY

SEARCH = ("hydra/sweeper=random", "hydra.sweeper.n_trials=1")
LR = "optimizer.lr=interval(0.01,0.1)"
TWO = "hydra.sweeper.objectives={toy_pairs/auc:maximize,toy_pairs/eer:minimize}"


def _row(*words: str, told: str, **more: object) -> Row:
    return Row(("sweep-check", *TINY, *words), told, **more)  # type: ignore[arg-type]


ROWS = [
    _row(LR, told="an interval needs a search", fill={"TEST/METRIC": "toy_pairs/auc"}),
    _row("hydra.launcher.n_job=2", "seed=0,1", told="n_job"),
    _row("+hydra.launcher.n_job=2", "seed=0,1", told="n_job"),
    _row("trainer.num_nodes=2", "seed=0,1", told="in a sweep"),
    _row("paths.runs=a,b", told="cannot be swept over", fill={"FOLDER": "runs"}),
    _row(*SEARCH, "seed=0", told="search space is empty"),
    _row(
        "hydra/sweeper=optuna",
        LR,
        "hydra.sweeper.objectives={toy_pair/auc:maximize}",
        told="no evaluation.toy_pair",
    ),
    _row("hydra/sweeper=optuna", LR, "hydra.sweeper.objectives={}", told="a search needs an objective"),
    _row("hydra/sweeper=optuna", LR, TWO, "hydra.sweeper.pruner=median", told="supports one objective"),
    _row(
        *("hydra/sweeper=optuna", LR, "hydra.sweeper.objectives={toy_pairs/auc:maximize}"),
        "hydra.sweeper.pruner=median",
        told="during training",
    ),
    Row(
        ("python", "parts.searched_for(objective='toy_pairs/aucc', run='run')"),
        "which the runs of this search do not measure",
        set_up=text("run/results.json", '{"metrics": {"toy_pairs/auc": {"value": 0.5}}}'),
    ),
]
