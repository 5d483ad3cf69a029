"""Batches of several images of each of several people (P x K), as losses on pairs and triplets need them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kdface.datasets.loading import Order
from kdface.errors import UserError
from kdface.randomness import generator


def people_by_images(labels: NDArray[np.int64], people: int, images: int, seed: int) -> Order:
    """Batches of `images` images of each of `people` people, drawn from (seed, epoch) alone.

    Within an epoch people follow each other in a shuffled circle, and so do each person's images, so both come up
    evenly. A person's images lie next to each other in the batch. No image is twice in one batch: a person with fewer
    than `images` gives all of them, and the slots left over go to further people, the last of whom may be cut short.
    Somebody with a single image in a batch serves as a negative only.

    An epoch has as many steps as whole batches fit into the images. Every person is visited equally often whatever the
    number of their images, so an epoch need not show every image.

    Args:
        labels: (N,) the person of each image.
        people: P.
        images: K, images of each person.
        seed: of the run.

    Returns:
        A function epoch -> (steps, P * K) indices into `labels`.

    Raises:
        UserError: there are fewer than two people, nobody has two images, or the images do not fill one batch.
    """
    names, counts = np.unique(labels, return_counts=True)
    size, available = people * images, int(np.minimum(counts, images).sum())
    if len(names) < 2 or counts.max() < 2:
        raise UserError(
            f"{len(labels)} images of {len(names)} people make no pairs to train on.",
            expected="two people or more, and one of them with two images or more",
        )
    if available < size:
        raise UserError(
            f"a batch of {people} people with {images} images each needs {size} images; {len(names)} people "
            f"with at most {images} images each offer {available}.",
            mend=f"fewer people per batch: at most {max(2, available // images)} with {images} images each",
        )
    own = np.split(np.argsort(labels, kind="stable"), np.cumsum(counts)[:-1])
    steps = len(labels) // size

    def order(epoch: int) -> NDArray[np.int64]:
        rng = generator(seed, "people", epoch)
        circle = rng.permutation(len(own))
        shuffled: dict[int, NDArray[np.int64]] = {}
        shown = np.zeros(len(own), dtype=np.int64)
        rows = np.empty((steps, size), dtype=np.int64)
        place = 0
        for row in rows:
            filled = 0
            while filled < size:
                person = int(circle[place % len(circle)])
                place += 1
                if person not in shuffled:
                    shuffled[person] = rng.permutation(own[person])
                mine = shuffled[person]
                count = min(images, len(mine), size - filled)
                row[filled : filled + count] = mine[(shown[person] + np.arange(count)) % len(mine)]
                shown[person] += count
                filled += count
        return rows

    return order
