"""kdface's augmentations as albumentations transforms.

    import albumentations as A
    from kdface.augmentations.transforms import SyntheticMask

    A.Compose([SyntheticMask(p=0.5), A.GaussNoise()],
              keypoint_params=A.KeypointParams("xy", remove_invisible=False))(image=image, keypoints=landmarks)

The keypoints are the five landmarks (left eye, right eye, nose, left and right mouth corner, as seen in the image);
without keypoints the image is assumed to be an aligned crop. Images are (H, W, 3) uint8 RGB. Transforms can be
serialised (`A.to_dict`) and replayed (`A.ReplayCompose`); a replay repeats the first image's drawing at the same place.
The implementation and arguments are those of the augmentations in `kdface.augmentations`.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any, Literal

import cv2
import numpy as np
from albumentations.core.type_definitions import Targets
from numpy.typing import NDArray

from kdface.augmentations import misalignment, occluders, periocular, synthetic_mask
from kdface.augmentations.albumentation import alb
from kdface.augmentations.masks.dyes import Dye
from kdface.augmentations.masks.occluder import Occluder
from kdface.augmentations.masks.outlines import Shape
from kdface.augmentations.periocular import Region
from kdface.errors import DataError
from kdface.faces import Image, Points, as_seen, template_points


def _landmarks(data: dict[str, Any], shape: tuple[int, ...]) -> Points:
    """Landmarks (5, 2) from keypoints in albumentations' format, (x, y, ...); the template's if there are none.

    Mirroring transforms move keypoints without reordering them: restore the order for the mirrored face.
    """
    found = data.get("keypoints")
    if found is None:
        return template_points((shape[0], shape[1]))
    if len(found) != 5:
        raise DataError(
            f"{len(found)} keypoints are not the landmarks of a face.",
            expected="five: left eye, right eye, nose, left and right mouth corner",
            fix="KeypointParams(remove_invisible=False), passed to Compose as keypoint_params, keeps them",
        )
    return as_seen(np.asarray(found, dtype=np.float32)[:, :2])


class _Occlusion(alb.DualTransform):  # type: ignore[misc]  # albumentations' classes have no types
    """An occluder drawn on the face."""

    _targets = (Targets.IMAGE, Targets.KEYPOINTS)
    _part: Occluder

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        landmarks = _landmarks(data, params["shape"]).tolist()
        return {"landmarks": landmarks, "seed": int(self.random_generator.integers(2**32))}

    def apply(self, img: Image, landmarks: list[list[float]], seed: int, **params: Any) -> Image:
        """The occluded image, a function of the parameters."""
        return self._part.cover(img, np.asarray(landmarks, dtype=np.float32), np.random.default_rng(seed))

    def apply_to_keypoints(self, keypoints: NDArray[np.float32], **params: Any) -> NDArray[np.float32]:
        """Landmarks are unchanged."""
        return keypoints


class SyntheticMask(_Occlusion):
    """A face mask, as in `kdface.augmentations.SyntheticMask`."""

    def __init__(
        self,
        shapes: tuple[Shape, ...] = synthetic_mask.SHAPES,
        color: Dye = "random",
        jitter: tuple[float, float] = (1.0, 3.0),
        official_offset: bool = False,
        p: float = 0.5,
    ) -> None:
        super().__init__(p=p)
        self._part = synthetic_mask.SyntheticMask(1.0, tuple(shapes), color, jitter, official_offset)
        self.shapes, self.color = tuple(shapes), color
        self.jitter, self.official_offset = jitter, official_offset


class Sunglasses(_Occlusion):
    """Sunglasses, as in `kdface.augmentations.Sunglasses`."""

    def __init__(self, jitter: tuple[float, float] = (1.0, 1.5), p: float = 0.5) -> None:
        super().__init__(p=p)
        self._part = occluders.Sunglasses(1.0, jitter)
        self.jitter = jitter


class Scarf(_Occlusion):
    """A scarf from the nose down, as in `kdface.augmentations.Scarf`."""

    def __init__(self, jitter: tuple[float, float] = (1.0, 3.0), p: float = 0.5) -> None:
        super().__init__(p=p)
        self._part = occluders.Scarf(1.0, jitter)
        self.jitter = jitter


class RandomPatch(_Occlusion):
    """An erased rectangle (Random Erasing), as in `kdface.augmentations.RandomPatch`."""

    def __init__(
        self,
        area: tuple[float, float] = (0.05, 0.3),
        aspect: float = 3.0,
        fill: Literal["noise", "color"] = "noise",
        p: float = 0.5,
    ) -> None:
        super().__init__(p=p)
        self._part = occluders.RandomPatch(1.0, area, aspect, fill)
        self.area, self.aspect, self.fill = area, aspect, fill


class _Warp(alb.DualTransform):  # type: ignore[misc]
    """A similarity transform of image and keypoints."""

    _targets = (Targets.IMAGE, Targets.KEYPOINTS)

    def apply_to_keypoints(
        self, keypoints: NDArray[np.float32], matrix: list[list[float]], **params: Any
    ) -> NDArray[np.float32]:
        """Keypoints (N, 5 or more: x, y, z, angle, scale, ...) moved, rotated and scaled with the image."""
        moved, warp = keypoints.astype(np.float64), np.asarray(matrix)
        moved[:, :2] = moved[:, :2] @ warp[:, :2].T + warp[:, 2]
        moved[:, 3] = (moved[:, 3] + math.atan2(warp[1, 0], warp[0, 0])) % (2 * math.pi)
        moved[:, 4] *= math.hypot(warp[0, 0], warp[1, 0])
        return moved.astype(np.float32)


class Misalignment(_Warp):
    """Alignment by noisy landmarks, as in the view `perturbed` of `kdface.augmentations.Misalignment`.

    `size` is (height, width) of the crop, by default that of the image; set it to align photographs.
    """

    def __init__(
        self,
        pixels: float = 3.0,
        unit: Literal["template", "source"] = "template",
        shift: float = 0.0,
        rotation: float = 0.0,
        scale: float = 0.0,
        border: Literal["black", "replicate"] = "black",
        size: tuple[int, int] | None = None,
        p: float = 1.0,
    ) -> None:
        super().__init__(p=p)
        self._part = misalignment.Misalignment(pixels, unit, shift, rotation, scale, border)
        self.pixels, self.unit, self.border = pixels, unit, border
        self.shift, self.rotation, self.scale = shift, rotation, scale
        self.size = None if size is None else (size[0], size[1])

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """The similarity transform of this image. Raises `DataError` if landmarks coincide."""
        size = self.size or tuple(params["shape"][:2])
        try:
            matrix = self._part.warp(_landmarks(data, params["shape"]), size, self.random_generator)
        except ValueError as error:
            raise DataError(f"{error}.", expected="five different points") from error
        return {"matrix": matrix.tolist(), "crop": list(size)}

    def apply(self, img: Image, matrix: list[list[float]], crop: list[int], **params: Any) -> Image:
        """The crop, (height, width, 3)."""
        size = (crop[1], crop[0])
        warped = cv2.warpAffine(img, np.asarray(matrix), size, flags=cv2.INTER_LINEAR, borderMode=self._part.border)
        return np.asarray(warped, dtype=np.uint8)


class Periocular(_Warp):
    """The periocular region, as in the view `periocular` of `kdface.augmentations.Periocular`.

    Geometric transforms after it act within the strip; after geometric transforms before it, the strip is cut at the
    moved landmarks.
    """

    def __init__(
        self,
        region: Region = "strip",
        size: tuple[int, int] = (48, 128),
        extent: float | None = None,
        p: float = 1.0,
    ) -> None:
        super().__init__(p=p)
        self._part = periocular.Periocular(region, size, extent)
        self.region, self.size, self.extent = region, (size[0], size[1]), extent

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Position of the crop on this image, from its landmarks."""
        place = self._part.place(_landmarks(data, params["shape"]), "keypoints")
        return {"matrix": place.matrix(self.size).tolist(), "place": asdict(place)}

    def apply(self, img: Image, place: dict[str, Any], **params: Any) -> Image:
        """The strip, (height, width, 3)."""
        return periocular.crop(img, np.eye(3), periocular.Place(**place), self.size)


__all__ = ["Misalignment", "Periocular", "RandomPatch", "Scarf", "Sunglasses", "SyntheticMask"]
