"""Closed-set identification of images against a gallery of images: ranks and CMC."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kdface.errors import UserError
from kdface.evaluation.scores import Embeddings, unit

_BLOCK = 1 << 23  # scores computed at once: 64 MiB of float64


def mate_ranks(
    gallery: Embeddings, gallery_people: Sequence[str], probe: Embeddings, probe_people: Sequence[str]
) -> NDArray[np.int64]:
    """For each probe image, the position (from 1) of its person's first gallery image, by descending cosine.

    Image level: people with several gallery images have several entries, which are not averaged. A gallery
    image of someone else that ties with the best mate counts as ahead of it, so that constant embeddings
    identify nobody.

    Args:
        gallery, probe: (images, embedding size).
        gallery_people, probe_people: the person of each image, by name (labels may differ between sets).

    Returns:
        (probe images,) ranks of at least 1.

    Raises:
        UserError: a probe's person has no image in the gallery, an embedding is not finite, or a side is
            empty.
    """
    if len(gallery) != len(gallery_people) or len(probe) != len(probe_people):
        raise ValueError("gallery and probe need one name for each embedding")
    number = {name: place for place, name in enumerate(dict.fromkeys(gallery_people))}
    strangers = sorted(set(probe_people) - set(number))
    if strangers:
        shown = ", ".join(strangers[:3]) + (", ..." if len(strangers) > 3 else "")
        raise UserError(
            f"{len(strangers)} people of the probe images have no image in the gallery: {shown}",
            expected="closed-set identification: everyone among the probes is in the gallery",
            fix="remove these people's probe images, or add gallery images of them",
        )
    if not len(gallery) or not len(probe):
        raise UserError(f"{len(gallery)} gallery and {len(probe)} probe images: nobody can be identified.")
    gallery_rows, probe_rows = unit(gallery), unit(probe)
    gallery_ids = np.array([number[name] for name in gallery_people])
    probe_ids = np.array([number[name] for name in probe_people])
    ranks = np.empty(len(probe), dtype=np.int64)
    step = max(1, _BLOCK // len(gallery))
    for start in range(0, len(probe), step):
        block = slice(start, start + step)
        cosines = probe_rows[block] @ gallery_rows.T
        mates = probe_ids[block, None] == gallery_ids[None, :]
        best = np.where(mates, cosines, -np.inf).max(axis=1, keepdims=True)
        ranks[block] = 1 + np.count_nonzero((cosines >= best) & ~mates, axis=1)
    return ranks


def cmc(ranks: NDArray[np.int64], max_rank: int = 20) -> NDArray[np.float64]:
    """Cumulative match characteristic: (max_rank,) the share of probes with rank <= 1, 2, ..., max_rank.

    The first entry is the rank-1 identification rate.
    """
    return np.array([np.count_nonzero(ranks <= rank) / len(ranks) for rank in range(1, max_rank + 1)])
