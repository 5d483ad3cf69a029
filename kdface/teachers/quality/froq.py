"""Robustness against mirror, noise and occlusion: the labels behind "FROQ" (Babnik et al.)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, ClassVar

import numpy as np
import torch
from annotated_types import Ge, Gt, Lt
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cosine_similarity

from kdface.faces import FaceSet
from kdface.precision import wide
from kdface.randomness import generator
from kdface.teachers.frozen import Teacher
from kdface.teachers.quality.source import Options, batches


@dataclass(frozen=True)
class FROQ(Options):
    """Robustness of an embedding to three small changes; 2 + masks + grid^2 forward passes per image (76).

    With the image x in [-1, 1] and c(y) = cos(f(x), f(y)),

        q = (c(mirror x) + mean over masks n of c((1 - a) x + a n) + mean over squares of c(x, square black)) / 3

    The masks are N(0, 1), drawn once for all images. The squares tile the image, grid by grid: 14 pixels wide at
    112x112. Follows the released code (`baselineFIQA`).

    Attributes:
        noise: a, the proportion of noise.
        masks: number of noise masks.
        grid: squares along each side.
        seed: of the masks.
    """

    needs_network: ClassVar[bool] = True
    noise: Annotated[float, Gt(0), Lt(1)] = 0.001
    masks: Annotated[int, Ge(1)] = 10
    grid: Annotated[int, Ge(1)] = 8
    seed: int = 0

    def __call__(self, teacher: Teacher, faces: FaceSet) -> NDArray[np.float64]:
        mean, std = teacher.preprocessing.mean, teacher.preprocessing.std
        height, width = teacher.preprocessing.size
        drawn = generator(self.seed, "froq").standard_normal((self.masks, 3, height, width), np.float32)
        noise = (127.5 * (torch.from_numpy(drawn) + 1.0) - mean) / std  # [-1, 1] as the network sees it
        found = np.empty(len(faces))
        with torch.no_grad():
            for rows, images in batches(teacher, faces, "quality by FROQ"):
                pixels = teacher.pixels(images)
                embedding = wide(teacher.network(pixels))
                noise = noise.to(pixels)

                def compared(changed: Tensor, embedding: Tensor = embedding) -> Tensor:
                    return cosine_similarity(wide(teacher.network(changed)), embedding)

                noisy = [compared((1.0 - self.noise) * pixels + self.noise * draw) for draw in noise]
                covered = [compared(_blackened(pixels, square, -mean / std)) for square in self._squares(height, width)]
                parts = [compared(pixels.flip(3)), torch.stack(noisy).mean(0), torch.stack(covered).mean(0)]
                found[rows] = (torch.stack(parts).mean(0)).cpu().numpy()
        return found

    def _squares(self, height: int, width: int) -> list[tuple[slice, slice]]:
        """(rows, columns) of the squares; together they cover the image once."""
        tops, lefts = ([side * i // self.grid for i in range(self.grid + 1)] for side in (height, width))
        down = [slice(a, b) for a, b in pairwise(tops)]
        across = [slice(a, b) for a, b in pairwise(lefts)]
        return [(rows, columns) for rows in down for columns in across]


def _blackened(pixels: Tensor, square: tuple[slice, slice], black: float) -> Tensor:
    changed = pixels.clone()
    changed[:, :, square[0], square[1]] = black
    return changed
