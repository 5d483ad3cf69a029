"""A supersampled drawing plane over the crop."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from kdface.datasets.toy_renderer.curves import Curve

Ink = NDArray[np.float64] | float  # a colour (3,) on a picture, a number on a mask; 0..255, saturated by OpenCV

_SHIFT = 4  # OpenCV takes coordinates in 1/16 pixel


class Canvas:
    """Pixels to draw on. Coordinates are pixels of the crop (pixel centres are whole numbers); widths and radii are
    pixels of a crop 112 high.

    Args:
        pixels: (h, w, 3) for a picture, (h, w) for a mask.
        factor: canvas pixels per crop pixel.
        unit: crop pixels per pixel of the 112 crop.
        origin: canvas pixel, (x, y), that `pixels[0, 0]` stands for.
    """

    def __init__(self, pixels: NDArray[np.uint8], factor: int, unit: float, origin: tuple[int, int] = (0, 0)) -> None:
        self.pixels, self.factor, self.unit, self.origin = pixels, factor, unit, origin
        self._scale = float(factor << _SHIFT)
        middle = 0.5 * factor - 0.5
        # half a step more, because the cast to integers below cuts off
        self._offset = np.array([(middle - start) * (1 << _SHIFT) + 0.5 for start in origin])

    def _fixed(self, points: Curve) -> NDArray[np.int32]:
        return np.asarray(points * self._scale + self._offset).astype(np.int32)

    def _length(self, length: float) -> float:
        return length * self.unit * self.factor

    def fill(self, points: Curve, ink: Ink) -> None:
        """Fill a polygon; points are in units of the face."""
        cv2.fillPoly(self.pixels, [self._fixed(points)], _scalar(ink), cv2.LINE_AA, _SHIFT)

    def stroke(self, lines: Sequence[Curve] | Curve, ink: Ink, width: float, closed: bool = False) -> None:
        """Draw lines: a list of (n, 2), or an array (lines, n, 2), which is faster."""
        fixed = list(self._fixed(lines) if isinstance(lines, np.ndarray) else map(self._fixed, lines))
        thickness = max(1, round(self._length(width)))
        cv2.polylines(self.pixels, fixed, closed, _scalar(ink), thickness, cv2.LINE_AA, _SHIFT)

    def disc(self, centre: Curve, radius: float, ink: Ink) -> None:
        """Fill a disc; centre and radius are in units of the face."""
        x, y = self._fixed(centre).tolist()
        fixed_radius = max(1, round(self._length(radius) * (1 << _SHIFT)))
        cv2.circle(self.pixels, (x, y), fixed_radius, _scalar(ink), -1, cv2.LINE_AA, _SHIFT)

    def arc(self, centre: Curve, radius: float, start: float, sweep: float, ink: Ink) -> None:
        """A thin arc from `start` over `sweep` degrees."""
        x, y = self._fixed(centre).tolist()
        r = max(1, round(self._length(radius) * (1 << _SHIFT)))
        cv2.ellipse(self.pixels, (x, y), (r, r), 0, start, start + sweep, _scalar(ink), 1, cv2.LINE_AA, _SHIFT)

    def cutout(self, region: Curve) -> tuple[Canvas, Canvas]:
        """A copy of the part under the polygon `region`, to draw on, and the polygon's mask. See `paste`."""
        fixed = self._fixed(region) >> _SHIFT
        height, width = self.pixels.shape[:2]
        x0, y0 = np.clip(fixed.min(0) - 1, 0, [width, height]).tolist()
        x1, y1 = np.clip(fixed.max(0) + 3, 0, [width, height]).tolist()
        part = self.pixels[y0:y1, x0:x1].copy()
        origin = (self.origin[0] + x0, self.origin[1] + y0)
        mask = Canvas(np.zeros(part.shape[:2], np.uint8), self.factor, self.unit, origin)
        if part.size:
            mask.fill(region, 255.0)
        return Canvas(part, self.factor, self.unit, origin), mask

    def paste(self, layer: Canvas, mask: Canvas, opacity: float = 1.0) -> None:
        """Lay a cutout back where its mask is set."""
        height, width = mask.pixels.shape
        x, y = layer.origin[0] - self.origin[0], layer.origin[1] - self.origin[1]
        window = self.pixels[y : y + height, x : x + width]
        weight = mask.pixels[:, :, None] * np.float32(opacity / 255)
        window[...] = np.rint(window + (layer.pixels.astype(np.float32) - window) * weight)


def _scalar(ink: Ink) -> Sequence[float]:
    return [ink] if isinstance(ink, float) else ink.tolist()
