"""Every symptom is told, and only where it is there."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from kdface.evaluation.health import diagnose
from kdface.evaluation.scores import squared_distances
from kdface.evaluation.verification import tenfold_accuracy

LEFT, RIGHT = np.arange(0, 40, 2), np.arange(1, 40, 2)
SAME = np.arange(20) % 2 == 0


def _random(scale: float = 1.0, seed: int = 0) -> NDArray[np.float32]:
    """40 embeddings around one direction; the larger the scale, the more they differ."""
    rng = np.random.default_rng(seed)
    return (np.ones(64) + scale * rng.normal(size=(40, 64))).astype(np.float32)


@pytest.mark.parametrize("scale", [0.3, 1.0, 100.0])
def test_usable_embeddings_pass(scale: float) -> None:
    assert diagnose(_random(scale), LEFT, RIGHT, SAME) == []


def test_values_that_are_not_finite() -> None:
    rows = _random()
    rows[3, 0], rows[7, 5] = np.nan, np.inf
    (symptom,) = diagnose(rows, LEFT, RIGHT, SAME)
    assert (
        symptom.startswith("2 of 40 embeddings contain NaN or infinity. Usual causes: ") and "learning rate" in symptom
    )


def test_zero_embeddings() -> None:
    rows = _random()
    rows[[1, 2, 3]] = 0
    assert [text[:30] for text in diagnose(rows, LEFT, RIGHT, SAME)] == ["3 of 40 embeddings are zero an"]
    assert "40 of 40 embeddings are zero" in diagnose(np.zeros((40, 4)), LEFT, RIGHT, SAME)[0]


def test_several_symptoms_are_all_told() -> None:
    rows = _random()
    rows[0], rows[1, 1] = 0, np.nan
    text = "\n".join(diagnose(rows, LEFT, RIGHT, np.ones(20, dtype=bool)))
    assert "All 20 pairs are of the same person" in text
    assert "1 of 40 embeddings contain NaN" in text
    assert "1 of 40 embeddings are zero" in text


@pytest.mark.parametrize("noise", [0.0, 1e-5])
def test_constant_embeddings(noise: float) -> None:
    # Lengths may differ: only directions count.
    rows = _random(noise) * np.random.default_rng(1).uniform(0.5, 2, (40, 1)).astype(np.float32)
    symptoms = diagnose(rows, LEFT, RIGHT, SAME)
    assert len(symptoms) == 1
    assert symptoms[0].startswith("All 40 embeddings are one vector")


def test_collapsed_embeddings_are_those_that_leave_the_ten_fold_accuracy_at_chance() -> None:
    rows = _random(0.03)
    distances = squared_distances(rows[LEFT], rows[RIGHT])
    assert 1e-6 < distances.max() < 0.01
    assert tenfold_accuracy(distances, SAME).mean == 0.5
    symptoms = diagnose(rows, LEFT, RIGHT, SAME)
    assert len(symptoms) == 1
    assert "one side of all thresholds" in symptoms[0]
    assert f"{distances.max():.4f} apart" in symptoms[0]


def test_identical_scores() -> None:
    rows = np.eye(40)  # all at right angles
    assert "All 20 scores are 0.0000" in diagnose(rows, LEFT, RIGHT, SAME)[0]


def test_embeddings_on_one_line() -> None:
    rows = np.outer(np.where(np.random.default_rng(0).random(40) < 0.5, 1.0, -1.0), np.ones(8))
    assert "on one line" in diagnose(rows, LEFT, RIGHT, SAME)[0]


def test_pairs_that_cannot_be_told_apart() -> None:
    rows = _random()
    none = np.zeros(20, dtype=bool)
    assert "All 20 pairs are of the same person" in diagnose(rows, LEFT, RIGHT, ~none)[0]
    assert "All 20 pairs are of different people" in diagnose(rows, LEFT, RIGHT, none)[0]
    assert "There are no pairs" in diagnose(rows, LEFT[:0], RIGHT[:0], none[:0])[0]


def test_pairs_of_an_image_with_itself() -> None:
    assert "compares an image with itself" in diagnose(_random(), LEFT, LEFT, SAME)[0]
