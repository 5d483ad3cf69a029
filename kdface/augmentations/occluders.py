"""Other occluders, with the views and interface of `SyntheticMask`."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge, Gt, Le

from kdface.augmentations.masks import dyes
from kdface.augmentations.masks.accessories import GLASSES, SCARVES, glasses_sprite, scarf_sprite
from kdface.augmentations.masks.camera import camera
from kdface.augmentations.masks.light import light
from kdface.augmentations.masks.occluder import Occluder, Probability
from kdface.augmentations.masks.paint import Color, density, paint
from kdface.augmentations.masks.sprite import SLANT_STEP
from kdface.augmentations.standard import Standard
from kdface.errors import UserError
from kdface.faces import Image, Points

_LENSES: tuple[Color, ...] = ((70, 68, 72), (58, 70, 66), (104, 76, 52), (72, 82, 112), (150, 104, 60), (96, 100, 110))
_FRAMES: tuple[Color, ...] = (
    (26, 25, 27),
    (34, 33, 36),
    (82, 52, 34),
    (176, 146, 84),
    (150, 152, 156),
    (226, 224, 220),
)


class Sunglasses(Occluder):
    """Views `clean` and `masked`: the unmodified face, and the face wearing sunglasses with some probability.

    Args:
        probability: of sunglasses in the view `masked`.
        jitter: maximum shift, (horizontal, vertical), in pixels of a 112 px crop.
        standard: flips and other changes, drawn once for both views, after the glasses.
    """

    def __init__(
        self,
        probability: Probability = 0.5,
        jitter: tuple[Annotated[float, Ge(0)], Annotated[float, Ge(0)]] = (1.0, 1.5),
        standard: Standard | None = None,
    ) -> None:
        super().__init__(probability, standard)
        self.jitter = (jitter[0], jitter[1])

    def cover(self, image: Image, landmarks: Points, rng: np.random.Generator) -> Image:
        """A copy of the image with random sunglasses, with random lens and frame colours."""
        draw = rng.random(12).tolist()
        seen = camera(landmarks)
        slant = round(abs(seen.slant) / SLANT_STEP)
        sprite = glasses_sprite(int(draw[0] * GLASSES), slant, density(seen.scale))
        lens = dyes.pick(_LENSES, draw[1], draw[2], (draw[3], draw[4]))
        frame = dyes.pick(_FRAMES, draw[5], draw[6], (draw[7], draw[8]))
        place = seen.shift((2 * draw[9] - 1) * self.jitter[0], (2 * draw[10] - 1) * self.jitter[1])
        covered = image.copy()
        paint(covered, sprite, place, seen.slant < 0, light(image, seen), lens, frame)
        return covered


class Scarf(Occluder):
    """Views `clean` and `masked`: the unmodified face, and the face covered by a scarf with some probability.

    Args:
        probability: of a scarf in the view `masked`.
        jitter: maximum shift, (horizontal, vertical), in pixels of a 112 px crop.
        standard: flips and other changes, drawn once for both views, after the scarf.
    """

    def __init__(
        self,
        probability: Probability = 0.5,
        jitter: tuple[Annotated[float, Ge(0)], Annotated[float, Ge(0)]] = (1.0, 3.0),
        standard: Standard | None = None,
    ) -> None:
        super().__init__(probability, standard)
        self.jitter = (jitter[0], jitter[1])

    def cover(self, image: Image, landmarks: Points, rng: np.random.Generator) -> Image:
        """A copy of the image with a scarf in two random colours over mouth and nose."""
        draw = rng.random(12).tolist()
        seen = camera(landmarks)
        slant = round(abs(seen.slant) / SLANT_STEP)
        sprite = scarf_sprite(int(draw[0] * SCARVES), slant, density(seen.scale))
        mirrored = seen.slant < 0 if slant else draw[1] < 0.5
        first = dyes.pick(dyes.CLOTH, draw[2], draw[3], (draw[4], draw[5]))
        second = dyes.pick(dyes.CLOTH, draw[6], draw[7], (draw[8], draw[9]))
        place = seen.shift((2 * draw[10] - 1) * self.jitter[0], (2 * draw[11] - 1) * self.jitter[1])
        covered = image.copy()
        paint(covered, sprite, place, mirrored, light(image, seen), first, second)
        return covered


class RandomPatch(Occluder):
    """Views `clean` and `masked`: the unmodified image, and the image with a random rectangle erased with some
    probability.

    Random Erasing (Zhong et al., AAAI 2020, arXiv:1708.04896): a rectangle with random area and random (log-uniform)
    aspect ratio, at a random position where it fits. Ignores landmarks.

    Args:
        probability: of a patch in the view `masked`.
        area: minimum and maximum share of the image.
        aspect: maximum ratio of the longer to the shorter side.
        fill: `noise`, a random colour for each pixel as in the paper, or `color`, one for the whole patch.
        standard: flips and other changes, drawn once for both views, after the patch.

    Raises:
        UserError: `area` is not a valid range.
    """

    def __init__(
        self,
        probability: Probability = 0.5,
        area: tuple[Annotated[float, Gt(0), Le(1)], Annotated[float, Gt(0), Le(1)]] = (0.05, 0.3),
        aspect: Annotated[float, Ge(1)] = 3.0,
        fill: Literal["noise", "color"] = "noise",
        standard: Standard | None = None,
    ) -> None:
        super().__init__(probability, standard)
        if not 0 < area[0] <= area[1] <= 1:
            raise UserError(
                f"area={tuple(area)} is not a range of shares.", expected="0 < min <= max <= 1, as in [0.05, 0.3]"
            )
        self.area = (area[0], area[1])
        self.aspect = aspect
        self.fill: Literal["noise", "color"] = fill

    def cover(self, image: Image, landmarks: Points, rng: np.random.Generator) -> Image:
        """A copy of the image with one erased rectangle of random area, aspect ratio and position."""
        del landmarks
        share, ratio, down, across = rng.random(4).tolist()
        height, width = image.shape[:2]
        size = (self.area[0] + share * (self.area[1] - self.area[0])) * height * width
        stretch = self.aspect ** (2 * ratio - 1)
        # A patch longer than the image is cut to the image's side and widened, keeping its area.
        rows = min(height, max(math.sqrt(size * stretch), size / width))
        columns = size / rows
        rows, columns = max(1, round(rows)), max(1, round(columns))
        top, left = int(down * (height - rows + 1)), int(across * (width - columns + 1))
        covered = image.copy()
        patch = covered[top : top + rows, left : left + columns]
        patch[...] = rng.integers(0, 256, patch.shape if self.fill == "noise" else 3, dtype=np.uint8)
        return covered
