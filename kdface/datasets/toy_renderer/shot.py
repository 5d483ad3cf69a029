"""What changes from one picture of a person to the next: pose, expression, light, camera, and what is worn.

Lengths are in pixels of the aligned 112x112 crop.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kdface.datasets.toy_renderer.person import Color, Person, bell, clip

_RIMS = np.array(
    [[24, 22, 24], [58, 38, 28], [120, 118, 122], [150, 116, 60], [92, 30, 36], [34, 48, 84]], dtype=np.float64
)
_LENSES = np.array([[236, 242, 248], [60, 56, 52], [110, 84, 60]], dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Shot:
    """What changes between two pictures of one person."""

    # pose, radians; camera distance in crop pixels
    yaw: float
    pitch: float
    roll: float
    distance: float
    # expression
    smile: float
    jaw_open: float
    brow_raise: float
    brow_frown: float
    eye_open: float
    gaze: tuple[float, float]
    # light
    light: NDArray[np.float64]  # (3,), unit vector towards the light; x right, y down, z towards the camera
    ambient: float
    strength: float
    tint: Color  # of the light, about 1
    ambient_tint: Color
    # camera
    exposure: float
    gamma: float
    saturation: float
    blur: float
    noise: float
    detail: float  # share of the resolution kept
    # what is worn
    glasses: bool
    rim: Color
    rim_width: float
    rim_height: float
    rim_round: float
    rim_thick: float
    lens: Color
    lens_opacity: float
    hair_shift: NDArray[np.float64]  # (2,): volume, hairline


def draw_shot(rng: np.random.Generator, person: Person) -> Shot:
    """Draw the circumstances of one picture. The person matters only for the habit of wearing glasses."""

    def n(mean: float, sd: float) -> float:
        return mean + sd * bell(rng)

    azimuth, elevation = n(0.0, 0.75), n(0.5, 0.4)
    light = np.array([np.sin(azimuth) * np.cos(elevation), -np.sin(elevation), np.cos(azimuth) * np.cos(elevation)])
    warm = n(0.0, 0.08)
    cool = n(0.0, 0.06)
    tints = np.array([1.0, 0.35, -1.0])
    green = np.array([-0.4, 0.6, -0.2]) * n(0.0, 0.05)
    return Shot(
        yaw=n(0.0, 0.24),
        pitch=n(0.0, 0.12),
        roll=n(0.0, 0.1),
        distance=float(rng.uniform(280, 900)),
        smile=clip(rng.normal(0.42, 0.42), -0.4, 1.0),
        jaw_open=clip(rng.exponential(0.25) - 0.15, 0, 1),
        brow_raise=n(0.0, 0.5),
        brow_frown=clip(rng.normal(-0.15, 0.35), 0, 1),
        eye_open=clip(rng.normal(1.0, 0.16), 0.3, 1.3),
        gaze=(n(0.0, 0.6), n(0.0, 0.3)),
        light=light,
        ambient=float(rng.uniform(0.3, 0.75)),
        strength=float(rng.uniform(0.35, 0.95)),
        tint=1 + warm * tints + green,
        ambient_tint=1 + cool * tints,
        exposure=float(np.exp(n(0.0, 0.22))),
        gamma=float(np.exp(n(0.0, 0.16))),
        saturation=float(rng.uniform(0.75, 1.25)) if rng.random() < 0.95 else 0.0,
        blur=clip(rng.exponential(0.38), 0, 1.5),
        noise=clip(rng.exponential(2.2), 0, 9),
        detail=float(rng.uniform(0.35, 0.9)) if rng.random() < 0.3 else 1.0,
        glasses=bool(rng.random() < person.glasses_habit),
        rim=np.clip(_RIMS[rng.integers(len(_RIMS))] + rng.normal(0, 8, 3), 0, 255).astype(np.float64),
        rim_width=float(rng.uniform(12.5, 15.0)),
        rim_height=float(rng.uniform(8.0, 12.0)),
        rim_round=float(rng.uniform(2.0, 4.5)),
        rim_thick=float(rng.uniform(0.6, 1.9)),
        lens=_LENSES[rng.integers(len(_LENSES))],
        lens_opacity=float(rng.uniform(0.02, 0.16)),
        hair_shift=rng.normal(0, 1.0, 2),
    )
