"""VAL and FAR at a distance: FaceNet's definition accepts a pair at the very threshold."""

from __future__ import annotations

import numpy as np
import pytest

from kdface.errors import UserError
from kdface.evaluation.curves import roc, tar_at_far
from kdface.evaluation.validation import val_at_far, val_far

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


def test_val_at_a_far_by_hand() -> None:
    """Two folds of four genuine and four impostor pairs, FAR .25: one impostor of the other fold is let in.

    Fold 0: genuine .1 .5 1.0 1.3, impostors .9 1.2 1.5 2.0, so its threshold for fold 1 is 1.0, the last distance under
    its second impostor. Fold 1: genuine .2 .6 1.1 1.4, impostors .7 .8 1.6 1.9, so fold 0 is judged at .7. VAL is 2/4
    (.1 .5) and 2/4 (.2 .6), FAR 0 and 2/4.
    """
    genuine, impostor = [0.1, 0.5, 1.0, 1.3, 0.2, 0.6, 1.1, 1.4], [0.9, 1.2, 1.5, 2.0, 0.7, 0.8, 1.6, 1.9]
    fold = np.tile(np.repeat([3, 8], 4), 2)
    found = val_at_far(np.array(genuine + impostor), np.repeat([True, False], 8), 0.25, fold)
    assert found is not None
    assert found.val.thresholds == pytest.approx([0.7, 1.0])
    assert found.val.per_fold == pytest.approx([0.5, 0.5])
    assert found.far.per_fold == pytest.approx([0.0, 0.5])
    assert (found.far.mean, found.far.std) == pytest.approx((0.25, 0.25))
    assert found.far.standard_error == pytest.approx(0.25)  # sqrt((.25^2 + .25^2) / 1) / sqrt(2)


@pytest.mark.parametrize("far", [0.02, 0.1, 0.5])
def test_val_at_a_far_agrees_with_a_search_over_all_thresholds(far: float) -> None:
    rng = np.random.default_rng(0)
    same = rng.random(600) < 0.5
    distances = np.where(same, rng.normal(0.9, 0.3, 600), rng.normal(1.6, 0.3, 600)).clip(0, 4).round(2)  # with ties
    fold = rng.integers(0, 5, 600)
    found = val_at_far(distances, same, far, fold)
    assert found is not None
    vals, fars = [], []
    for held_out in range(5):
        others, own = fold != held_out, fold == held_out
        able = [d for d in distances[others] if np.mean(distances[others & ~same] <= d) <= far]
        vals.append(np.mean(distances[own & same] <= max(able)))
        fars.append(np.mean(distances[own & ~same] <= max(able)))
    assert found.val.per_fold == pytest.approx(vals)
    assert found.far.per_fold == pytest.approx(fars)
    assert found.val.standard_error == pytest.approx(np.std(vals, ddof=1) / np.sqrt(5))


def test_val_at_a_far_that_the_pairs_cannot_show() -> None:
    rng = np.random.default_rng(0)
    same = np.tile([True, False], 100)
    assert val_at_far(rng.random(200), same, 0.012) is not None  # 90 impostors in nine folds: .0111 and up
    assert val_at_far(rng.random(200), same, 0.011) is None
    assert val_at_far(rng.random(200), np.repeat([True, False], 100), 0.5) is None  # folds of one kind
    near = np.where(same, 0.5, 0.0)  # the nearest impostors are too many: nobody is let in
    found = val_at_far(near, same, 0.5)
    assert found is not None and (found.val.mean, found.far.mean) == (0.0, 0.0)
