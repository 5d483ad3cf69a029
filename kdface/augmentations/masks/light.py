"""The light on a face, estimated from the pixels that an occluder will cover."""

from __future__ import annotations

from typing import NamedTuple

import cv2

from kdface.augmentations.masks.camera import Camera
from kdface.augmentations.masks.sprite import HALF_WIDTH
from kdface.faces import Image

# Reference values of the lower half of an evenly lit face: luma, and the share of each channel in it.
_LUMA = 132.0
_SKIN = (1.20, 0.95, 0.83)
_CONTRAST = 25.0  # standard deviation of luma in either half
_SATURATION = 0.16  # below this the whole picture counts as desaturated

_SIDE = 15.0  # u of the left and right patches to compare, 22 px wide


class Light(NamedTuple):
    """`gain` of each channel, its factors at the `left` and `right` end of a sprite, and effects of hazy or grey
    pictures.

    A cloth colour c appears as contrast gain c + veil, after its saturation is multiplied by `saturation`.
    """

    gain: tuple[float, float, float]
    left: float
    right: float
    contrast: float
    veil: float
    saturation: float


def light(image: Image, seen: Camera) -> Light:
    """Estimate the light from the halves of the lower face, left and right of nose and mouth."""
    halves = [cv2.meanStdDev(_patch(image, *seen.see(side, 80.0), 11.0 * seen.scale)) for side in (-_SIDE, _SIDE)]
    (one, one_spread), (two, two_spread) = ([values.ravel().tolist() for values in half] for half in halves)
    red, green, blue = ((a + b) / 2 for a, b in zip(one, two, strict=True))
    luma = max(_luma(red, green, blue), 1.0)
    contrast = _clip((_luma(*one_spread) + _luma(*two_spread)) / 2 / _CONTRAST, 0.6, 1.0)
    most = max(red, green, blue, 1.0)
    saturation = _clip((most - min(red, green, blue)) / most / _SATURATION, 0.0, 1.0)
    # Skin varies more than light: only part of the measured difference is attributed to light.
    gain = _clip((luma / _LUMA) ** 0.75, 0.2, 1.1)
    red, green, blue = (
        gain * (1 - saturation + saturation * _clip((channel / luma / usual) ** 0.4, 0.85, 1.15))
        for channel, usual in zip((red, green, blue), _SKIN, strict=True)
    )
    left, right = max(_luma(*one), 1.0), max(_luma(*two), 1.0)
    slope = 0.85 * (HALF_WIDTH / _SIDE) * _clip((right - left) / (right + left), -0.17, 0.17)
    return Light((red, green, blue), 1 - slope, 1 + slope, contrast, (1 - contrast) * luma, saturation)


def _patch(image: Image, x: float, y: float, half: float) -> Image:
    """The square around a point, or the nearest one inside the image."""
    height, width = image.shape[:2]
    reach = max(1, round(half))
    column = int(min(max(x, 0.0), width - 1.0))
    row = int(min(max(y, 0.0), height - 1.0))
    return image[max(row - reach, 0) : row + reach + 1, max(column - reach, 0) : column + reach + 1]


def _luma(red: float, green: float, blue: float) -> float:
    return 0.299 * red + 0.587 * green + 0.114 * blue


def _clip(value: float, low: float, high: float) -> float:
    return low if value < low else high if value > high else value
