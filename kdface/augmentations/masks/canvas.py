"""The grid on which sprites are drawn: points in template coordinates, supersampling the sprite."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.floating[Any]]  # (rows, columns); computed in float32

_SHIFT = 4  # fractional bits of OpenCV's drawing coordinates


@dataclass(frozen=True)
class Canvas:
    """The window u in [-half, half], y in [top, bottom], with `density` sprite pixels per template pixel."""

    density: float
    half: float
    top: float
    bottom: float

    @property
    def finer(self) -> int:
        """Supersampling factor: small sprites are drawn at twice their density and averaged; large ones have few
        edges."""
        return 2 if self.density < 2 else 1

    @property
    def step(self) -> float:
        """Point spacing in template pixels."""
        return 1.0 / (self.finer * self.density)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the sprite."""
        return round((self.bottom - self.top) * self.density), round(2 * self.half * self.density)

    def grid(self) -> tuple[Field, Field]:
        """u and y of every point. Sprite pixel i is at top + i / density, the centre of the points it averages."""
        rows, columns = (self.finer * n for n in self.shape)
        u = -self.half + (np.arange(columns) - (self.finer - 1) / 2) * self.step
        y = self.top + (np.arange(rows) - (self.finer - 1) / 2) * self.step
        across, down = np.meshgrid(u, y)
        return across.astype(np.float32), down.astype(np.float32)

    def fill(self, curve: NDArray[np.float64]) -> Field:
        """1 inside a closed curve, 0 outside, anti-aliased along its edge."""
        picture = np.zeros([self.finer * n for n in self.shape], np.uint8)
        cv2.fillPoly(picture, [self._points(curve)], 255, cv2.LINE_AA, _SHIFT)
        return picture.astype(np.float32) / 255

    def stroke(self, curve: NDArray[np.float64], width: float) -> Field:
        """1 on an open curve of the given width."""
        picture = np.zeros([self.finer * n for n in self.shape], np.uint8)
        thickness = max(1, round(width / self.step))
        cv2.polylines(picture, [self._points(curve)], False, 255, thickness, cv2.LINE_AA, _SHIFT)
        # Lines thinner than one point are drawn one point wide and fainter.
        return picture.astype(np.float32) / 255 * min(1.0, width / self.step)

    def blur(self, field: Field, sigma: float) -> Field:
        """Blur a field by a Gaussian of `sigma` canvas units."""
        return np.asarray(cv2.GaussianBlur(field, (0, 0), sigma / self.step), np.float32)

    def noise(self, rng: np.random.Generator, across: float, down: float) -> Field:
        """Smooth noise of mean 0 and standard deviation about 1 that varies over `across` and `down` pixels.

        Drawn on a separate lattice, so that it does not depend on the density.
        """
        rows = int((self.bottom - self.top) / down) + 3
        columns = int(2 * self.half / across) + 3
        lattice = rng.standard_normal((rows, columns)).astype(np.float32)
        u, y = self.grid()
        return np.asarray(
            cv2.remap(lattice, (u + self.half) / across + 1, (y - self.top) / down + 1, cv2.INTER_CUBIC), np.float32
        )

    def shrink(self, fields: Field, more: int = 0) -> Field:
        """Average points to sprite pixels (rows, columns, channels), `more` of them to the left of the window."""
        rows, columns = self.shape
        return np.asarray(cv2.resize(fields, (columns + more, rows), interpolation=cv2.INTER_AREA), np.float32)

    def _points(self, curve: NDArray[np.float64]) -> NDArray[np.int32]:
        offset = (self.finer - 1) / 2
        at = np.column_stack([(curve[:, 0] + self.half) / self.step, (curve[:, 1] - self.top) / self.step]) + offset
        return np.round(at * (1 << _SHIFT)).astype(np.int32)
