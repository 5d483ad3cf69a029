"""Sunglasses and scarves, drawn as sprites like the masks."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from kdface.augmentations.masks.canvas import Canvas, Field
from kdface.augmentations.masks.folds import edge_distance
from kdface.augmentations.masks.outlines import Curve, smooth
from kdface.augmentations.masks.relief import shade, surface
from kdface.augmentations.masks.sprite import HALF_WIDTH, SLANT_STEP, Drawing, Sprite, slanted
from kdface.augmentations.masks.texture import Texture, texture
from kdface.randomness import generator

GLASSES = 4  # frames: wayfarer, aviator, round, wide
SCARVES = 6

# The right lens of each frame as a closed curve, and the thickness of its rim.
_LENSES: tuple[tuple[list[tuple[float, float]], float], ...] = (
    ([(4, 44.5), (17, 43), (31, 43.5), (32, 48), (29.5, 57), (24, 62), (15, 62.5), (7.5, 59), (4.5, 52)], 2.0),
    ([(5, 46), (16, 44.5), (29, 46), (31.5, 51), (29, 59.5), (21, 66), (13, 64.5), (6.5, 56)], 0.9),
    ([(4.5, 53), (7.5, 45.5), (15.5, 42.3), (24, 45), (28, 53), (25, 61), (16.5, 64.5), (8, 61.5)], 1.2),
    ([(3.5, 45), (16, 43), (33, 43.5), (35.5, 49), (33.5, 60), (25, 64), (12, 63.5), (5, 58.5)], 1.5),
)


@lru_cache(maxsize=64)
def glasses_sprite(frame: int, slant: int, density: float) -> Sprite:
    """Sunglasses: the first colour is for the lenses, the second for the frame."""
    canvas = Canvas(density, half=HALF_WIDTH, top=34.0, bottom=76.0)
    u, y = canvas.grid()
    points, rim = _LENSES[frame]
    right = smooth(np.array(points, dtype=np.float64), closed=True)
    lenses = _both(canvas.fill(right), canvas.fill(right * [-1, 1]))
    closed = np.vstack([right, right[:1]])
    frames = _both(canvas.stroke(closed, rim), canvas.stroke(closed * [-1, 1], rim))
    inner, outer, high = right[:, 0].min(), right[:, 0].max(), right[:, 1].min()
    bridge = smooth(np.array([(-inner - 1.0, high + 4.5), (0, high + 2.6), (inner + 1.0, high + 4.5)]), closed=False)
    frames = np.maximum(frames, canvas.stroke(bridge, max(1.3, rim)))
    for side in (-1.0, 1.0):
        temple = np.array([(outer - 1.5, high + 3.5), (41.0, high + 4.0), (48.0, high + 5.5)]) * [side, 1.0]
        frames = np.maximum(frames, canvas.stroke(smooth(temple, closed=False), max(1.3, rim)))
    opacity = np.maximum(lenses * 0.95, frames)
    # Lenses reflect a bright sky above and show a slanted gleam.
    within = (np.abs(u) - (inner + outer) / 2) / (outer - inner)
    gleam = np.exp(-((((u - np.sign(u) * (inner + outer) / 2) + 0.7 * (y - 50.0)) / 3.0) ** 2))
    lens = 0.36 + 0.30 * np.clip((62.0 - y) / 20.0, 0, 1) ** 2 + 0.16 * gleam - 0.10 * within**2
    frame_light = 0.75 + 0.25 * np.clip((canvas.blur(frames, 0.5) - frames) * -1.5, 0, 1)
    mix = np.where(opacity > 0, frames / np.maximum(opacity, 1e-6), 0)
    drawing = Drawing(
        opacity=opacity,
        bright=np.clip(mix * frame_light + (1 - mix) * lens, 0, 1).astype(np.float32),
        mix=np.clip(mix, 0, 1).astype(np.float32),
        shadow=np.clip(0.6 * canvas.blur(opacity, 1.2), 0, 0.45),
        depth=(9.0 - 0.004 * u**2 - 3.0 * np.maximum(np.abs(u) - 35.0, 0)).astype(np.float32),
    )
    return slanted(canvas, drawing, slant * SLANT_STEP)


@lru_cache(maxsize=128)
def scarf_sprite(copy: int, slant: int, density: float) -> Sprite:
    """A scarf wound round the lower face and the neck, from the tip of the nose downwards."""
    rng = generator(0, "scarf", copy)
    canvas = Canvas(density, half=HALF_WIDTH + 8.0, top=54.0, bottom=150.0)
    u, y = canvas.grid()
    inside = canvas.fill(_scarf_outline(rng))
    cloth: Texture = ("weave", "stripes", "plain", "checks", "weave", "blotches")[copy % SCARVES]
    grain, mix = texture(cloth, canvas, u, y, rng)
    # Windings sag in the middle and cross at a small angle; each bulges and is shaded by the one above.
    height, lines = 1.2 * canvas.noise(rng, 26.0, 7.0) + 0.4 * canvas.noise(rng, 9.0, 4.0), np.ones_like(u)
    for at in (79.0, 93.0, 108.0, 124.0):
        slope, sag = rng.uniform(-0.14, 0.14), rng.uniform(0.002, 0.005)
        below = y - at - rng.uniform(-2, 2) - slope * u + sag * u**2 - 0.8 * canvas.noise(rng, 20.0, 60.0)
        height += 2.6 * np.exp(-(((below + 5.0) / 5.0) ** 2))
        lines -= 0.30 * np.exp(-((below / 0.9) ** 2)) + 0.18 * np.where(
            below > 0, np.exp(-np.maximum(below, 0) / 3.0), 0
        )
    depth = surface(u, np.minimum(y, 105.0)) + 4.0
    hem = 1 - 0.18 * np.exp(-(((edge_distance(inside, canvas) - 1.8) / 0.5) ** 2))
    drawing = Drawing(
        opacity=inside,
        bright=np.clip(shade(depth + height, canvas.step) * lines * grain * hem, 0, 1).astype(np.float32),
        mix=mix,
        shadow=np.clip(0.8 * canvas.blur(inside, 1.4), 0, 0.5),
        depth=depth,
    )
    return slanted(canvas, drawing, slant * SLANT_STEP)


def _scarf_outline(rng: np.random.Generator) -> Curve:
    upper = [(u, 66.5 + 0.0022 * u * u + rng.uniform(-1.2, 0.8)) for u in np.linspace(-52, 52, 9)]
    lower = [(58.0, 80.0), (60.0, 120.0), (50.0, 142.0), (0.0, 147.0), (-50.0, 142.0), (-60.0, 120.0), (-58.0, 80.0)]
    return smooth(np.array(upper + lower), closed=True)


def _both(left: Field, right: Field) -> Field:
    return np.asarray(np.maximum(left, right), np.float32)
