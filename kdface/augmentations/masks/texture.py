"""Textures of cloth: brightness and share of the second colour at each point."""

from __future__ import annotations

from typing import Literal

import numpy as np

from kdface.augmentations.masks.canvas import Canvas, Field

Texture = Literal["plain", "weave", "stripes", "checks", "dots", "blotches"]


def texture(name: Texture, canvas: Canvas, u: Field, y: Field, rng: np.random.Generator) -> tuple[Field, Field]:
    """(brightness about 1, share of the second colour in [0, 1]), two fields of the canvas."""
    along = 46.0 * np.arcsin(np.clip(u / 52.0, -1, 1))  # cloth bends round the face: patterns narrow towards the sides
    bright = 1 + 0.012 * canvas.noise(rng, 1.5, 1.5)
    mix = np.zeros_like(u)
    if name == "weave":
        bright += 0.07 * np.sin(2 * np.pi * along / 2.2) * np.sin(2 * np.pi * y / 2.2)
    elif name == "stripes":
        angle, period = rng.choice([0.0, np.pi / 2, np.pi / 4]), rng.uniform(5.0, 11.0)
        mix = _edge(np.cos(2 * np.pi * (np.cos(angle) * along + np.sin(angle) * y) / period) - rng.uniform(0, 0.7))
    elif name == "checks":
        period = rng.uniform(6.0, 12.0)
        mix = 0.5 * (_edge(np.sin(2 * np.pi * along / period)) + _edge(np.sin(2 * np.pi * y / period)))
    elif name == "dots":
        period = rng.uniform(6.0, 10.0)
        row = np.floor(y / period)
        across = (along + (row % 2) * period / 2) / period
        distance = np.hypot(across - np.round(across), y / period - row - 0.5)
        mix = _edge((0.27 - distance) * period, 1.2)
    elif name == "blotches":
        mix = _edge(canvas.noise(rng, 8.0, 6.0) - 0.2, 3.0)
    return bright.astype(np.float32), np.asarray(mix, np.float32)


def _edge(field: Field, steepness: float = 4.0) -> Field:
    """A step from 0 to 1 at the field's zero crossing."""
    return np.asarray(np.clip(0.5 + steepness * field / 2, 0, 1), np.float32)
