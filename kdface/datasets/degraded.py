"""Test images of lower quality at the same size: fewer pixels, or JPEG compression (FaceNet, CVPR 2015, table 4)."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

import cv2
import numpy as np
from annotated_types import Ge, Le

from kdface.datasets.contract import read_sample
from kdface.datasets.derived import Derived
from kdface.errors import UserError
from kdface.faces import FaceSet, Sample


class JPEG(Derived):
    """Every image of a set, JPEG-compressed and decoded.

    Args:
        dataset: the faces.
        quality: of libjpeg, 1 (worst) to 100 (still lossy).
    """

    alters: ClassVar[str] = "compressed"

    def __init__(self, dataset: FaceSet, quality: Annotated[int, Ge(1), Le(100)]) -> None:
        super().__init__(dataset)
        self.preprocessing = dataset.preprocessing
        self.quality = quality

    @property
    def name(self) -> str:
        """Such as `lfw:jpeg20`."""
        return f"{self.dataset.name}:jpeg{self.quality}"

    @property
    def change(self) -> dict[str, object]:
        """The quality."""
        return {"quality": self.quality}

    def __getitem__(self, index: int) -> Sample:
        sample = read_sample(self.dataset, index)
        bgr = cv2.cvtColor(sample.image, cv2.COLOR_RGB2BGR)
        done, written = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, self.quality])
        read = cv2.imdecode(written, cv2.IMREAD_COLOR) if done else None
        if read is None:
            raise RuntimeError(f"{self.name}: OpenCV could not write {sample.key} as JPEG and read it again")
        image = np.asarray(cv2.cvtColor(read, cv2.COLOR_BGR2RGB), dtype=np.uint8)
        return Sample(image, sample.label, sample.key, sample.landmarks)


class Pixels(Derived):
    """Every image of a set, downscaled to about this number of pixels and upscaled to its size again.

    Both sides shrink by sqrt(pixels / (height * width)). Downscaling averages areas, upscaling is bilinear.

    Args:
        dataset: the faces.
        pixels: of the small image, at most those of the original.

    Raises:
        UserError: the images have fewer pixels.
    """

    alters: ClassVar[str] = "shrunk"

    def __init__(self, dataset: FaceSet, pixels: Annotated[int, Ge(1)]) -> None:
        height, width = dataset.preprocessing.size
        if pixels > height * width:
            raise UserError(
                f"pixels = {pixels}, but the images of {dataset.name} have {height * width} ({height}x{width}).",
                expected=f"at most {height * width}",
            )
        super().__init__(dataset)
        self.preprocessing = dataset.preprocessing
        self.pixels = pixels
        factor = math.sqrt(pixels / (height * width))
        self._small = (max(1, round(width * factor)), max(1, round(height * factor)))

    @property
    def name(self) -> str:
        """Such as `lfw:14px`."""
        return f"{self.dataset.name}:{self.pixels}px"

    @property
    def change(self) -> dict[str, object]:
        """The number of pixels."""
        return {"pixels": self.pixels}

    def __getitem__(self, index: int) -> Sample:
        sample = read_sample(self.dataset, index)
        height, width = self.preprocessing.size
        small = cv2.resize(sample.image, self._small, interpolation=cv2.INTER_AREA)
        image = np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
        return Sample(image, sample.label, sample.key, sample.landmarks)
