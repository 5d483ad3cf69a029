"""Similarity distribution distance: Ou et al., "SDD-FIQA" (CVPR 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Ge
from numpy.typing import NDArray

from kdface.errors import DataError
from kdface.faces import FaceSet
from kdface.progress import track
from kdface.randomness import generator
from kdface.teachers.frozen import Teacher
from kdface.teachers.quality.mates import require_mates, rows_of_people
from kdface.teachers.quality.source import Options, unit_embeddings


@dataclass(frozen=True)
class SDDFIQA(Options):
    """The distance between an image's cosines to its own person and to other people. One forward pass per image.

    For each image, m cosines a to images of the same person and n cosines b to images of others are drawn without
    replacement, m and n being K, or fewer if there are not enough. Their Wasserstein-1 distance is WD = integral over u
    in [0, 1] of |A(u) - B(u)|, with the quantile functions A and B of the two: mean |a_(r) - b_(r)| over the sorted
    cosines if m = n. Each repeat is drawn independently and scaled to [0, 100] over the whole set; q is the mean of the
    repeats.

    Attributes:
        pairs: K.
        repeats: number of draws to average.
        signed: give WD the sign of mean(a) - mean(b). The paper's is unsigned, so that an image less similar to its own
            person than to others scores high.
        seed: of the draws, which depend on it and the image's key.

    Raises:
        DataError: a person has only one image, or there is only one person.
    """

    needs_mates: ClassVar[bool] = True  # a second image of each person

    pairs: Annotated[int, Ge(1)] = 24
    repeats: Annotated[int, Ge(1)] = 12
    signed: bool = False
    seed: int = 0

    def __call__(self, teacher: Teacher, faces: FaceSet) -> NDArray[np.float64]:
        people = rows_of_people(faces)
        require_mates(people, faces, "SDDFIQA", others=True)
        unit = unit_embeddings(teacher, faces)
        order = np.concatenate(people)  # a person's rows are contiguous, so those of others are two slices
        distance = np.empty((len(unit), self.repeats))
        first = 0
        for rows in track(people, "quality by SDD-FIQA", total=len(people)):
            own = len(rows)
            width, a, b = _steps(min(self.pairs, own - 1), min(self.pairs, len(order) - own))
            for place, row in enumerate(rows):
                mates, strangers = self._draw(faces.keys[row], place, first, own, len(order))
                mated, other = (
                    np.sort(unit[order[drawn]] @ unit[row], axis=1).astype(np.float64) for drawn in (mates, strangers)
                )
                distance[row] = np.abs(mated[:, a] - other[:, b]) @ width
                if self.signed:
                    distance[row] *= np.sign(mated.mean(1) - other.mean(1))
            first += own
        low, high = distance.min(0), distance.max(0)
        if not (high > low).all():
            raise DataError(f"{faces.name}: all images have the same SDD-FIQA distance, {low[0]:.6g}.")
        return np.asarray((100.0 * (distance - low) / (high - low)).mean(1))

    def _draw(
        self, key: str, place: int, first: int, own: int, total: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Indices (repeats, m) of mates and (repeats, n) of strangers in the order of people, for image `place` of the
        person whose `own` images start at `first`."""
        rng = generator(self.seed, "sddfiqa", key)
        m, n = min(self.pairs, own - 1), min(self.pairs, total - own)
        mates = np.stack([rng.choice(own - 1, m, replace=False) for _ in range(self.repeats)])
        strangers = np.stack([rng.choice(total - own, n, replace=False) for _ in range(self.repeats)])
        return first + mates + (mates >= place), strangers + own * (strangers >= first)


def _steps(m: int, n: int) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Steps on which the quantile functions of m and of n values are both constant: their widths, and the indices of
    the sorted m and sorted n values there."""
    edges = np.union1d(np.arange(m + 1) * n, np.arange(n + 1) * m)  # integers, in units of 1 / (m n)
    return np.diff(edges) / (m * n), edges[:-1] // n, edges[:-1] // m
