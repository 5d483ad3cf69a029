"""A set of faces at a smaller size: a third of the pixels trains three times as fast."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import cv2
import numpy as np

from kdface.datasets.contract import read_sample
from kdface.datasets.derived import Derived
from kdface.datasets.images import Size
from kdface.errors import UserError
from kdface.faces import FaceSet, Image, Preprocessing, RawSample, Sample, template_points


class Resized(Derived):
    """Every image of a set, resized to `size`, with its landmarks. Shrinking averages areas.

    Args:
        dataset: the faces.
        size: (height, width) in pixels, with the images' aspect ratio.
        keep_raw: include the underlying image, or its photograph, in each sample, for augmentations that cut from the
            largest available image (periocular strips, misalignment).

    Raises:
        UserError: the aspect ratio differs.
    """

    ADDED_LATER: ClassVar[dict[str, Any]] = {"keep_raw": False}

    def __init__(self, dataset: FaceSet, size: Size, keep_raw: bool = False) -> None:
        height, width = dataset.preprocessing.size
        if size[0] * width != size[1] * height:
            raise UserError(
                f"{dataset.name} has images {height} high and {width} wide: size = {list(size)} would stretch them.",
                expected=f"a multiple of {height}:{width}",
            )
        super().__init__(dataset)
        self.preprocessing: Preprocessing = replace(dataset.preprocessing, size=(size[0], size[1]))
        self._factor = size[0] / height
        self._keep_raw = keep_raw

    @property
    def change(self) -> dict[str, object]:
        """The size that the images had, and the one they have."""
        return {"from": list(self.dataset.preprocessing.size), "to": list(self.preprocessing.size)}

    def __getitem__(self, index: int) -> Sample:
        sample = read_sample(self.dataset, index)
        image = resize(sample.image, self.preprocessing.size)
        # Pixel centres: cv2.resize moves x to (x + 0.5) f - 0.5.
        points = None if sample.landmarks is None else (sample.landmarks + 0.5) * self._factor - 0.5
        landmarks = None if points is None else points.astype(np.float32)
        if not self._keep_raw:
            return Sample(image, sample.label, sample.key, landmarks)
        raw, on_raw = sample.image, sample.landmarks
        if isinstance(sample, RawSample):
            raw, on_raw = sample.raw, sample.raw_landmarks
        if on_raw is None:
            on_raw = template_points((raw.shape[0], raw.shape[1]))
        return RawSample(image, sample.label, sample.key, landmarks, raw=raw, raw_landmarks=on_raw)


def resize(image: Image, size: tuple[int, int]) -> Image:
    """The image at (height, width) pixels; shrinking averages areas."""
    interpolation = cv2.INTER_AREA if size[0] < image.shape[0] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (size[1], size[0]), interpolation=interpolation), dtype=np.uint8)
