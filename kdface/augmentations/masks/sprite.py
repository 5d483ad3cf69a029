"""Sprites: an occluder drawn once per yaw, with four bytes per pixel from which any colour can be rendered."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from kdface.augmentations.masks.canvas import Canvas, Field
from kdface.augmentations.masks.folds import folds
from kdface.augmentations.masks.outlines import Shape, outline
from kdface.augmentations.masks.relief import shade, surface
from kdface.augmentations.masks.texture import Texture, texture
from kdface.randomness import generator

HALF_WIDTH = 54.0  # of a sprite, and of the ramp from its left (0) to its right (1)
SLANT_STEP = 0.12  # slants are rounded to multiples of this: at most 1.8 px at the ears, nothing at the nose
MOST_SLANT = 0.96  # maximum tan(yaw), about 44 degrees
_MOST_FAR = 0.6  # of the far side, about 31 degrees
_EARS = 46.0  # u of the ears
_BEHIND = 40.0  # depth of the ears behind the eyes, hence their shift at a slant of 1


class Sprite(NamedTuple):
    """An occluder to paint onto a face.

    Attributes:
        layers: (rows, columns, 4) uint8. The first two are the amounts of the first and second colour, premultiplied
            by opacity and shading; the third is their sum times the ramp from left to right; the fourth is how much of
            the face remains (255: all), including shadows.
        density: sprite pixels per template pixel.
        left, top: u and y of the first pixel.
        second: the share of the second colour in the whole sprite.
    """

    layers: NDArray[np.uint8]
    density: float
    left: float
    top: float
    second: float


class Drawing(NamedTuple):
    """An occluder seen from the front, as fields of a canvas.

    `opacity` in [0, 1]; `bright` is the shading, 1 for the pure colour; `mix` the share of the second colour;
    `shadow` the light blocked from the face next to it; `depth` towards the viewer, in pixels.
    """

    opacity: Field
    bright: Field
    mix: Field
    shadow: Field
    depth: Field


def slanted(canvas: Canvas, drawing: Drawing, slant: float) -> Sprite:
    """The drawing seen from the side: a point at depth z moves by slant z along u, with hidden surfaces removed."""
    opacity, bright, mix, shadow, depth = drawing
    u, _ = canvas.grid()
    first = opacity * bright * (1 - mix)
    second = opacity * bright * mix
    ramp = (u + HALF_WIDTH) / (2 * HALF_WIDTH)
    keep = (1 - opacity) * (1 - shadow)
    taken = np.dstack([first, second, (first + second) * ramp, 1 - keep])
    more = 0  # sprite pixels to the left of the canvas, where the near ear swings out
    if slant > 0:
        more = round(slant * _BEHIND * canvas.density)
        # Only the near cheek turns further than `_MOST_FAR`: landmarks are imprecise at large turns, and on the far
        # side nose, mouth and cheek must stay covered.
        far = min(slant, _MOST_FAR)
        lean = far + (slant - far) * np.clip(-u / 16.0, 0, 1)
        taken = _look_aside(taken, u + lean * depth, u, more * canvas.finer)
    layers = np.clip(canvas.shrink(taken, more), 0, 1)
    layers[..., 3] = 1 - layers[..., 3]
    pixels = np.round(layers * 255).astype(np.uint8)
    rows, columns = (np.flatnonzero((pixels[..., 3] < 255).any(axis)) for axis in (1, 0))
    box = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return Sprite(
        np.ascontiguousarray(box),
        canvas.density,
        (columns[0] - more) / canvas.density - canvas.half,
        rows[0] / canvas.density + canvas.top,
        float(second.sum() / max((first + second).sum(), 1e-9)),
    )


@lru_cache(maxsize=256)
def mask_sprite(shape: Shape, cloth: Texture, copy: int, slant: int, density: float) -> Sprite:
    """A mask at `slant` steps of yaw from the front. Cached per process; deterministic."""
    canvas, drawing = _mask(shape, cloth, copy, density)
    return slanted(canvas, drawing, slant * SLANT_STEP)


@lru_cache(maxsize=48)
def _mask(shape: Shape, cloth: Texture, copy: int, density: float) -> tuple[Canvas, Drawing]:
    rng = generator(0, "mask", shape, cloth, copy)
    canvas = Canvas(density, half=HALF_WIDTH, top=48.0, bottom=128.0)
    u, y = canvas.grid()
    edge, straps, width = outline(shape)
    inside = canvas.fill(edge)
    height, lines = folds(shape, canvas, u, y, inside, rng)
    grain, mix = texture(cloth, canvas, u, y, rng)
    depth = surface(u, y)
    # The edge of the cloth is thick: lit from above, and dark where it turns down.
    rim = inside - canvas.blur(inside, 0.7)
    tilt = np.gradient(canvas.blur(inside, 0.9), canvas.step, axis=0)
    bright = shade(depth + height, canvas.step) * lines * grain + 0.35 * np.clip(tilt, -0.4, 0.25) * rim
    loops = np.zeros_like(inside)
    for strap in straps:
        for side in (-1.0, 1.0):
            loops = np.maximum(loops, canvas.stroke(strap * [side, 1.0], width))
    # Five landmarks do not tell where a strap passes behind the ear: fade it out.
    loops *= np.clip((_EARS - np.abs(u)) / 4.0, 0, 1)
    opacity = inside + loops * (1 - inside)
    covers = np.where(opacity > 0, inside / np.maximum(opacity, 1e-6), 0)
    drawing = Drawing(
        opacity=opacity,
        bright=np.clip(covers * bright + (1 - covers) * 0.88 * shade(depth, canvas.step), 0, 1).astype(np.float32),
        mix=(covers * mix + (1 - covers)).astype(np.float32),
        shadow=np.clip(0.75 * canvas.blur(inside, 1.1) + 0.3 * canvas.blur(loops, 0.7), 0, 0.5),
        depth=depth,
    )
    return canvas, drawing


def _look_aside(fields: Field, moved: Field, u: Field, more: int) -> Field:
    """Resample every row so that the point at u moves to `moved`; where points overlap, the left one is nearer.

    The slant is to the right, so of two overlapping points the one from further left protrudes more. Rows start `more`
    points further left.
    """
    seen = np.maximum.accumulate(moved, axis=1)
    rows, width = u.shape
    wanted = u[0, 0] + (u[0, 1] - u[0, 0]) * np.arange(-more, width, dtype=np.float32)
    source = np.empty((rows, len(wanted)), np.float32)
    columns = np.arange(width, dtype=np.float32)
    for row in range(rows):
        source[row] = np.interp(wanted, seen[row], columns, left=-9.0, right=-9.0)
    down = np.repeat(np.arange(rows, dtype=np.float32)[:, None], len(wanted), axis=1)
    return np.asarray(cv2.remap(fields, source, down, cv2.INTER_LINEAR), np.float32)
