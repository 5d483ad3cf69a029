"""VAL and FAR at a distance: FaceNet's definition accepts a pair at the very threshold."""

from __future__ import annotations

import numpy as np
import pytest

from kdface.errors import UserError
from kdface.evaluation.curves import roc, tar_at_far
from kdface.evaluation.validation import val_far

# The FaceNet sheet, 12.2.
DISTANCES = np.array([0.1, 0.5, 1.0, 1.3, 0.9, 1.2, 1.5, 2.0])
SAME = np.array([True] * 4 + [False] * 4)


@pytest.mark.parametrize(
    ("threshold", "val", "far"), [(1.0, 0.75, 0.25), (0.0, 0.0, 0.0), (0.1, 0.25, 0.0), (2.0, 1.0, 1.0)]
)
def test_val_and_far_of_the_toy_pairs(threshold: float, val: float, far: float) -> None:
    assert val_far(DISTANCES, SAME, threshold) == (val, far)


def test_the_curve_of_negative_distances_accepts_the_same_pairs() -> None:
    """The threshold with FAR .25 that accepts most is 1.2 less a bit: three of four genuine pairs."""
    curve = roc(-DISTANCES, SAME)
    assert tar_at_far(curve, 0.25) == 0.75
    for threshold, far, tar in zip(curve.thresholds[1:], curve.far[1:], curve.tar[1:], strict=True):
        assert val_far(DISTANCES, SAME, -threshold) == (tar, far)


def test_pairs_of_one_kind_are_refused() -> None:
    with pytest.raises(UserError):
        val_far(DISTANCES[:4], SAME[:4], 1.0)
