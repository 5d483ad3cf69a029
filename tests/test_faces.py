"""Alignment, preprocessing, and draws: the contracts that everything stands on."""

from __future__ import annotations

import numpy as np
import pytest

from kdface.errors import UserError
from kdface.faces import ARCFACE_112, Preprocessing, align, similarity, template_points
from kdface.randomness import derive, generator


def test_similarity_recovers_a_known_transform() -> None:
    angle, scale, shift = 0.3, 1.7, np.array([4.0, -9.0])
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moved = (ARCFACE_112 @ turn.T + shift).astype(np.float32)
    found = similarity(ARCFACE_112, moved)
    assert found == pytest.approx(np.hstack([turn, shift[:, None]]), abs=1e-4)


def test_similarity_is_the_least_squares_one() -> None:
    """No small change of rotation, scale or shift fits noisy points better."""
    rng = np.random.default_rng(0)
    target = (ARCFACE_112 + rng.normal(0, 2, (5, 2))).astype(np.float32)
    best = similarity(ARCFACE_112, target)

    def error(matrix: np.ndarray) -> float:
        return float(np.square(ARCFACE_112 @ matrix[:, :2].T + matrix[:, 2] - target).sum())

    for _ in range(200):
        a, b = best[0, 0] + rng.normal(0, 0.01), best[1, 0] + rng.normal(0, 0.01)
        other = np.array([[a, -b, best[0, 2] + rng.normal()], [b, a, best[1, 2] + rng.normal()]])
        assert error(other) >= error(best)


def test_similarity_is_the_solution_of_the_normal_equations() -> None:
    """x' = c x - s y + u, y' = s x + c y + v: ten equations in c, s, u, v."""
    rng = np.random.default_rng(1)
    for scale in (0.1, 1.0, 300.0):
        source = (scale * (ARCFACE_112 + rng.normal(0, 3, (5, 2)))).astype(np.float32)
        x, y = source.astype(np.float64).T
        one, zero = np.ones(5), np.zeros(5)
        equations = np.vstack([np.column_stack([x, -y, one, zero]), np.column_stack([y, x, zero, one])])
        c, s, u, v = np.linalg.lstsq(equations, ARCFACE_112.T.ravel().astype(np.float64), rcond=None)[0]
        assert similarity(source, ARCFACE_112) == pytest.approx(np.array([[c, -s, u], [s, c, v]]), rel=1e-9)


@pytest.mark.parametrize("points", [np.full((5, 2), 3.0), np.full((5, 2), np.nan)])
def test_landmarks_that_say_nothing_are_refused(points: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"coincide|finite"):
        similarity(points.astype(np.float32), ARCFACE_112)


def test_aligning_an_image_whose_landmarks_are_the_template_changes_nothing() -> None:
    image = np.random.default_rng(0).integers(0, 256, (112, 112, 3), dtype=np.uint8)
    assert np.abs(align(image, ARCFACE_112).astype(int) - image).max() <= 1


def test_the_template_at_other_sizes() -> None:
    assert template_points((224, 224)) == pytest.approx(2 * ARCFACE_112)
    assert template_points((112, 96))[:, 0] == pytest.approx(ARCFACE_112[:, 0] - 8)


def test_preprocessings_that_differ_do_not_meet() -> None:
    ours, theirs = Preprocessing(), Preprocessing(color="bgr", std=128.0)
    ours.require_equal(Preprocessing.from_dict(ours.to_dict()), "a", "b")
    with pytest.raises(
        UserError, match=r"the student and the teacher .*color: rgb for the student, bgr for the teacher"
    ):
        ours.require_equal(theirs, "the student", "the teacher")


def test_draws_depend_on_every_part_and_on_its_type() -> None:
    assert derive(0, "a", 1) == derive(0, "a", 1)
    assert len({derive(0, "a", 1), derive(1, "a", 1), derive(0, "b", 1), derive(0, "a", 2), derive(0, "a", "1")}) == 5
    assert derive("ab", "c") != derive("a", "bc")
    assert generator(0, "x").random() == generator(0, "x").random()
