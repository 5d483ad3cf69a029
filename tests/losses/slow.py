"""The miners once more as plain loops over images, and the batch whose triplets the FaceNet sheet lists."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from kdface.losses import Triplets

Triple = tuple[int, int, int]


def toy() -> tuple[Tensor, Tensor]:
    """Six unit vectors in the plane, three of each of two people: float64 embeddings, labels."""
    angles = [math.radians(degrees) for degrees in (0, 11, 43, 20, 34, 70)]
    points = [[math.cos(angle), math.sin(angle)] for angle in angles]
    return torch.tensor(points, dtype=torch.float64), torch.tensor([0, 0, 0, 1, 1, 1])


def noise(images: int, people: int, seed: int = 0, size: int = 5) -> tuple[Tensor, Tensor]:
    """Unit vectors of noise around people's directions, float64, and labels, in no order; people differ in number."""
    draws = torch.Generator().manual_seed(seed)
    labels = torch.randint(people, (images,), generator=draws)
    centres = torch.randn(people, size, generator=draws, dtype=torch.float64)
    points = centres[labels] + 0.7 * torch.randn(images, size, generator=draws, dtype=torch.float64)
    return torch.nn.functional.normalize(points), labels


def listed(triplets: Triplets) -> list[Triple]:
    """Triplets as tuples of numbers."""
    rows = zip(*(triplet.tolist() for triplet in triplets), strict=True)
    return [(int(anchor), int(positive), int(negative)) for anchor, positive, negative in rows]


def every_triplet(labels: Tensor) -> Iterator[Triple]:
    names = labels.tolist()
    rows = range(len(names))
    for a in rows:
        for p in rows:
            for n in rows:
                if a != p and names[a] == names[p] and names[a] != names[n]:
                    yield a, p, n


def kind(distances: Tensor, triple: Triple, margin: float) -> str:
    a, p, n = triple
    if distances[a, n] <= distances[a, p]:
        return "hard"
    return "semi-hard" if distances[a, n] < distances[a, p] + margin else "easy"


def of_kind(distances: Tensor, labels: Tensor, margin: float, wanted: str) -> list[Triple]:
    return [triplet for triplet in every_triplet(labels) if kind(distances, triplet, margin) == wanted]


def first_of_each_pair(triples: list[Triple], key: Callable[[Triple], float]) -> list[Triple]:
    """Of each pair's triplets the one with the smallest key, the first of equals."""
    best: dict[tuple[int, int], Triple] = {}
    for triplet in triples:
        if triplet[:2] not in best or key(triplet) < key(best[triplet[:2]]):
            best[triplet[:2]] = triplet
    return list(best.values())
