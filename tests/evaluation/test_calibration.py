"""Calibration errors against a loop over bins, and cases in closed form."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from kdface.assembly.load import load_run
from kdface.datasets import ToyFaces
from kdface.errors import UserError
from kdface.evaluation import Calibration, Embedder
from kdface.evaluation.calibration import expected_calibration_error, maximum_calibration_error, reliability
from tests.conftest import TINY, Kdface, only_run
from tests.evaluation.faces import Listed


def predictions(seed: int, samples: int = 300, classes: int = 6) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    powers = np.exp(2 * rng.normal(size=(samples, classes)))
    return powers / powers.sum(axis=1, keepdims=True), rng.integers(0, classes, samples)


@pytest.mark.parametrize("bins", [1, 4, 10, 15])
def test_against_a_loop(bins: int) -> None:
    probabilities, labels = predictions(bins)
    expected, largest = 0.0, 0.0
    for m in range(bins):
        inside = [
            (max(row), int(np.argmax(row)) == label)
            for row, label in zip(probabilities.tolist(), labels.tolist(), strict=True)
            if m / bins < max(row) <= (m + 1) / bins
        ]
        if inside:
            gap = abs(sum(hit for _, hit in inside) - sum(sure for sure, _ in inside)) / len(inside)
            expected += gap * len(inside) / len(labels)
            largest = max(largest, gap)
    assert expected_calibration_error(probabilities, labels, bins) == pytest.approx(expected)
    assert maximum_calibration_error(probabilities, labels, bins) == pytest.approx(largest)
    assert reliability(probabilities, labels, bins).samples.sum() == 300


def test_closed_forms() -> None:
    """Sure and always right: 0. Sure and always wrong: 1. Four out of five right at 0.8: 0. Two right at 0.9: 0.5."""
    sure = np.tile([0.0, 1.0], (10, 1))
    assert expected_calibration_error(sure, np.ones(10, dtype=int)) == 0
    assert expected_calibration_error(sure, np.zeros(10, dtype=int)) == 1
    fair = np.tile([0.8, 0.2], (5, 1))
    assert expected_calibration_error(fair, np.array([0, 0, 1, 0, 0])) == pytest.approx(0)
    bold = np.tile([0.9, 0.1], (5, 1))
    both = np.concatenate([fair, bold])
    labels = np.array([0, 0, 1, 0, 0, 0, 0, 1, 1, 1])
    assert expected_calibration_error(both, labels) == pytest.approx(0.25)
    assert maximum_calibration_error(both, labels) == pytest.approx(0.5)


def test_a_confidence_on_an_edge_belongs_to_the_bin_below() -> None:
    found = reliability(np.array([[0.5, 0.5], [0.75, 0.25], [1.0, 0.0]]), np.array([0, 0, 0]), bins=4)
    assert found.samples.tolist() == [0, 1, 1, 1]
    assert found.accuracy[1:].tolist() == [1, 1, 1] and np.isnan(found.accuracy[0])
    assert found.confidence[1:].tolist() == [0.5, 0.75, 1.0]


def test_what_is_no_prediction_is_told() -> None:
    with pytest.raises(UserError, match="2 of 3 rows are not probabilities; row 1 sums to 4"):
        expected_calibration_error(np.array([[0.5, 0.5], [3.0, 1.0], [2.0, -1.0]]), np.array([0, 0, 1]))
    good, labels = predictions(0)
    with pytest.raises(ValueError, match="expected"):
        reliability(good, labels[:-1])
    with pytest.raises(ValueError, match=r"labels 0\.\.6 of 6 classes"):
        reliability(good, np.append(labels[:-1], 6) * np.append(np.ones(299, dtype=int), 1))
    with pytest.raises(ValueError, match="0 bins"):
        reliability(good, labels, bins=0)


class Sure(Embedder):
    """Gives each image the probabilities that it was told, and its classes the names that it was told."""

    def __init__(self, people: list[str], rows: dict[str, list[float]]) -> None:
        super().__init__(lambda images, kind: images, people=people)
        self.rows = rows

    def posterior(self, dataset: object, keys: object) -> NDArray[np.float32]:
        return np.array([self.rows[key] for key in keys], np.float32)  # type: ignore[attr-defined]


def test_classes_are_people_by_name() -> None:
    """Bo is class 0 of the network and person 1 of the set; a third class is nobody's here. Two of four are right:
    one at 0.8 and one at 0.6, and wrong are one at 0.9 and one at 0.6. With 4 bins, 0.6 lies in (0.5, 0.75] and the
    others above: |0.5 - 0.6| and |0.5 - 0.85|, half of the images each."""
    faces = Listed([("ada", "a1"), ("ada", "a2"), ("bo", "b1"), ("bo", "b2")])
    rows = {"a1": [0.1, 0.1, 0.8], "a2": [0.9, 0.05, 0.05], "b1": [0.6, 0.2, 0.2], "b2": [0.3, 0.6, 0.1]}
    outcome = Calibration(faces, bins=4).evaluate(Sure(["bo", "cy", "ada"], rows))
    values = {name: metric.value for name, metric in outcome.metrics.items()}
    assert values == pytest.approx({"ece": 0.225, "mce": 0.35, "accuracy": 0.5}, abs=1e-6)
    assert outcome.counts == {"images": 4, "images_embedded": 4, "people": 2} and not outcome.symptoms


def test_what_cannot_be_calibrated_is_told() -> None:
    faces = Listed([("ada", "a1"), ("bo", "b1")])
    with pytest.raises(UserError, match=r"1 of 2 people of listed \(arcface\) are not among the 2 .*: ada"):
        Calibration(faces).evaluate(Sure(["bo", "cy"], {}))
    with pytest.raises(UserError, match="has no class names"):
        Calibration(faces).evaluate(Sure([], {}))
    outcome = Calibration(faces).evaluate(Sure(["ada", "bo"], {"a1": [np.nan, np.nan], "b1": [1, 0]}))
    assert "1 of 2 images have probabilities that are NaN" in outcome.symptoms[0]
    assert all(metric.value is None for metric in outcome.metrics.values())


CALIBRATION = [
    "+evaluation.known._target_=kdface.evaluation.Calibration",
    "+evaluation.known.dataset._target_=kdface.datasets.ToyFaces",
    "+evaluation.known.dataset.people=4",
    "+evaluation.known.dataset.images_per_person=9",
    "+evaluation.known.dataset.size=[32,32]",
]


def test_a_run_is_calibrated_on_the_people_it_was_trained_on(kdface: Kdface, tmp_path: Path) -> None:
    """Against the last layer by hand: w_j . f(x) + b_j of the stored weights, in the order of the training set."""
    said = kdface("train", *TINY, "head=softmax", "trainer.max_steps=6", *CALIBRATION)
    assert said.code == 0 and "optimistic" not in said.err, said
    run = only_run(tmp_path)
    said = kdface("evaluate", f"run={run}")
    assert said.code == 0 and "known" in said.out, said
    content = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert content["kdface"]["people"] == list(ToyFaces(6, 6, size=(32, 32)).people)
    method, faces = load_run(run).method, ToyFaces(4, 9, size=(32, 32))
    images = torch.from_numpy(np.stack([faces[row].image for row in range(len(faces))]))
    with torch.no_grad():
        embedding = method.embed(images, faces.preprocessing).double().numpy()
    weight, bias = (content["state_dict"][f"head.{name}"].double().numpy() for name in ("weight", "bias"))
    powers = np.exp(embedding @ weight.T + bias)
    probabilities = powers / powers.sum(axis=1, keepdims=True)
    expected = float((probabilities.argmax(axis=1) == faces.labels).mean())
    told = json.loads((run / "results.json").read_text())["metrics"]
    again = json.loads(next(run.glob("evaluations/*/results.json")).read_text())["metrics"]
    for metrics in (told, again):
        assert metrics["known/accuracy"]["value"] == pytest.approx(expected)
        ece = expected_calibration_error(probabilities, np.asarray(faces.labels))
        assert metrics["known/ece"]["value"] == pytest.approx(ece, abs=1e-5)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["head=sphereface2"], "head is not a softmax over all classes"),
        (["+evaluation.known.dataset.split=test"], "4 of 4 people of toy_faces"),
        (
            [
                "+evaluation.known_quantised._target_=kdface.evaluation.Quantised",
                "+evaluation.known_quantised.protocol=${evaluation.known}",
            ],
            "Calibration compares nothing",
        ),
        (
            [
                "head=sphereface2",
                "evaluation.known._target_=kdface.evaluation.fold_identification",
                "+evaluation.known.compare=logits",
            ],
            "evaluation.known compares logits, but the run's head is not a softmax",
        ),
    ],
)
def test_a_run_that_cannot_be_calibrated_is_refused_before_it_is_trained(
    kdface: Kdface, tmp_path: Path, words: list[str], problem: str
) -> None:
    said = kdface("train", *TINY, *CALIBRATION, *words)
    assert said.code == 2 and problem in said.err and "evaluation.known" in said.err, said
    assert not list(tmp_path.rglob("metrics.jsonl"))
