"""What protocols compare, embeddings or logits, and its preconditions."""

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
    """The vectors to compare by cosine: (len(keys), D) embeddings, or (len(keys), C) logits of the training people.

    Networks trained separately, or like CKD's for faces and eyes, have incompatible embeddings, while their logits
    refer to the same people. The face-to-eyes evaluation published by CKD's laboratory uses logits.
    """
    return embed.logits(dataset, keys) if compare == "logits" else embed(dataset, keys, mirror)


def require_comparable(compare: Compared, network: Tested, where: str) -> None:
    """Raise `UserError` for logits if the network has none of people."""
    if compare == "logits" and not network.classifies:
        raise UserError(
            f"{where} compares logits, but the run's head is not a softmax over all of its people.",
            fix=f"head=softmax, a margin softmax (kdface list head), or {where}.compare=embeddings",
        )


def require_alone(compare: Compared, mirror: bool) -> None:
    """Raises `UserError` for logits of mirror images, which are never added up."""
    if compare == "logits" and mirror:
        raise UserError("compare=logits does not support mirror=true.", fix="mirror=false")


def require_same(dataset: FaceSet, probes: FaceSet, keys: Sequence[str]) -> None:
    """Raise `UserError` if `probes` lacks some of the keys or labels them with other people."""
    here, there = people_of(dataset), people_of(probes)
    wrong = [key for key in keys if there.get(key) != here[key]]
    if wrong:
        raise UserError(
            f"{len(wrong)} of {len(keys)} images of {dataset.name} are not in {probes.name} or not the same person: "
            f"{', '.join(wrong[:3])}{', ...' if len(wrong) > 3 else ''}.",
            expected="two modalities of the same images, under the same keys",
        )
