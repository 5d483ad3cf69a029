"""Faces of nobody: generated people for demonstrations, tests and first experiments without data."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Le
from numpy.typing import NDArray

from kdface import faces, randomness
from kdface.datasets import toy_renderer
from kdface.datasets.cache import drawn_once
from kdface.datasets.toy_renderer import Person, draw_person, draw_shot, render
from kdface.errors import UserError
from kdface.faces import Image, Points, Preprocessing, Sample
from kdface.randomness import generator

_SPLIT_PEOPLE = 1_000_000  # people 0.. are for training, people 1000000.. for tests
_LARGEST_CACHE = 2 << 30  # bytes
_SMALLEST = 16  # pixels; smaller faces show nothing


@lru_cache(maxsize=4096)
def _person(seed: int, number: int) -> Person:
    return draw_person(generator(seed, "toy_faces", number, "person"))


def toy_face(seed: int, person: int, index: int, size: tuple[int, int] = (112, 112)) -> tuple[Image, Points]:
    """Picture `index` of generated person `person`: a pure function of its arguments.

    Returns the aligned crop, (H, W, 3) uint8 RGB, and its five exact landmarks (5, 2) in pixels of the crop.
    """
    rng = generator(seed, "toy_faces", person, index)
    invented = _person(seed, person)
    return render(invented, draw_shot(rng, invented), size, rng)


class ToyFaces:
    """Generated faces, aligned to the ArcFace template by their exact landmarks.

    A person has continuous traits: shape of head, eyes, brows, nose, mouth and hair, colours, beard, moles, freckles,
    lines. A picture adds nuisance factors: pose, expression, light, camera, background, glasses. People of the two
    splits are disjoint. Keys are "train/person_0007/003"; test people are numbered from 1000000.

    A face takes milliseconds to draw. The first access draws the whole set on all cores and stores it in a file in the
    cache folder (`kdface.datasets.cache`), whose name depends on the arguments and the renderer; afterwards the set is
    read from there and shared by all processes. Sets over 2 GiB are drawn face by face on access.

    Args:
        people: number of people.
        images_per_person: pictures of each.
        split: training or test people.
        size: (height, width) of the crops in pixels.
        seed: of the people and their pictures.

    Raises:
        UserError: an argument is out of range.
    """

    name: str
    preprocessing: Preprocessing
    people: Sequence[str]
    labels: NDArray[np.int64]
    keys: Sequence[str]

    def __init__(
        self,
        people: Annotated[int, Ge(1), Le(_SPLIT_PEOPLE)] = 100,
        images_per_person: Annotated[int, Ge(1)] = 24,
        split: Literal["train", "test"] = "train",
        size: tuple[Annotated[int, Ge(_SMALLEST)], Annotated[int, Ge(_SMALLEST)]] = (112, 112),
        seed: int = 0,
    ) -> None:
        if not 1 <= people <= _SPLIT_PEOPLE:
            raise UserError(f"people={people}: out of range.", expected=f"1 to {_SPLIT_PEOPLE}")
        if images_per_person < 1:
            raise UserError(f"images_per_person={images_per_person}: no images.", expected="at least 1")
        if split not in ("train", "test"):
            raise UserError(f"split={split!r} is not a part of the generated faces.", expected="train or test")
        if min(size) < _SMALLEST:
            raise UserError(
                f"size={tuple(size)}: too small for a face.", expected=f"at least {_SMALLEST} pixels per side"
            )
        self.name = "toy_faces"
        self.terms = "none: the faces are generated and belong to nobody"
        self.preprocessing = Preprocessing(size=(size[0], size[1]))
        self._arguments = (people, images_per_person, split, self.preprocessing.size, seed)
        self._seed = seed
        self._first = 0 if split == "train" else _SPLIT_PEOPLE
        self._per_person = images_per_person
        self.people = [f"person_{self._first + label:04d}" for label in range(people)]
        self.labels = np.repeat(np.arange(people, dtype=np.int64), images_per_person)
        self.keys = [f"{split}/{person}/{index:03d}" for person in self.people for index in range(images_per_person)]
        self._slots: NDArray[Any] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        # Do not pickle images: they can be rendered again.
        return type(self), self._arguments

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> Sample:
        label = int(self.labels[index])
        if self._slots is None and len(self) * self._slot.itemsize <= _LARGEST_CACHE:
            about = ("toy_faces", *self._arguments)
            code = [toy_renderer, faces, randomness, sys.modules[__name__]]
            self._slots = drawn_once(about, len(self), self._slot, self._draw, code)
        row = self._slots[index] if self._slots is not None else self._draw(int(index) % len(self))
        return Sample(row["image"].copy(), label, self.keys[index], row["landmarks"].copy())

    @property
    def _slot(self) -> np.dtype[Any]:
        return np.dtype([("landmarks", np.float32, (5, 2)), ("image", np.uint8, (*self.preprocessing.size, 3))])

    def _draw(self, index: int) -> NDArray[Any]:
        label, number = divmod(index, self._per_person)
        row = np.zeros((), dtype=self._slot)
        row["image"], row["landmarks"] = toy_face(self._seed, self._first + label, number, self.preprocessing.size)
        return row
