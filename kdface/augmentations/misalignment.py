"""Two views: the face as it was aligned, and as landmarks that are a little off would have aligned it."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import cv2
import numpy as np
from annotated_types import Ge, Le, Lt
from numpy.typing import NDArray

from kdface.augmentations.standard import Standard
from kdface.errors import DataError
from kdface.faces import Image, Points, Preprocessing, RawSample, Sample, similarity, template_points

_BORDERS = {"black": cv2.BORDER_CONSTANT, "replicate": cv2.BORDER_REPLICATE}


class Misalignment:
    """Views `aligned`, the sample's image untouched, and `perturbed`, aligned by wrong landmarks (AI-KD, Babnik 2024).

    Each coordinate of the five landmarks k gets independent noise, k' = k + U[-p, p), and the image is aligned again
    by k': the least-squares similarity transform to the template. To first order the crop is then turned by
    p / sqrt(3 S) rad and resized by the same share (standard deviations; S = 2702 px^2 is the template's sum of
    squared distances from its centre) and moved by p / sqrt(15) px along each axis.

    A shift, rotation and change of size can be added. All of it is one warp: of the photograph where the sample
    brings it (`RawSample`), which has pixels beyond the crop, and of the aligned crop otherwise.

    Args:
        pixels: p.
        unit: what p counts. `template`: pixels of a 112 px crop, as hard for small faces as for large ones.
            `source`: pixels of the image that is warped, as published; on a photograph whose face is f times as large
            as the template the crop moves 1 / f as much.
        shift: largest shift along each axis, pixels of a 112 px crop.
        rotation: largest rotation about the middle of the five template points, degrees.
        scale: largest relative change of size about the same point.
        border: what lies beyond the image that is warped.
        standard: flip and other changes that both views share.

    Raises:
        DataError: on a call, landmarks that coincide or are not finite.
    """

    views: ClassVar[tuple[str, ...]] = ("aligned", "perturbed")

    def __init__(
        self,
        pixels: Annotated[float, Ge(0)] = 3.0,
        unit: Literal["template", "source"] = "template",
        shift: Annotated[float, Ge(0)] = 0.0,
        rotation: Annotated[float, Ge(0), Le(180)] = 0.0,
        scale: Annotated[float, Ge(0), Lt(1)] = 0.0,
        border: Literal["black", "replicate"] = "black",
        standard: Standard | None = None,
    ) -> None:
        self.pixels = pixels
        self.unit = unit
        self.shift = shift
        self.rotation = rotation
        self.scale = scale
        self.border = _BORDERS[border]
        self.standard = standard

    def preprocessing(self, view: str, source: Preprocessing) -> Preprocessing:
        """Both views are crops like the dataset's."""
        del view
        return source

    def __call__(self, sample: Sample, rng: np.random.Generator) -> dict[str, Image]:
        """`aligned` and `perturbed`, (H, W, 3) uint8 RGB: a pure function of the sample and the generator's state."""
        height, width = sample.image.shape[:2]
        source, points = sample.image, sample.landmarks
        if isinstance(sample, RawSample):
            source, points = sample.raw, sample.raw_landmarks
        if points is None:
            points = template_points((height, width))
        try:
            matrix = self.warp(points, (height, width), rng)
        except ValueError as error:
            raise DataError(f"{sample.key}: {error}.", expected="five different points") from error
        perturbed = cv2.warpAffine(source, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=self.border)
        views = {"aligned": sample.image, "perturbed": np.asarray(perturbed, dtype=np.uint8)}
        return self.standard.together(views, rng) if self.standard is not None else views

    def warp(self, points: Points, size: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float64]:
        """Draw a warp: (2, 3), from an image with its landmarks at `points` (5, 2) to a crop of (height, width)."""
        template = template_points(size)
        per_pixel = size[0] / 112.0  # of a 112 px crop, in pixels of this one
        reach = self.pixels
        if self.unit == "template":
            reach *= per_pixel / float(np.linalg.norm(similarity(points, template)[:, 0]))
        moved = points.astype(np.float64) + rng.uniform(-reach, reach, (5, 2))
        matrix = similarity(moved.astype(np.float32), template)
        shift = rng.uniform(-self.shift, self.shift, 2) * per_pixel
        angle = np.deg2rad(rng.uniform(-self.rotation, self.rotation))
        factor = 1 + rng.uniform(-self.scale, self.scale)
        turn = factor * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        centre = template.mean(axis=0, dtype=np.float64)
        matrix[:, 2] -= centre
        matrix = turn @ matrix
        matrix[:, 2] += centre + shift
        return matrix
