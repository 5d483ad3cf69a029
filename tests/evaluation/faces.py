"""Sets of faces without pictures, and an embedder that knows every embedding beforehand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from kdface.evaluation import Embedder
from kdface.faces import FaceSet, Preprocessing, Sample


class Listed:
    """Images by (person, key), in the order given; people are numbered in the order of `people`."""

    labels: NDArray[np.int64]
    keys: Sequence[str]

    def __init__(
        self, images: Sequence[tuple[str, str]], people: Sequence[str] | None = None, template: str = "arcface"
    ) -> None:
        self.name = f"listed ({template})"
        self.preprocessing = Preprocessing(template, (8, 8))
        self.people: Sequence[str] = people or sorted({person for person, _ in images})
        self.keys = [key for _, key in images]
        self.labels = np.array([list(self.people).index(person) for person, _ in images], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> Sample:
        raise AssertionError("nobody looks at the pictures")


Known = tuple[FaceSet, Mapping[str, Sequence[float] | NDArray[np.float64]]]


class Given(Embedder):
    """Hands out the rows of (dataset, key -> embedding), and remembers what it was asked for."""

    def __init__(self, *known: Known, logits: Sequence[Known] = ()) -> None:
        super().__init__(lambda images, kind: images)
        self.rows = {id(dataset): rows for dataset, rows in known}
        self.told = {id(dataset): rows for dataset, rows in logits}
        self.asked: list[tuple[str, ...]] = []
        self.mirrored: list[bool] = []

    def __call__(self, dataset: FaceSet, keys: Sequence[str], mirror: bool = True) -> NDArray[np.float32]:
        self.asked.append(tuple(keys))
        self.mirrored.append(mirror)
        return np.array([self.rows[id(dataset)][key] for key in keys], dtype=np.float32)

    def logits(self, dataset: FaceSet, keys: Sequence[str]) -> NDArray[np.float32]:
        return np.array([self.told[id(dataset)][key] for key in keys], dtype=np.float32)


def noise(dataset: FaceSet, centre: int, seed: int, spread: float, size: int = 6) -> dict[str, NDArray[np.float64]]:
    """Embeddings around a direction for each name; the directions are drawn from `centre`, the rest from `seed`."""
    rng = np.random.default_rng([centre])
    centres = {name: rng.normal(size=size) for name in sorted(dataset.people)}
    rng = np.random.default_rng([centre, seed, 1])
    return {
        key: centres[dataset.people[int(label)]] + spread * rng.normal(size=size)
        for key, label in zip(dataset.keys, dataset.labels, strict=True)
    }
