"""Arbitrary albumentations pipelines before and after another augmentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np

from kdface.augmentations.periocular import PairedSample
from kdface.augmentations.standard import seeded
from kdface.errors import UserError, nearest
from kdface.faces import Image, Points, Preprocessing, RawSample, Sample, as_seen, template_points

Node = dict[str, Any]  # a transform: its `_target_` and arguments
ALL = "all"
_TRIALS = 8  # seeds for testing a pipeline before training


class Piped:
    """Views of another augmentation, with albumentations transforms before and after it.

    `before` acts on the face, with its landmarks as keypoints, and thus on all views: masks are drawn on the moved
    face, and eye strips are cut at the moved eyes. (To disturb a strip use `standard.geometric`.) `after` acts on
    single views, with separate draws; under the key `all` on every view with shared draws.

    Transforms may come from albumentations and `kdface.augmentations.transforms`, except those that need other images.
    They draw from the sample's generator: the same seed, epoch and key give the same image. Images must stay
    (H, W, 3) uint8 with unchanged size.

    Args:
        views: the augmentation that creates the views.
        before: transforms of the face, in order: `[{_target_: albumentations.RandomGamma, p: 0.5}, ...]`.
        after: view -> transforms, or `all` -> transforms, applied last.

    Raises:
        UserError: unknown view or transform; from `preprocessing`, if a pipeline changes the size or type of images;
            on a call with `before`, if a sample has a second image (photograph, stored strip), which it would miss.
    """

    def __init__(
        self, views: Any, before: Sequence[Node] = (), after: Mapping[str, Sequence[Node]] = MappingProxyType({})
    ) -> None:
        from kdface.augmentations.albumentation import (
            build,
        )  # imported lazily: takes a second, and most runs do not need it

        self.part = views
        self.views: tuple[str, ...] = views.views
        known = (*self.views, ALL)
        for name in after:
            if name not in known:
                near = nearest(name, known)
                raise UserError(
                    f"augmentation.after.{name}: {type(views).__name__} has no such view.",
                    expected=f"one of {', '.join(known)}",
                    nearest=near,
                    fix=f"write augmentation.after.{near} in place of augmentation.after.{name}" if near else "",
                )
        self._before = build(before, "augmentation.before") if before else None
        self._after = {name: build(nodes, f"augmentation.after.{name}") for name, nodes in after.items() if nodes}

    def preprocessing(self, view: str, source: Preprocessing) -> Preprocessing:
        """That of the wrapped augmentation; also tests the pipelines on noise of its size."""
        made: Preprocessing = self.part.preprocessing(view, source)
        if self._before is not None:
            _try(self._before, source.size, "augmentation.before")
        for name in (view, ALL):
            if name in self._after:
                _try(self._after[name], made.size, f"augmentation.after.{name}")
        return made

    def __call__(self, sample: Sample, rng: np.random.Generator) -> dict[str, Image]:
        """The views, (H, W, 3) uint8 RGB, a pure function of the sample and the generator's state."""
        if self._before is not None:
            sample = self._changed(sample, int(rng.integers(2**32)))
        views: dict[str, Image] = self.part(sample, rng)
        own = {name: int(rng.integers(2**32)) for name in (*self.views, ALL) if name in self._after}
        for name in views:
            for pipeline in (name, ALL):
                if pipeline in own:
                    views[name] = _run(
                        self._after[pipeline], views[name], own[pipeline], f"augmentation.after.{pipeline}"
                    )
        return views

    def _changed(self, sample: Sample, seed: int) -> Sample:
        assert self._before is not None
        if isinstance(sample, RawSample | PairedSample):
            raise UserError(
                f"{sample.key}: augmentation.before would change the face, not the second image that comes with it.",
                expected="samples of one image",
                fix="dataset.keep_raw=false, or give the transform to augmentation.after"
                if isinstance(sample, RawSample)
                else "give the transform to augmentation.after",
            )
        points = template_points(sample.image.shape[:2]) if sample.landmarks is None else sample.landmarks
        image, moved = _run_with(self._before, sample.image, points, seed, "augmentation.before")
        return replace(sample, image=image, landmarks=moved)


def _run(pipeline: Any, image: Image, seed: int, where: str) -> Image:
    return _run_with(pipeline, image, template_points(image.shape[:2]), seed, where)[0]


def _run_with(pipeline: Any, image: Image, points: Points, seed: int, where: str) -> tuple[Image, Points]:
    made = seeded(pipeline, seed)(image=np.ascontiguousarray(image), keypoints=points)
    after, moved = made["image"], np.asarray(made["keypoints"], dtype=np.float32)
    if after.shape != image.shape or after.dtype != np.uint8:
        raise UserError(
            f"{where} makes {after.dtype} images of {after.shape} from uint8 ones of {image.shape}.",
            expected="uint8 of the same size: networks normalise their input themselves",
            fix="remove Normalize, ToFloat and the like; give crops the size of the image",
        )
    return np.ascontiguousarray(after), as_seen(moved)


def _try(pipeline: Any, size: tuple[int, int], where: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    for seed in range(_TRIALS):
        try:
            _run(pipeline, noise, seed, where)
        except UserError:
            raise
        except Exception as error:  # third-party transforms may raise anything
            raise UserError(f"{where} fails on an image of {size} pixels: {error}") from error
