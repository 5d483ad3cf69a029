"""Faces of a few pixels and networks that can be computed by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kdface.backbones import Backbone
from kdface.faces import Image, Preprocessing, Sample
from kdface.teachers import Teacher

SIZE = (1, 2)
# Pixel values about 128, not scaled: the network sees whole numbers from -128 to 127.
WHOLE = Preprocessing(size=SIZE, mean=128.0, std=1.0)


class Faces:
    """A set of faces from an array (N, H, W, 3) and the person of each."""

    name: str = "stand_ins"
    preprocessing: Preprocessing
    people: Sequence[str]
    labels: NDArray[np.int64]
    keys: Sequence[str]

    def __init__(
        self,
        images: NDArray[np.uint8],
        who: Sequence[str],
        keys: Sequence[str] | None = None,
        preprocessing: Preprocessing | None = None,
    ) -> None:
        self.images = images
        self.people = sorted(set(who))
        self.labels = np.array([self.people.index(person) for person in who], dtype=np.int64)
        self.keys = [f"{name}/{row:03d}" for row, name in enumerate(who)] if keys is None else keys
        self.preprocessing = preprocessing or Preprocessing(size=(images.shape[1], images.shape[2]))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        image: Image = self.images[index]
        return Sample(image, int(self.labels[index]), self.keys[index])

    def taken(self, rows: Sequence[int]) -> Faces:
        """These rows in this order."""
        who = [self.people[int(self.labels[row])] for row in rows]
        return Faces(self.images[list(rows)], who, [self.keys[row] for row in rows], self.preprocessing)


def random_faces(people: int, images_each: int, size: tuple[int, int], seed: int = 0) -> Faces:
    images = np.random.default_rng(seed).integers(0, 256, (people * images_each, *size, 3), dtype=np.uint8)
    return Faces(images, [f"p{row // images_each}" for row in range(people * images_each)])


def faces_of(vectors: Sequence[Sequence[int]], who: Sequence[str]) -> Faces:
    """Images of 1x2 pixels whose embeddings by `flat_teacher` are these vectors of six whole numbers."""
    array = np.array(vectors)
    planes = array.reshape(len(array), 3, *SIZE)  # the network sees (3, H, W)
    return Faces((planes.transpose(0, 2, 3, 1) + 128).astype(np.uint8), who, preprocessing=WHOLE)


class Flat(nn.Module):
    """The embedding is the image."""

    embedding_size = 6

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)


def flat_teacher() -> Teacher:
    return Teacher(Flat(), WHOLE)


class Linear(nn.Module):
    """A random linear map of the image."""

    def __init__(self, size: tuple[int, int], embedding_size: int = 5, seed: int = 1) -> None:
        super().__init__()
        self.embedding_size = embedding_size
        draw = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(embedding_size, 3 * size[0] * size[1], generator=draw))

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1) @ self.weight.T


class Chain(Backbone):
    """Parts one after the other, each a stage of its name."""

    def __init__(self, image_size: tuple[int, int], **parts: nn.Module) -> None:
        super().__init__(6, image_size, 1, {name: (name,) for name in parts})
        for name, part in parts.items():
            self.add_module(name, part)


def cosine(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))
