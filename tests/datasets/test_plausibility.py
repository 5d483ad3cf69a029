"""Landmarks are judged by the template's shape, whatever size, place and turn the face has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kdface.datasets.landmarks import read_landmarks
from kdface.datasets.plausibility import implausible
from kdface.faces import ARCFACE_112, Points

SIZE = (112, 112)


def moved(points: Points, degrees: float = 0, scale: float = 1) -> Points:
    """Turned and scaled about the middle of the image."""
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * scale
    return np.asarray((points - 56) @ turn.T + 56, dtype=np.float32)


def changed(*rows: int) -> Points:
    return ARCFACE_112[list(rows)]


@pytest.mark.parametrize("degrees", [0, 25, 90, 180])
@pytest.mark.parametrize("scale", [0.2, 1, 1.5])
def test_place_size_and_turn_are_free(degrees: float, scale: float) -> None:
    assert implausible(moved(ARCFACE_112, degrees, scale), SIZE) == ""
    exchanged = moved(changed(1, 0, 2, 4, 3), degrees, scale)
    assert "left and right are exchanged" in implausible(exchanged, SIZE)


@pytest.mark.parametrize(
    ("points", "said"),
    [
        (ARCFACE_112 * [-1, 1] + [112, 0], "mirrored"),
        (ARCFACE_112 * [1, -1] + [0, 112], "mirrored"),
        (ARCFACE_112[:, ::-1], "mirrored"),
        (changed(1, 0, 2, 3, 4), "away from a face's"),
        (changed(0, 2, 1, 3, 4), "away from a face's"),
        (ARCFACE_112 * [1, 0.05] + [0, 50], "in one line"),
        (ARCFACE_112 * [0.05, 1] + [50, 0], "in one line"),
        (ARCFACE_112 * [1, 1] + [200, 0], "outside the image"),
        (ARCFACE_112 * np.nan, "not five finite points"),
        (ARCFACE_112[:4], "not five finite points"),
    ],
)
def test_what_no_face_has(points: Points, said: str) -> None:
    assert said in implausible(np.asarray(points, dtype=np.float32), SIZE)


def test_landmarks_of_real_faces_are_plausible_and_their_mirror_images_are_not(real_data: Path) -> None:
    rows = read_landmarks(real_data / "lfw_landmarks.csv").values()
    points = [row.points for row in rows]
    assert not [point for point in points if implausible(point, (192, 192))]
    assert all(implausible(point[[1, 0, 2, 4, 3]], (192, 192)) for point in points)
