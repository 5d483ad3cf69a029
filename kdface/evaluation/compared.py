"""What protocols compare of images, embeddings or logits, and what they must make sure of first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kdface.errors import UserError
from kdface.evaluation.embed import Embedder, Tested
from kdface.evaluation.people import people_of
from kdface.faces import FaceSet

Compared = Literal["embeddings", "logits"]


def rows_of(
    embed: Embedder, dataset: FaceSet, keys: Sequence[str], compare: Compared, mirror: bool
) -> NDArray[np.float32]:
    """What is compared of images by cosine: (len(keys), D) embeddings, or (len(keys), C) logits of the training people.

    Two networks that were trained apart, or as CKD's for faces and eyes, have embeddings of their own, while their
    logits speak of the same people. The evaluation of faces against eyes that CKD's laboratory published takes logits.
    """
    return embed.logits(dataset, keys) if compare == "logits" else embed(dataset, keys, mirror)


def require_comparable(compare: Compared, network: Tested, where: str) -> None:
    """Raises `UserError` for logits of a network that has none of people."""
    if compare == "logits" and not network.classifies:
        raise UserError(
            f"{where} compares logits, and the run's head is no softmax over all of its people.",
            fix=f"head=softmax, a margin softmax (kdface list head), or {where}.compare=embeddings",
        )


def require_alone(compare: Compared, mirror: bool) -> None:
    """Raises `UserError` for logits of mirror images, which are never added up."""
    if compare == "logits" and mirror:
        raise UserError("compare=logits takes each image by itself, and mirror is true.", fix="mirror=false")


def require_same(dataset: FaceSet, probes: FaceSet, keys: Sequence[str]) -> None:
    """Raises `UserError` if `probes` lacks some of the keys or has other people on them."""
    here, there = people_of(dataset), people_of(probes)
    wrong = [key for key in keys if there.get(key) != here[key]]
    if wrong:
        raise UserError(
            f"{len(wrong)} of {len(keys)} images of {dataset.name} are not in {probes.name} or not the same person: "
            f"{', '.join(wrong[:3])}{', ...' if len(wrong) > 3 else ''}.",
            expected="two modalities of the same images, under the same keys",
        )
