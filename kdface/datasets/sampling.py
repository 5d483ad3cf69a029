"""Batches of several images of each of several people (P x K), as losses on pairs and triplets need them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kdface.datasets.loading import Order
from kdface.errors import UserError
from kdface.randomness import generator


def people_by_images(labels: NDArray[np.int64], people: int, images: int, seed: int, parts: int = 1) -> Order:
    """Batches of `images` images of each of `people` people, drawn from (seed, epoch) alone.

    Within an epoch people follow each other in a shuffled circle, and so do each person's images, so both come up
    evenly. A person's images lie next to each other in the batch. No image is twice in one batch: a person with fewer
    than `images` gives all of them, and the slots left over go to further people, the last of whom may be cut short.
    Somebody with a single image in a batch serves as a negative only. Every part of every batch holds two images of
    one person and an image of another: if its other slots went to people with one image, the next person with several
    takes the last two and changes places in the circle with whoever was due.

    An epoch has as many steps as whole batches fit into the images. Every person is visited equally often whatever the
    number of their images, so an epoch need not show every image.

    Args:
        labels: (N,) the person of each image.
        people: P, a multiple of `parts`.
        images: K, images of each person.
        seed: of the run.
        parts: how many parts a batch is split into, one after the other.

    Returns:
        A function epoch -> (steps, P * K) indices into `labels`.

    Raises:
        UserError: there are fewer than two people, nobody has two images, the images do not fill one batch, or a part
            would hold one person only.
    """
    _, counts = np.unique(labels, return_counts=True)
    _require_filled(counts, people, images, parts)
    size = people * images
    own = np.split(np.argsort(labels, kind="stable"), np.cumsum(counts)[:-1])
    steps = len(labels) // size

    def order(epoch: int) -> NDArray[np.int64]:
        rng = generator(seed, "people", epoch)
        circle = rng.permutation(len(own))
        shuffled: dict[int, NDArray[np.int64]] = {}
        shown = np.zeros(len(own), dtype=np.int64)
        rows = np.empty((steps * parts, size // parts), dtype=np.int64)
        place = 0
        for row in rows:
            filled, paired = 0, False
            while filled < len(row):
                if not paired and len(row) - filled == 2:
                    _bring_pair(circle, place % len(circle), counts)
                person = int(circle[place % len(circle)])
                place += 1
                if person not in shuffled:
                    shuffled[person] = rng.permutation(own[person])
                mine = shuffled[person]
                count = min(images, len(mine), len(row) - filled)
                row[filled : filled + count] = mine[(shown[person] + np.arange(count)) % len(mine)]
                shown[person] += count
                filled += count
                paired |= count > 1
        return rows.reshape(steps, size)

    return order


def _require_filled(counts: NDArray[np.int64], people: int, images: int, parts: int) -> None:
    """Raise `UserError` if people with these numbers of images do not fill every part of a batch as they should."""
    size = people * images
    if len(counts) < 2 or counts.max() < 2:
        raise UserError(
            f"{counts.sum()} images of {len(counts)} people make no pairs to train on.",
            expected="two people or more, and one of them with two images or more",
        )
    if people % parts or people // parts < 2:
        raise UserError(
            f"a batch of {people} people cannot be divided into {parts} parts of two people or more, and triplets are "
            "mined in each part by itself.",
            fix=f"{_settings(max(2, round(people / parts)) * parts, images)}, or trainer.accumulate_grad_batches=1",
        )
    available = int(np.minimum(counts, images).sum())
    if available < size:
        fitting = _fitting(counts, people, images, parts)
        raise UserError(
            f"a batch of {people} people with {images} images each needs {size} images; {len(counts)} people "
            f"with at most {images} images each offer {available}.",
            expected="" if fitting else f"at least {4 * parts} images, of which a person gives two at most",
            fix=_settings(*fitting) if fitting else "more images",
        )


def _bring_pair(circle: NDArray[np.int64], place: int, counts: NDArray[np.int64]) -> None:
    """Exchange whoever stands at `place` with the next in the circle who has two images or more."""
    ahead = (place + np.arange(len(circle))) % len(circle)
    found = ahead[int((counts[circle[ahead]] > 1).argmax())]
    circle[[place, found]] = circle[[found, place]]


def _fitting(counts: NDArray[np.int64], people: int, images: int, parts: int) -> tuple[int, int] | None:
    """(P, K) of the batch with the most images of a person that people with these numbers of images fill."""
    for most in range(min(images, int(counts.max())), 1, -1):
        fit = min(people, int(np.minimum(counts, most).sum()) // most) // parts * parts
        if fit >= 2 * parts:
            return fit, most
    return None


def _settings(people: int, images: int) -> str:
    return f"method.people_per_batch={people} method.images_per_person={images} loader.batch_size={people * images}"
