"""Flip, geometric and photometric changes, of a face or identically of all its views."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Annotated, Any, ClassVar

import cv2
import numpy as np
from annotated_types import Ge, Le
from numpy.typing import NDArray

from kdface.faces import Image, Preprocessing, Sample

Matrix = NDArray[np.float64]  # (3, 3), of an affine map of (x, y, 1)
Probability = Annotated[float, Ge(0), Le(1)]


class Standard:
    """Flip, then a small similarity transform, then colour, grey and blur, each with its own probability.

    The geometric and photometric parts use albumentations 2.0.8 (MIT), seeded from the given generator.

    Args:
        flip: probability of a horizontal flip.
        geometric: probability of a similarity transform of at most `rotation` degrees, `shift` pixels of a 112 px
            crop and `scale` relative size.
        photometric: probability of changed brightness, contrast and saturation.
        grayscale: probability of a grey image.
        blur: probability of Gaussian blur or lost resolution.
    """

    views: ClassVar[tuple[str, ...]] = ("image",)

    def __init__(
        self,
        flip: Probability = 0.5,
        geometric: Probability = 0.0,
        rotation: Annotated[float, Ge(0), Le(180)] = 8.0,
        shift: Annotated[float, Ge(0)] = 5.0,
        scale: Annotated[float, Ge(0), Le(0.9)] = 0.12,
        photometric: Probability = 0.0,
        grayscale: Probability = 0.0,
        blur: Probability = 0.0,
    ) -> None:
        self.flip = flip
        self._compose: Any = None
        self._in_place: Any = None
        if max(geometric, photometric, grayscale, blur) > 0:
            self._compose = _compose(geometric, rotation, shift, scale, photometric, grayscale, blur)
            # The same draws, but without geometric effect.
            self._in_place = _compose(geometric, 0.0, 0.0, 0.0, photometric, grayscale, blur)

    def preprocessing(self, view: str, source: Preprocessing) -> Preprocessing:
        """Unchanged."""
        del view
        return source

    def __call__(self, sample: Sample, rng: np.random.Generator) -> dict[str, Image]:
        """The view `image`: (H, W, 3) uint8 RGB, a pure function of the sample and the generator's state."""
        return self.together({"image": sample.image}, rng)

    def together(self, views: dict[str, Image], rng: np.random.Generator) -> dict[str, Image]:
        """Change all views of a face identically, with one draw of the flip and everything else.

        Sizes may differ; shifts are then relative to each view's size. For a view cut from another one use
        `before_cut`.
        """
        mirrored = rng.random() < self.flip
        if mirrored:
            views = {name: mirror_image(image) for name, image in views.items()}
        if self._compose is not None:
            seed = int(rng.integers(2**32))
            views = {name: self._altered(image, seed) for name, image in views.items()}
        return {name: np.ascontiguousarray(image) for name, image in views.items()}

    def before_cut(self, face: Image, cut: Callable[[Matrix], Image], rng: np.random.Generator) -> tuple[Image, Image]:
        """A face and a part of it, with one draw; the part is cut at its original position from the moved face.

        Args:
            face: (H, W, 3) uint8 RGB.
            cut: returns the part, uint8 RGB of any size, of the face with pixels moved from (x, y, 1) to `moved` @ it.
            rng: advanced exactly as by `together`.
        """
        mirrored = rng.random() < self.flip
        face = mirror_image(face) if mirrored else face
        moved, seed = np.eye(3), 0
        if self._compose is not None:
            seed = int(rng.integers(2**32))
            height, width = face.shape[:2]
            before = np.array([[0, 0], [width - 1, 0], [0, height - 1]], dtype=np.float32)
            changed = seeded(self._compose, seed)(image=np.ascontiguousarray(face), keypoints=before)
            face, (origin, right, down) = changed["image"], changed["keypoints"].astype(np.float64)
            moved[:2] = np.column_stack([(right - origin) / (width - 1), (down - origin) / (height - 1), origin])
            if mirrored:
                mirror = np.array([[-1.0, 0, width - 1], [0, 1, 0], [0, 0, 1]])
                moved = mirror @ moved @ mirror
        part = cut(moved)
        part = mirror_image(part) if mirrored else part
        if self._in_place is not None:
            part = seeded(self._in_place, seed)(image=np.ascontiguousarray(part))["image"]
        return np.ascontiguousarray(face), np.ascontiguousarray(part)

    def _altered(self, image: Image, seed: int) -> Image:
        altered: Image = seeded(self._compose, seed)(image=np.ascontiguousarray(image))["image"]
        return altered


def mirror_image(image: Image) -> Image:
    """`image[:, ::-1]` by OpenCV, which takes a twentieth of NumPy's time."""
    return np.asarray(cv2.flip(image, 1), dtype=np.uint8)


def seeded(pipeline: Any, seed: int) -> Any:
    """Seed a pipeline's next draws.

    Its transforms share one generator: `set_random_seed` would give each the same numbers, so that e.g. blurred images
    would always be rotated and recoloured too.
    """
    pipeline.set_random_state(np.random.default_rng(seed), random.Random(seed))
    return pipeline


def _compose(
    geometric: float, rotation: float, shift: float, scale: float, photometric: float, grayscale: float, blur: float
) -> Any:
    from kdface.augmentations.albumentation import alb, compose  # imported lazily: takes a second

    move = shift / 112.0
    return compose(
        [
            alb.Affine(
                scale=(1 - scale, 1 + scale),
                translate_percent={"x": (-move, move), "y": (-move, move)},
                rotate=(-rotation, rotation),
                keep_ratio=True,
                p=geometric,
            ),
            alb.ColorJitter(
                brightness=(0.7, 1.3), contrast=(0.75, 1.3), saturation=(0.2, 1.5), hue=(0, 0), p=photometric
            ),
            alb.ToGray(p=grayscale),
            alb.OneOf(
                [
                    alb.GaussianBlur(blur_limit=0, sigma_limit=(0.4, 1.6)),
                    alb.Downscale(scale_range=(0.25, 0.8)),
                ],
                p=blur,
            ),
        ]
    )
