"""P x K batches (K images of each of P people), for losses on pairs and triplets."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kdface.datasets.loading import Order
from kdface.errors import UserError
from kdface.randomness import generator


def people_by_images(labels: NDArray[np.int64], people: int, images: int, seed: int, parts: int = 1) -> Order:
    """Batches of `images` images of each of `people` people, drawn from (seed, epoch) alone.

    Within an epoch people are visited in a shuffled circle, as are each person's images, so both occur evenly. A
    person's images are contiguous in the batch. No image occurs twice in a batch: people with fewer than `images`
    contribute all of them, and the remaining slots go to further people, the last of whom may be truncated. People with
    a single image in a batch serve only as negatives. Every part of every batch contains two images of one person and
    an image of another: if its other slots went to people with one image, the next person with several takes the last
    two and swaps places in the circle with the person due.

    An epoch has as many steps as complete batches fit into the images. Every person is visited equally often regardless
    of the number of images, so an epoch need not contain every image.

    Args:
        labels: (N,) the person of each image.
        people: P, a multiple of `parts`.
        images: K, images of each person.
        seed: of the run.
        parts: number of consecutive micro-batches a batch is split into.

    Returns:
        A function epoch -> (steps, P * K) indices into `labels`.

    Raises:
        UserError: there are fewer than two people, nobody has two images, the images do not fill one batch, or a part
            would contain only one person.
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
            expected="at least two people, one of them with at least two images",
        )
    if people % parts or people // parts < 2:
        raise UserError(
            f"a batch of {people} people cannot be divided into {parts} parts of at least two people, and triplets are "
            "mined within each part.",
            fix=f"{_settings(max(2, round(people / parts)) * parts, images)}, or trainer.accumulate_grad_batches=1",
        )
    available = int(np.minimum(counts, images).sum())
    if available < size:
        fitting = _fitting(counts, people, images, parts)
        raise UserError(
            f"a batch of {people} people with {images} images each needs {size} images; {len(counts)} people "
            f"with at most {images} images each offer {available}.",
            expected="" if fitting else f"at least {4 * parts} images, at most two of them per person",
            fix=_settings(*fitting) if fitting else "more images",
        )


def _bring_pair(circle: NDArray[np.int64], place: int, counts: NDArray[np.int64]) -> None:
    """Swap the person at `place` with the next in the circle with at least two images."""
    ahead = (place + np.arange(len(circle))) % len(circle)
    found = ahead[int((counts[circle[ahead]] > 1).argmax())]
    circle[[place, found]] = circle[[found, place]]


def _fitting(counts: NDArray[np.int64], people: int, images: int, parts: int) -> tuple[int, int] | None:
    """(P, K) of the batch with the most images per person that these image counts can fill."""
    for most in range(min(images, int(counts.max())), 1, -1):
        fit = min(people, int(np.minimum(counts, most).sum()) // most) // parts * parts
        if fit >= 2 * parts:
            return fit, most
    return None


def _settings(people: int, images: int) -> str:
    return f"method.people_per_batch={people} method.images_per_person={images} loader.batch_size={people * images}"
