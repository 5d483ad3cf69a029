"""Paint a sprite onto a face."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from kdface.augmentations.masks.camera import Camera
from kdface.augmentations.masks.light import Light
from kdface.augmentations.masks.sprite import Sprite
from kdface.faces import Image

Color = tuple[float, float, float]  # RGB in 0..255, as seen in good light


def density(scale: float) -> float:
    """Sprite pixels per template pixel for a face of this scale: 1.25 for crops of 112, else 0.3 to 5."""
    return 1.25 * 2.0 ** min(max(math.ceil(math.log2(max(scale, 1e-3) / 1.2)), -2), 2)


def paint(image: Image, sprite: Sprite, seen: Camera, mirrored: bool, lit: Light, first: Color, second: Color) -> None:
    """Draw the sprite into the image in these two cloth colours.

    With the layers a, b, r, k of a pixel (see `Sprite`), 0 to 1, the face becomes k face + a c1 + b c2 + r s: c1 and c2
    are the colours at the left end in this light, s is their difference at the right end.
    """
    layers, fine, left, top, share = sprite
    rows, columns, _ = layers.shape
    sign = -1.0 if mirrored else 1.0
    (ax, ay), (dx, dy) = seen.across, seen.down
    ox, oy = seen.see(sign * left, top)
    matrix = (sign * ax / fine, dx / fine, ox), (sign * ay / fine, dy / fine, oy)
    x0, x1, y0, y1 = _box(matrix, rows, columns, image.shape[1], image.shape[0])
    if x0 >= x1 or y0 >= y1:
        return
    (a, b, x), (c, d, y) = matrix
    place = np.array(((a, b, x - x0), (c, d, y - y0)))
    warped = cv2.warpAffine(
        layers, place, (x1 - x0, y1 - y0), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT,
        borderValue=(0, 0, 0, 255),
    )  # fmt: skip
    # OpenCV vectorises only the case of three channels to three.
    cloth = cv2.transform(cv2.cvtColor(warped, cv2.COLOR_RGBA2RGB), _colors(lit, first, second, share, mirrored))
    keep = cv2.cvtColor(cv2.extractChannel(warped, 3), cv2.COLOR_GRAY2RGB)
    face = image[y0:y1, x0:x1]
    cv2.multiply(face, keep, dst=face, scale=1 / 255)
    cv2.add(face, cloth, dst=face)


def _colors(lit: Light, first: Color, second: Color, share: float, mirrored: bool) -> NDArray[np.float32]:
    """The (3, 3) matrix from the first three layers of a sprite to the amount added to each channel of the face."""
    left, right = (lit.right, lit.left) if mirrored else (lit.left, lit.right)
    if lit.saturation < 1:
        first, second = _grey(first, lit.saturation), _grey(second, lit.saturation)
    contrast, veil, more = lit.contrast / 255, lit.veil / 255, right - left
    rows = []
    for gain, one, two in zip(lit.gain, first, second, strict=True):
        a, b = contrast * gain * one + veil, contrast * gain * two + veil
        rows.append((left * a, left * b, more * (a + share * (b - a))))
    return np.array(rows, np.float32)


def _grey(color: Color, saturation: float) -> Color:
    luma = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]
    red, green, blue = (luma + saturation * (channel - luma) for channel in color)
    return red, green, blue


def _box(
    matrix: tuple[tuple[float, float, float], tuple[float, float, float]],
    rows: int,
    columns: int,
    width: int,
    height: int,
) -> tuple[int, int, int, int]:
    """The part of the image the sprite can touch: first and one past the last column, then row."""
    ends = []
    for (across, down, origin), most in zip(matrix, (width, height), strict=True):
        along, up = across * columns, down * rows
        low = origin + (along if along < 0 else 0.0) + (up if up < 0 else 0.0)
        high = low + abs(along) + abs(up)
        ends += [max(0, math.floor(low) - 1), min(most, math.ceil(high) + 2)]
    return ends[0], ends[1], ends[2], ends[3]
