"""Robustness against adversarial noise: Babnik et al., "FaceQAN" (ICPR 2022)."""

from __future__ import annotations

from dataclasses import dataclass
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

_COPIES_AT_ONCE = 60  # images, times their copies, in one forward and backward pass


@dataclass(frozen=True)
class FaceQAN(Options):
    """Sensitivity of an embedding to adversarial noise. k l + 2 forward and k (l - 1) backward passes per image.

    With the image I in [0, 1], k copies start at I + U(-eps, eps) and take l - 1 steps
    I <- I + eps sign(d [1 - cos(f(I), f(I_t))] / d I_t), always clipped to [0, 1]. S are all k l cosines between the
    image and the iterates, s the cosine between the image and its mirror image:

        q = [(1 + mean S) / 2 * clip(1 - std S, 0, 1) * s]^p

    std divides by k l. The power keeps the sign of its base. The released code clips to [-1, 1], beyond the images'
    range.

    Attributes:
        epsilon: eps, of the initial noise and of each step, relative to the pixel range.
        iterations: l, cosines per copy.
        copies: k.
        exponent: p.
        seed: of the initial noise, which depends on it and the image's key.
    """

    needs_network: ClassVar[bool] = True
    epsilon: Annotated[float, Gt(0), Lt(1)] = 0.001
    iterations: Annotated[int, Ge(1)] = 5
    copies: Annotated[int, Ge(1)] = 10
    exponent: Annotated[int, Ge(1)] = 5
    seed: int = 0

    def __call__(self, teacher: Teacher, faces: FaceSet) -> NDArray[np.float64]:
        found = np.empty(len(faces))
        size = max(1, _COPIES_AT_ONCE // self.copies)
        for rows, images in batches(teacher, faces, "quality by FaceQAN", size):
            pixels = teacher.pixels(images)
            with torch.no_grad():
                embedding = wide(teacher.network(pixels))
                mirrored = wide(teacher.network(pixels.flip(3)))
            symmetry = cosine_similarity(embedding, mirrored)
            shape = (self.copies, *pixels.shape[1:])
            draws = [generator(self.seed, "faceqan", faces.keys[row]).random(shape, np.float32) for row in rows]
            noise = 2.0 * torch.from_numpy(np.stack(draws)).to(pixels) - 1.0
            cosines = self._attack(teacher, pixels, noise, embedding)
            spread = (1.0 - cosines.std(1, correction=0)).clamp(0.0, 1.0)
            base = (1.0 + cosines.mean(1)) / 2.0 * spread * symmetry
            found[rows] = (base.sign() * base.abs() ** self.exponent).cpu().numpy()
        return found

    def _attack(self, teacher: Teacher, pixels: Tensor, noise: Tensor, embedding: Tensor) -> Tensor:
        """Cosines (n, k l) of the iterates starting at pixels (n, 3, H, W) plus noise (n, k, 3, H, W) in units of eps.

        Iterates in normalised space, pixels / std - mean / std, with the step scaled accordingly.
        """
        mean, std = teacher.preprocessing.mean, teacher.preprocessing.std
        low, high, step = -mean / std, (255.0 - mean) / std, 255.0 * self.epsilon / std
        attacked = (pixels[:, None] + step * noise).clamp(low, high).flatten(0, 1)
        target = embedding.repeat_interleave(self.copies, 0)
        cosines = []
        for last in [False] * (self.iterations - 1) + [True]:
            with torch.set_grad_enabled(not last):
                attacked = attacked.detach().requires_grad_(not last)
                cosine = cosine_similarity(wide(teacher.network(attacked)), target)
            cosines.append(cosine.detach().reshape(-1, self.copies))
            if not last:
                (slope,) = torch.autograd.grad(cosine.sum(), attacked)
                attacked = (attacked.detach() - step * slope.sign()).clamp(low, high)
        return torch.cat(cosines, 1)
