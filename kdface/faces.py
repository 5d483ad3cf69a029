"""Face images: templates, preprocessing, samples, and five-point alignment."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import cv2
import numpy as np
from numpy.typing import NDArray

from kdface.errors import UserError

Image = NDArray[np.uint8]  # (height, width, 3), RGB
Points = NDArray[np.float32]  # (5, 2), (x, y) in pixels: left eye, right eye, nose, left and right mouth corner

# The ArcFace five-point template at 112x112 (InsightFace); left and right as seen in the image.
ARCFACE_112 = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]],
    dtype=np.float32,
)


@dataclass(frozen=True)
class Preprocessing:
    """How a network's input is prepared. Stored with datasets, teachers and checkpoints; a mismatch is an error.

    Attributes:
        template: name of the five-point template the crops are aligned to.
        size: (height, width) in pixels.
        color: channel order the network was trained on.
        mean, std: the network sees (pixel - mean) / std, pixels in 0..255.
    """

    template: str = "arcface"
    size: tuple[int, int] = (112, 112)
    color: Literal["rgb", "bgr"] = "rgb"
    mean: float = 127.5
    std: float = 127.5

    def to_dict(self) -> dict[str, Any]:
        """As stored in checkpoints and cards."""
        return {**asdict(self), "size": list(self.size)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Preprocessing:
        """The inverse of `to_dict`."""
        return cls(**{**values, "size": (int(values["size"][0]), int(values["size"][1]))})

    def require_equal(self, other: Preprocessing, mine: str, theirs: str) -> None:
        """Raise `UserError` naming both sides if two preprocessings differ."""
        a, b = self.to_dict(), other.to_dict()
        differ = [key for key in a if a[key] != b[key]]
        if differ:
            said = "; ".join(f"{key}: {a[key]} for {mine}, {b[key]} for {theirs}" for key in differ)
            raise UserError(
                f"{mine} and {theirs} do not see the same kind of image ({said}).",
                fix=f"use the same {', '.join(differ)} for both, or a network trained for these crops",
            )


@dataclass
class Sample:
    """One face: `image` (H, W, 3) uint8 RGB, `label` an index into the set's people, `key` unique in the set."""

    image: Image
    label: int
    key: str
    landmarks: Points | None = None


@dataclass(kw_only=True)
class RawSample(Sample):
    """A sample that includes its photograph: `raw` (H, W, 3) uint8 RGB, `raw_landmarks` in its pixels."""

    raw: Image
    raw_landmarks: Points


@runtime_checkable
class FaceSet(Protocol):
    """An indexable set of faces; the interface of all readers.

    `people[labels[i]]` is the name of the person on image i; `keys[i]` names the image. Indexing raises
    `kdface.errors.DataError`, naming file and record, if the image is unusable.
    """

    @property
    def name(self) -> str:
        """Its name in records and reports."""

    @property
    def preprocessing(self) -> Preprocessing:
        """Size, template and colour order of its images."""

    @property
    def people(self) -> Sequence[str]:
        """Names by label."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """(N,) int64: each image's person."""

    @property
    def keys(self) -> Sequence[str]:
        """Unique image names, such as `Name/Name_0001.jpg`."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


def template_points(size: tuple[int, int]) -> Points:
    """The ArcFace template for an image of (height, width) pixels.

    Square sizes scale the 112x112 template; for other widths it is shifted to stay centred (112x96 gives the older
    template, x - 8), as in InsightFace.
    """
    height, width = size
    scale = height / 112.0
    points = ARCFACE_112 * scale
    points[:, 0] += (width - height) / 2.0
    return points.astype(np.float32)


def as_seen(points: Points) -> Points:
    """Landmarks (5, 2) with left and right swapped if the face is mirrored, so that left is as seen in the image."""
    across, down = points[1] - points[0], points[3:5].mean(axis=0) - points[:2].mean(axis=0)
    return points[[1, 0, 2, 4, 3]] if across[0] * down[1] - across[1] * down[0] < 0 else points


def similarity(source: Points, target: Points) -> NDArray[np.float64]:
    """The least-squares similarity transform (rotation, isotropic scale, shift) that maps `source` onto `target`.

    Closed form of Umeyama (1991) in two dimensions, without reflection. Returns a (2, 3) matrix for `cv2.warpAffine`.
    Raises `ValueError` if the points coincide or are not finite.
    """
    src, dst = source.astype(np.float64), target.astype(np.float64)
    if not all(map(math.isfinite, [*src.ravel().tolist(), *dst.ravel().tolist()])):
        raise ValueError("landmarks are not finite")
    total = np.add.reduce  # as `sum` and `mean`, without their wrappers, which took half the time of this function
    src_mean, dst_mean = total(src, 0) / len(src), total(dst, 0) / len(dst)
    a, b = src - src_mean, dst - dst_mean
    spread = float(total(a * a, None))
    if spread < 1e-6:
        raise ValueError("landmarks coincide")
    cos = float(total(a * b, None)) / spread
    sin = float(total(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0])) / spread
    matrix = np.array([[cos, -sin, 0.0], [sin, cos, 0.0]])
    matrix[:, 2] = dst_mean - matrix[:, :2] @ src_mean
    return matrix


def align(image: Image, landmarks: Points, size: tuple[int, int] = (112, 112)) -> Image:
    """Warp a raw image so that its five landmarks match the template (bilinear, black border)."""
    return warped(image, similarity(landmarks, template_points(size)), size)


def warped(image: Image, matrix: NDArray[np.float64], size: tuple[int, int]) -> Image:
    """The (height, width) crop, with `matrix` (2, 3) mapping image to crop pixels (bilinear, black border)."""
    found = cv2.warpAffine(image, matrix, (size[1], size[0]), flags=cv2.INTER_LINEAR, borderValue=0)
    return np.asarray(found, dtype=np.uint8)
