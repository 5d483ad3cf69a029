"""Seams, pleats and creases of each mask: surface height in pixels, and darker lines."""

from __future__ import annotations

import math

import cv2
import numpy as np

from kdface.augmentations.masks.canvas import Canvas, Field
from kdface.augmentations.masks.outlines import Shape


def folds(
    shape: Shape, canvas: Canvas, u: Field, y: Field, inside: Field, rng: np.random.Generator
) -> tuple[Field, Field]:
    """(height over the surface, brightness about 1): seams, pleats, hems and creases of a mask with this outline."""
    top, bottom = _ends(inside, y)
    down = (y - top) / np.maximum(bottom - top, 1.0)  # 0 at the upper edge, 1 at the lower; a column may be a point
    side = np.clip(np.abs(u) / 38.0, 0, 1.2)
    height = 0.8 * canvas.noise(rng, 17.0, 9.0) + 0.2 * canvas.noise(rng, 7.0, 4.5)
    height += _creases(u, y, rng)
    bright = np.ones_like(u)
    if shape in ("surgical", "low"):
        for place in (0.27, 0.47, 0.66) if shape == "surgical" else (0.3, 0.55):
            at = place + rng.uniform(-0.02, 0.02) + 0.06 * (1 - side**2) + 0.008 * canvas.noise(rng, 14.0, 40.0)
            below = (down - at) * (bottom - top)
            # A pleat overhangs: a highlight on its rounded edge, a thin dark line below, a fading shadow.
            depth = 0.75 + 0.25 * side
            bright += depth * (0.07 * _bump(below + 1.1, 0.8) - 0.25 * _bump(below - 0.3, 0.5))
            bright -= depth * 0.10 * np.where(below > 0, np.exp(-np.maximum(below, 0) / 2.4), 0)
        bright -= 0.05 * _bump(y - top - 4.2, 0.5) * (np.abs(u) < 15)  # the wire over the nose
        bright += 0.04 * _bump(y - top - 3.2, 0.5) * (np.abs(u) < 15)
        bright -= 0.12 * _bump(y - top - 6.0, 0.35)  # the seam under the upper hem
    elif shape == "n95":
        if rng.random() < 0.6:  # folded flat: two halves meet in an upright ridge
            height += 4.5 * np.exp(-np.abs(u) / 9.0) * np.clip(down * 3, 0, 1)
            bright += 0.08 * _bump(u, 0.7) - 0.08 * _bump(np.abs(u) - 1.6, 0.5)
        else:  # a moulded cup with an embossed ring
            centre = np.hypot(u / 23.0, (y - 90.0) / 20.0)
            bright += 0.06 * _bump((centre - 1) * 21 + 0.9, 0.9) - 0.09 * _bump((centre - 1) * 21 - 0.9, 0.9)
            height += 3.0 * np.clip(1.15 - centre, 0, 1) ** 0.5
        bright -= 0.20 * _bump(y - top - 3.0, 1.0) * (np.abs(u) < 11)  # the clip over the nose
        rim = edge_distance(inside, canvas)
        bright -= 0.10 * _bump(rim - 2.6, 0.35)  # the weld along the edge
    elif shape == "cloth":
        if rng.random() < 0.6:
            bright += 0.05 * _bump(u + 0.9, 0.6) - 0.22 * _bump(u, 0.45)
            height += 2.5 * np.exp(-np.abs(u) / 10.0) * np.clip(down * 3, 0, 1)
        bright -= 0.16 * _bump(edge_distance(inside, canvas) - 2.3, 0.4)  # the stitched hem
    else:  # tall: three panels, the middle one protrudes
        upper, lower = 0.36 - 0.05 * side**2, 0.71 + 0.03 * side**2
        for at, light in ((upper, 1.0), (lower, -1.0)):
            off = (down - at) * (bottom - top)
            bright += 0.06 * light * _bump(off + 0.9, 0.7) - 0.24 * _bump(off, 0.5)
            bright -= 0.07 * np.where(light * off > 0, np.exp(-np.abs(off) / 3.0), 0)
        height += 2.5 * np.clip(1 - np.abs((down - 0.53) / 0.2) ** 3, 0, 1)
        bright -= 0.10 * _bump(edge_distance(inside, canvas) - 2.0, 0.35)
    return height.astype(np.float32), bright.astype(np.float32)


def edge_distance(inside: Field, canvas: Canvas) -> Field:
    """Distance of the points inside to the edge."""
    solid = (inside > 0.5).astype(np.uint8)
    return np.asarray(cv2.distanceTransform(solid, cv2.DIST_L2, 5), np.float32) * np.float32(canvas.step)


def _ends(inside: Field, y: Field) -> tuple[Field, Field]:
    """Heights of the upper and lower edge in each column; outside the mask, those of its outermost column."""
    solid = inside > 0.5
    filled = np.flatnonzero(solid.any(axis=0))
    first, last = solid.argmax(axis=0), len(solid) - 1 - solid[::-1].argmax(axis=0)
    nearest = np.clip(np.arange(solid.shape[1]), filled[0], filled[-1])
    return y[first[nearest], 0][None, :], y[last[nearest], 0][None, :]


def _creases(u: Field, y: Field, rng: np.random.Generator) -> Field:
    """A few straight creases from the corners inwards, caused by the pull of the straps."""
    height = np.zeros_like(u)
    for corner_u, corner_y in ((-37.0, 73.0), (37.0, 73.0), (-35.0, 97.0), (35.0, 97.0)):
        for _ in range(2):
            angle = math.atan2(88.0 + rng.normal(0, 9) - corner_y, rng.normal(0, 9) - corner_u)
            along, across = math.cos(angle), math.sin(angle)
            far = (u - corner_u) * along + (y - corner_y) * across
            off = (y - corner_y) * along - (u - corner_u) * across
            fade = np.exp(-np.maximum(far, 0) / rng.uniform(10.0, 22.0)) * (far > -3)
            height += rng.uniform(0.5, 1.1) * fade * np.exp(-((off / (1.0 + 0.06 * np.abs(far))) ** 2))
    return height


def _bump(distance: Field, width: float) -> Field:
    return np.asarray(np.exp(-((distance / width) ** 2)), np.float32)
