"""Two views, the face and its periocular region: cropped from the face, or stored alongside it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

import cv2
import numpy as np
from annotated_types import Ge, Gt

from kdface.augmentations.standard import Matrix, Standard
from kdface.errors import DataError, UserError, nearest
from kdface.faces import Image, Points, Preprocessing, RawSample, Sample, similarity, template_points

Region = Literal["strip", "left", "right"]
Size = tuple[Annotated[int, Ge(1)], Annotated[int, Ge(1)]]  # height, width in pixels

_EXTENT: dict[str, float] = {"strip": 2.5, "left": 1.1, "right": 1.1}


class Periocular:
    """Crop the periocular view from the face by its two eye landmarks.

    The crop is a rectangle parallel to the line through the eyes, so that the eyes are level regardless of head tilt.
    With d the distance of the two eye landmarks, it is `extent` d wide; its height follows from the aspect ratio of
    `size`. It is centred between the eyes for `strip`, and on one eye for `left` and `right` (of the image). CKD's
    crops are not documented; this geometry is ours, and a width of 2.5 d covers both eyes with brows and temples at
    CKD's 48x128.

    It is cut from the photograph if the sample includes one (`RawSample`), else from the face, which may have a lower
    resolution than the crop. Beyond the image, border pixels are replicated. Upscaling is bilinear; downscaling
    averages areas.

    Geometric changes of `standard` act on the face; the crop is cut at the original eye positions, as if landmarks were
    slightly off. Both are one warp of the source, so content from beyond the crop can enter it. Colour, grey and blur
    are identical in both views.

    The flip is drawn once, by `standard`, and mirrors both views after the crop. A strip then equals that of the
    mirrored face. A single eye remains the same eye, mirrored, at its place in the mirrored face; cropping the other
    eye instead would teach two eyes as one. Tests embed an image and its mirror image the same way.

    Landmarks are those of the sample, or the template's if it has none.

    Args:
        region: both eyes, or the eye on the left or right of the image.
        size: (height, width) of the periocular view in pixels.
        extent: width of the crop in eye distances; by default 2.5 for a strip, 1.1 for one eye.
        face_size: (height, width) to resize the face view to, with the same aspect ratio; by default not resized.
        standard: flip and further changes, identical for both views.

    Raises:
        UserError: `face_size` changes the aspect ratio of the faces.
        DataError: on a call, if the eyes of a sample coincide or are not finite.
    """

    views: ClassVar[tuple[str, ...]] = ("face", "periocular")

    def __init__(
        self,
        region: Region = "strip",
        size: Size = (48, 128),
        extent: Annotated[float, Gt(0)] | None = None,
        face_size: Size | None = None,
        standard: Standard | None = None,
    ) -> None:
        if region not in _EXTENT:
            raise UserError(
                f"region={region!r} is not a periocular region.",
                expected=", ".join(_EXTENT),
                nearest=nearest(region, _EXTENT),
            )
        self.region = region
        self.size = (size[0], size[1])
        self.extent = _EXTENT[region] if extent is None else extent
        if min(self.size) < 1 or not self.extent > 0:
            raise UserError(f"size={self.size}, extent={self.extent}: empty crop.", expected="positive numbers")
        self.face_size = None if face_size is None else (face_size[0], face_size[1])
        self.standard = standard

    def preprocessing(self, view: str, source: Preprocessing) -> Preprocessing:
        """For the face: the dataset's, at `face_size`. For the crop: its size, with region and extent as template."""
        if view == "periocular":
            return replace(source, template=f"periocular-{self.region}-{self.extent:g}", size=self.size)
        if view != "face":
            raise _unknown(view)
        return replace(source, size=self._face_size(source.size))

    def __call__(self, sample: Sample, rng: np.random.Generator) -> dict[str, Image]:
        """The views `face` and `periocular`, (H, W, 3) uint8 RGB, a pure function of the sample and the generator."""
        size = (sample.image.shape[0], sample.image.shape[1])
        points = template_points(size) if sample.landmarks is None else sample.landmarks
        place = self.place(points, sample.key)
        face = resized(sample.image, self._face_size(size))
        source, to_face = sample.image, np.eye(3)
        if isinstance(sample, RawSample):
            source = sample.raw
            try:
                to_face[:2] = similarity(sample.raw_landmarks, points)
            except ValueError as error:
                raise DataError(f"{sample.key}: {error}.", expected="five different points") from error

        def cut(moved: Matrix) -> Image:
            if face.shape[:2] != size:  # `moved` is in pixels of the resized face; pixel centres: (x + 0.5) f - 0.5
                f = face.shape[0] / size[0]
                resize = np.array([[f, 0, (f - 1) / 2], [0, f, (f - 1) / 2], [0, 0, 1]])
                moved = np.linalg.inv(resize) @ moved @ resize
            return crop(source, moved @ to_face, place, self.size)

        if self.standard is None:
            return {"face": face, "periocular": cut(np.eye(3))}
        face, periocular = self.standard.before_cut(face, cut, rng)
        return {"face": face, "periocular": periocular}

    def _face_size(self, given: tuple[int, int]) -> tuple[int, int]:
        if self.face_size is None:
            return given
        if given[0] * self.face_size[1] != given[1] * self.face_size[0]:
            raise UserError(
                f"face_size={self.face_size} would distort faces of {given} (height, width).",
                expected="the same aspect ratio: both sides scaled by one factor",
                fix="augmentation.face_size=null keeps the size of the faces",
            )
        return self.face_size

    def place(self, points: Points, key: str) -> Place:
        """Position of the crop for a face with landmarks `points`. Raises `DataError`, naming `key`."""
        left, right = points[:2].astype(np.float64)
        across = right - left
        distance = float(np.hypot(across[0], across[1]))
        if not math.isfinite(distance) or across[0] < 1e-3:
            raise DataError(
                f"{key}: its eyes are at {left.tolist()} and {right.tolist()}, so there is no eye region to crop.",
                expected="the left eye, as seen in the image, left of the right one",
            )
        centre = {"strip": (left + right) / 2, "left": left, "right": right}[self.region]
        along = across / distance
        return Place(float(centre[0]), float(centre[1]), (float(along[0]), float(along[1])), self.extent * distance)


@dataclass
class PairedSample(Sample):
    """A face with its periocular image, (h, w, 3) uint8 RGB of any size, as stored in a dataset."""

    periocular: Image | None = None


class StoredPeriocular:
    """The two views of a dataset that stores periocular images with its faces (`kdface.datasets.CKDFolders`).

    The stored crop is resized to `size` regardless of its aspect ratio: bilinearly if a side grows, by area if it
    shrinks (CKD's code: Pillow's bilinear filter, which widens its support when shrinking). Flip and further changes
    are drawn once for both views; geometric ones move each stored image by a share of its size, since its surroundings
    are unknown. CKD's code flips the two independently, so a quarter of its pairs are mirrored against each other.

    Args:
        size: (height, width) of the periocular view in pixels.
        standard: flip and further changes, identical for both views.

    Raises:
        UserError: on a call, if the dataset stores no periocular images.
    """

    views: ClassVar[tuple[str, ...]] = ("face", "periocular")

    def __init__(self, size: Size = (48, 128), standard: Standard | None = None) -> None:
        self.size = (size[0], size[1])
        self.standard = standard

    def preprocessing(self, view: str, source: Preprocessing) -> Preprocessing:
        """For the face: the dataset's. For the periocular view: `size`, with "periocular-" prefixed to the template."""
        if view == "periocular":
            return replace(source, template=f"periocular-{source.template}", size=self.size)
        if view != "face":
            raise _unknown(view)
        return source

    def __call__(self, sample: Sample, rng: np.random.Generator) -> dict[str, Image]:
        """The views `face` and `periocular`, (H, W, 3) uint8 RGB, a pure function of the sample and the generator."""
        if not isinstance(sample, PairedSample) or sample.periocular is None:
            raise UserError(
                f"{sample.key}: the dataset stores no periocular image for it.",
                fix="augmentation=periocular to crop it from the face, or dataset=ckd_folders dataset.root=FOLDER for "
                "stored ones",
            )
        views = {"face": sample.image, "periocular": resized(sample.periocular, self.size)}
        return self.standard.together(views, rng) if self.standard is not None else views


@dataclass(frozen=True)
class Place:
    """Position of a crop: its centre, the unit vector (x, y) along its rows, its width in pixels."""

    x: float
    y: float
    along: tuple[float, float]
    width: float

    def matrix(self, size: tuple[int, int]) -> Matrix:
        """The (2, 3) map from image pixels to those of a crop of (height, width)."""
        scale = size[1] / self.width
        cos, sin = scale * self.along[0], scale * self.along[1]
        x, y = (size[1] - 1) / 2, (size[0] - 1) / 2
        return np.array([[cos, sin, x - cos * self.x - sin * self.y], [-sin, cos, y + sin * self.x - cos * self.y]])


def resized(image: Image, size: tuple[int, int]) -> Image:
    """The image resized to (height, width): by area if a side shrinks, bilinearly if it grows."""
    height, width = size
    if image.shape[:2] == (height, width):
        return image
    smaller = (min(width, image.shape[1]), min(height, image.shape[0]))
    shrunk = cv2.resize(image, smaller, interpolation=cv2.INTER_AREA)  # unchanged if neither side shrinks
    return np.asarray(cv2.resize(shrunk, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def crop(image: Image, moved: Matrix, place: Place, size: tuple[int, int]) -> Image:
    """Warp the moved image to the crop in one step; when shrinking, at a multiple of its size, then averaged."""
    height, width = size
    magnified = math.sqrt(float(np.linalg.det(moved[:2, :2])))
    times = max(1, math.ceil(place.width / magnified / width - 1e-6))
    matrix = place.matrix((times * height, times * width))
    large = cv2.warpAffine(
        image, matrix @ moved, (times * width, times * height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return resized(np.asarray(large, dtype=np.uint8), size)


def _unknown(view: str) -> UserError:
    return UserError(
        f"the periocular augmentation has no view {view!r}.",
        expected="face or periocular",
        nearest=nearest(view, ("face", "periocular")),
    )
