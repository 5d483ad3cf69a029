"""Two views: the face as aligned, and as aligned by perturbed landmarks."""

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
    """Views `aligned`, the unmodified image, and `perturbed`, aligned by noisy landmarks (AI-KD, Babnik 2024).

    Adds independent noise to each coordinate of the five landmarks k, k' = k + U[-p, p), and realigns the image by k'
    (least-squares similarity transform to the template). To first order this rotates the crop by p / sqrt(3 S) rad,
    scales it by the same fraction (standard deviations; S = 2702 px^2 is the template's sum of squared distances from
    its centre) and shifts it by p / sqrt(15) px along each axis.

    A random shift, rotation and scale can be added. All are combined into one warp: of the photograph if the sample
    includes it (`RawSample`), which has pixels beyond the crop, else of the aligned crop.

    Args:
        pixels: p.
        unit: unit of p. `template`: pixels of a 112 px crop, equally hard for small and large faces. `source`: pixels
            of the warped image, as published; on a photograph whose face is f times as large as the template the crop
            moves 1 / f as much.
        shift: maximum shift along each axis, in pixels of a 112 px crop.
        rotation: maximum rotation about the centre of the five template points, in degrees.
        scale: maximum relative change of scale about the same point.
        border: fill beyond the warped image.
        standard: flip and other changes shared by both views.

    Raises:
        DataError: on a call, if landmarks coincide or are not finite.
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
        """Unchanged: both views are crops like the dataset's."""
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
        """Draw a (2, 3) warp from an image with landmarks `points` (5, 2) to a crop of (height, width)."""
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
