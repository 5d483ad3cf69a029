"""Which values of a metric win: those of a network that is better by construction."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from kdface.evaluation import (
    Calibration,
    CKDVerification,
    Clustering,
    ClusterSeparation,
    CrossModalVerification,
    Embedder,
    QualityEDC,
    fold_identification,
    random_verification,
)
from kdface.evaluation.edc import DiscardPolicy
from kdface.faces import FaceSet
from kdface.reports.html.overview import lower_wins
from kdface.reports.html.payload import payload
from kdface.reports.html.runs import read_run, run_folders
from kdface.reports.tables.definition import read_definition
from tests.evaluation.faces import Listed
from tests.reports.folders import config, make_run

PEOPLE, IMAGES = 20, 12
FACES, SEEN = (
    Listed([(f"p{person:02d}", f"{person:02d}/{image:02d}") for person in range(PEOPLE) for image in range(IMAGES)])
    for _ in range(2)
)


class Skilled(Embedder):
    """A network of a given skill: embeddings are people's directions with noise, the more the less of it.

    A tenth of the images is ten times as noisy. A skilled network knows which, whatever is done to the images, and is
    as sure of a person as it is often right; one without skill grades at random and is always sure.
    """

    def __init__(self, skilled: bool) -> None:
        super().__init__(lambda images, kind: images, people=FACES.people)
        self.skilled = skilled

    def __call__(self, dataset: FaceSet, keys: Sequence[str], mirror: bool = True) -> NDArray[np.float32]:
        spread = 0.1 if self.skilled else 0.6
        noise = [self._drawn(key, PEOPLE) * (10 if self._is_poor(key) else 1) for key in keys]
        rows = np.eye(PEOPLE)[[int(key[:2]) for key in keys]] + spread * np.array(noise)
        return np.asarray(rows, dtype=np.float32)

    def embed_and_grade(self, dataset: FaceSet, keys: Sequence[str], network: object = None) -> None:
        pass

    def quality(self, dataset: FaceSet, keys: Sequence[str]) -> NDArray[np.float64]:
        own, change = (np.array([self._drawn(key + end, 1)[0] for key in keys]) for end in ("", "changed"))
        if self.skilled:
            own, change = 0.1 * own - np.array([self._is_poor(key) for key in keys]), 0.01 * change
        return np.asarray(own + change if dataset is SEEN else own, dtype=np.float64)

    def posterior(self, dataset: FaceSet, keys: Sequence[str]) -> NDArray[np.float32]:
        rows = np.full((len(keys), PEOPLE), 1e-3 if self.skilled else 0.0)
        for row, key in enumerate(keys):
            wrong = not self.skilled and row % 2
            rows[row, (int(key[:2]) + wrong) % PEOPLE] = 1
        return np.asarray(rows / rows.sum(axis=1, keepdims=True), dtype=np.float32)

    def _drawn(self, key: str, size: int) -> NDArray[np.float64]:
        return np.random.default_rng(list(key.encode())).normal(size=size)

    def _is_poor(self, key: str) -> bool:
        return key.endswith("/05")


PAIRS = random_verification(FACES, folds=2, pairs_per_fold=1020, fars=(0.05,))
POLICY = DiscardPolicy(fmr=0.05)
PROTOCOLS: dict[str, Any] = {
    "verification": PAIRS,
    "ckd": CKDVerification(FACES),
    "cross": CrossModalVerification(FACES, SEEN),
    "folds": fold_identification(FACES),
    "folds_cross": fold_identification(FACES, probes=SEEN),
    "separation": ClusterSeparation(FACES),
    "clustering": Clustering(FACES, thresholds=(1.0,)),
    "calibration": Calibration(FACES),
    "quality": QualityEDC(PAIRS, policy=POLICY, resamples=0),
    "misaligned": QualityEDC(PAIRS, SEEN, policy=POLICY, resamples=0),
}


@pytest.mark.parametrize("name", PROTOCOLS)
def test_the_better_network_wins_in_every_metric_of_every_protocol(name: str) -> None:
    good, bad = (
        {key: metric.value for key, metric in PROTOCOLS[name].evaluate(Skilled(skilled)).metrics.items()}
        for skilled in (True, False)
    )
    assert good and good.keys() == bad.keys()
    for key in good:
        if "reached_far" in key:  # near the rate that was asked for, whatever the network
            continue
        one, other = good[key], bad[key]
        assert one is not None and other is not None and one != other, key
        assert lower_wins(f"auc_of_eer_loss/{key}") == (one < other), (key, one, other)


def test_tables_and_the_report_agree() -> None:
    told = 0
    for file in sorted((Path(__file__).parents[2] / "experiments").glob("*/*.yaml")):
        definition = read_definition(file)
        for column in definition.columns:
            for metric in {metric for row in definition.rows for metric in column.metrics_of(row)}:
                assert lower_wins(metric) == (column.better == "lower"), (file, metric)
                told += 1
    assert told > 50


@pytest.mark.parametrize(
    ("metric", "best"),
    [("t/accuracy", 0), ("t/eer", 1), ("t/pauc@0.3", 1), ("pauc/bcubed_f@1", 0)],
)
def test_configurations_are_ranked_by_the_first_metric(tmp_path: Path, metric: str, best: int) -> None:
    for margin, value in ((0.1, 0.9), (0.2, 0.2), (0.3, None)):
        make_run(tmp_path, config(tmp_path, head__margin=margin), {metric: value, "t/mce": 0.5})
    found = payload([read_run(folder, tmp_path) for folder in run_folders(tmp_path)], "t")
    assert found["metrics"][0] == metric
    margins = [found["groups"][group]["config"]["head.margin"] for group in found["ranked"]]
    assert margins == [0.1 + 0.1 * best, 0.2 - 0.1 * best, 0.3]
    assert found["lower"] == [name for name in found["metrics"] if name.endswith("mce") or best]


def test_what_few_runs_have_is_not_what_all_are_ranked_by(tmp_path: Path) -> None:
    for seed in range(3):
        rare = {"a/accuracy": 0.9} if seed == 0 else {}
        make_run(tmp_path, config(tmp_path, seed=seed), {"t/fdr": 2.0, "t/eer": 0.1, **rare})
    found = payload([read_run(folder, tmp_path) for folder in run_folders(tmp_path)], "t")
    assert found["metrics"] == ["t/eer", "t/fdr", "a/accuracy"]
