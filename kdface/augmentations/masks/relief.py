"""The surface of a mask, and its shading by light from the front and above."""

from __future__ import annotations

import numpy as np

from kdface.augmentations.masks.canvas import Field

# How far a mask protrudes from the plane of the eyes along the middle of the face, and its width, at height y.
_AT = (45.0, 60.0, 66.0, 73.0, 82.0, 92.0, 102.0, 110.0, 117.0, 126.0)
_OUT = (3.0, 7.0, 11.0, 16.0, 13.5, 10.0, 9.0, 7.0, -1.0, -14.0)
_WIDTH = (7.0, 7.0, 9.0, 13.0, 18.0, 22.0, 24.0, 26.0, 28.0, 30.0)

_UP, _FRONT = 0.42, 0.9075  # the direction of the light, of length 1
_AMBIENT = 0.32


def surface(u: Field, y: Field) -> Field:
    """Depth z(u, y) towards the viewer, in pixels of the template: a head with a mask tented over nose and chin."""
    head = -34.0 * np.abs(u / 46.0) ** 2.2
    out, width = (np.interp(y[:, 0], _AT, profile)[:, None].astype(np.float32) for profile in (_OUT, _WIDTH))
    ridge = np.where(out > 0, out * np.exp(-((u / width) ** 2)), out)
    return np.asarray(head + ridge, np.float32)


def shade(depth: Field, step: float) -> Field:
    """Lambert shading of a surface whose points lie `step` pixels apart; 1 where it faces the viewer."""
    down, across = np.gradient(depth, step)
    facing = (_FRONT + _UP * down) / np.sqrt(1 + across**2 + down**2)
    return np.asarray(_AMBIENT + (1 - _AMBIENT) * np.maximum(facing, 0) / _FRONT, np.float32)
