"""Calibration errors against a loop over bins, and cases in closed form."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from kdface.errors import UserError
from kdface.evaluation.calibration import expected_calibration_error, maximum_calibration_error, reliability


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
    with pytest.raises(UserError, match="2 of 3 rows are no probabilities; row 1 adds up to 4"):
        expected_calibration_error(np.array([[0.5, 0.5], [3.0, 1.0], [2.0, -1.0]]), np.array([0, 0, 1]))
    good, labels = predictions(0)
    with pytest.raises(ValueError, match="expected"):
        reliability(good, labels[:-1])
    with pytest.raises(ValueError, match=r"labels 0\.\.6 of 6 classes"):
        reliability(good, np.append(labels[:-1], 6) * np.append(np.ones(299, dtype=int), 1))
    with pytest.raises(ValueError, match="0 bins"):
        reliability(good, labels, bins=0)
