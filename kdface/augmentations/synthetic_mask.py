"""Synthetic face masks, drawn procedurally and placed by five landmarks alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from annotated_types import Ge, MinLen

from kdface.augmentations.masks import dyes
from kdface.augmentations.masks.camera import camera
from kdface.augmentations.masks.dyes import Dye
from kdface.augmentations.masks.light import light
from kdface.augmentations.masks.occluder import Occluder, Probability
from kdface.augmentations.masks.outlines import Shape
from kdface.augmentations.masks.paint import Color, density, paint
from kdface.augmentations.masks.sprite import SLANT_STEP, mask_sprite
from kdface.augmentations.masks.texture import Texture
from kdface.augmentations.standard import Standard
from kdface.errors import UserError, nearest
from kdface.faces import Image, Points, Sample

SHAPES: tuple[Shape, ...] = ("surgical", "n95", "cloth", "tall", "low")

# The cloths of each shape, weighted by repetition, and the dyes of its first colour.
_CLOTHS: dict[Shape, tuple[Texture, ...]] = {
    "surgical": ("plain", "plain", "plain", "weave", "weave", "dots"),
    "n95": ("plain", "plain", "weave"),
    "cloth": ("plain", "weave", "weave", "stripes", "checks", "dots", "blotches"),
    "tall": ("plain", "plain", "weave", "stripes"),
    "low": ("plain", "plain", "weave", "blotches"),
}
_DYES: dict[Shape, tuple[Color, ...]] = {
    "surgical": dyes.DISPOSABLE,
    "n95": dyes.RESPIRATOR,
    "cloth": dyes.CLOTH,
    "tall": dyes.RESPIRATOR + dyes.CLOTH,
    "low": dyes.DISPOSABLE,
}
_COPIES = 2  # drawings of each shape and cloth, with different folds and creases
_OFFICIAL_OFFSET = -8.0


def draw_mask(
    image: Image,
    landmarks: Points,
    rng: np.random.Generator,
    *,
    shapes: Sequence[Shape] = SHAPES,
    color: Dye = "random",
    jitter: tuple[float, float] = (1.0, 3.0),
    official_offset: bool = False,
) -> Image:
    """Return a copy of an image with a mask drawn on the face at `landmarks`.

    The mask is fitted by an affine camera (least squares on the five landmarks), so that it follows the size, tilt and
    turn of the face; its shading follows the light on the cheeks; its edge is anti-aliased.

    Args:
        image: (H, W, 3) uint8 RGB, aligned or raw, of any size; not modified.
        landmarks: (5, 2), (x, y) in pixels of the image.
        rng: draws shape, cloth, colours, folds and position; the same state gives the same mask.
        shapes: shapes to choose from, uniformly.
        color: the dye, or `random`: one common for masks of the shape.
        jitter: maximum (uniform) shift, (horizontal, vertical) in pixels of a 112 px template.
        official_offset: shift it by 8 px of 112 to the left, as in MaskInv's published code, which uses the landmarks
            of a 96 px wide crop. For comparison only.

    Raises:
        DataError: the landmarks are not those of a face.
    """
    draw = rng.random(16).tolist()
    seen = camera(landmarks)
    lit = light(image, seen)
    shape = shapes[int(draw[0] * len(shapes))]
    cloths = _CLOTHS[shape]
    cloth = cloths[int(draw[1] * len(cloths))]
    slant = round(abs(seen.slant) / SLANT_STEP)
    sprite = mask_sprite(shape, cloth, int(draw[2] * _COPIES), slant, density(seen.scale))
    mirrored = seen.slant < 0 if slant else draw[3] < 0.5
    first = dyes.pick(_DYES[shape] if color == "random" else (dyes.NAMED[color],), draw[4], draw[5], (draw[6], draw[7]))
    # The second colour is for pattern and straps; straps of plain masks are white or in the mask's colour.
    if cloth not in ("plain", "weave"):
        second = dyes.pick(dyes.CLOTH, draw[8], draw[9], (draw[10], draw[11]))
    else:
        second = first if draw[8] < 0.35 or max(first) < 100 else dyes.NAMED["white"]
    across = (2 * draw[12] - 1) * jitter[0] + (_OFFICIAL_OFFSET if official_offset else 0.0)
    place = seen.shift(across, (2 * draw[13] - 1) * jitter[1])
    masked = image.copy()
    paint(masked, sprite, place, mirrored, lit, first, second)
    return masked


class SyntheticMask(Occluder):
    """Views `clean` and `masked`: the unmodified face, and the face with a synthetic mask with some probability.

    The augmentation of MaskInv (Huber et al., FG 2021, arXiv:2112.05646): a teacher that sees unmasked faces guides a
    student that sees the same faces masked. The mask drawings are our own; see `draw_mask`.

    Args:
        probability: of a mask in the view `masked`; 0.5 in the paper.
        shapes: shapes to choose from: surgical, n95, cloth, tall, low.
        color: dye of all masks, or `random`.
        jitter: maximum shift, (horizontal, vertical), in pixels of a 112 px crop.
        official_offset: shift masks by 8 px to the left, as in the published code. For comparison only.
        alias_clean: mask the view `clean` too, reproducing a bug in the published code, whose teacher sees the mask.
            For comparison only.
        standard: flips and other changes, drawn once for both views, after the mask.

    Raises:
        UserError: an unknown shape or dye, or no shapes.
    """

    def __init__(
        self,
        probability: Probability = 0.5,
        shapes: Annotated[tuple[Shape, ...], MinLen(1)] = SHAPES,
        color: Dye = "random",
        jitter: tuple[Annotated[float, Ge(0)], Annotated[float, Ge(0)]] = (1.0, 3.0),
        official_offset: bool = False,
        alias_clean: bool = False,
        standard: Standard | None = None,
    ) -> None:
        super().__init__(probability, standard)
        for shape in shapes:
            if shape not in SHAPES:
                raise UserError(
                    f"shapes: no mask is called {shape!r}.", expected=", ".join(SHAPES), nearest=nearest(shape, SHAPES)
                )
        if not shapes:
            raise UserError("shapes is empty: there is no mask to draw.", expected=", ".join(SHAPES))
        if color != "random" and color not in dyes.NAMED:
            known = ("random", *dyes.NAMED)
            raise UserError(
                f"color={color!r} is not a mask dye.", expected=", ".join(known), nearest=nearest(color, known)
            )
        self.shapes = tuple(shapes)
        self.color: Dye = color
        self.jitter = (jitter[0], jitter[1])
        self.official_offset = official_offset
        self.alias_clean = alias_clean

    def __call__(self, sample: Sample, rng: np.random.Generator) -> dict[str, Image]:
        """Both views, (H, W, 3) uint8 RGB, a pure function of the sample and the generator's state."""
        views = super().__call__(sample, rng)
        return {**views, "clean": views["masked"]} if self.alias_clean else views

    def cover(self, image: Image, landmarks: Points, rng: np.random.Generator) -> Image:
        """A copy of the image with a mask fitted to the five landmarks."""
        return draw_mask(
            image,
            landmarks,
            rng,
            shapes=self.shapes,
            color=self.color,
            jitter=self.jitter,
            official_offset=self.official_offset,
        )
