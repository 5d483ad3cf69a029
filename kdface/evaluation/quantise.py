"""Embeddings of one byte per number: FaceNet keeps 128 bytes a face, and says no more than that of how."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kdface.evaluation.embed import Embedder, Recognition
from kdface.evaluation.protocol import EvaluationProtocol, Outcome, images_read
from kdface.evaluation.scores import Embeddings, unit
from kdface.faces import FaceSet

_LEVELS = 127  # -128 is not used, so that f and -f stay opposite


def quantise(embeddings: Embeddings) -> NDArray[np.int8]:
    """round(127 f / max|f_i|) of each embedding: (images, D) -> (images, D) int8.

    Only the direction of a face's embedding counts, so the scale need not be kept. With m the largest absolute number
    of the unit embedding, no number moves by more than m / 254, the embedding turns by at most asin(sqrt(D) m / 254),
    and a squared distance changes by at most 2 (asin(sqrt(D) m / 254) + asin(sqrt(D) m' / 254)).

    Raises:
        UserError: a row is not finite or is zero, and so has no direction.
    """
    rows = unit(embeddings)
    return np.asarray(np.rint(rows * (_LEVELS / np.abs(rows).max(axis=1, keepdims=True))), dtype=np.int8)


def dequantise(codes: NDArray[np.int8]) -> NDArray[np.float32]:
    """(images, D) int8 -> (images, D) unit embeddings."""
    return unit(codes.astype(np.float32)).astype(np.float32)


class QuantisedEmbedder(Embedder):
    """Embeddings as another embedder gives them, after a pass through one byte per number.

    So are those of frozen networks that a protocol compares them with. Embeddings without a direction are handed on as
    they are, for the protocol to tell of. Face-image quality is not quantised.
    """

    def __init__(self, embed: Embedder) -> None:
        super().__init__(
            embed.network,
            embed.device,
            embed.batch_size,
            embed.rank,
            embed.world,
            quality_network=embed.quality_network,
        )
        self.embed = embed

    def __call__(self, dataset: FaceSet, keys: Sequence[str], mirror: bool = True) -> NDArray[np.float32]:
        rows = self.embed(dataset, keys, mirror).copy()
        directed = np.isfinite(rows).all(axis=1) & rows.any(axis=1)
        rows[directed] = dequantise(quantise(rows[directed]))
        return rows

    def quality(self, dataset: FaceSet, keys: Sequence[str]) -> NDArray[np.float64]:
        return self.embed.quality(dataset, keys)

    def embed_and_grade(self, dataset: FaceSet, keys: Sequence[str], network: Recognition | None = None) -> None:
        self.embed.embed_and_grade(dataset, keys, network)

    def frozen(self, network: Recognition) -> Embedder:
        return QuantisedEmbedder(self.embed.frozen(network))


class Quantised:
    """A protocol on quantised embeddings; beside the plain one it shows what a byte per number costs.

    Every embedding that the protocol compares is quantised, those of its frozen networks too.

    Args:
        protocol: what is measured.
    """

    def __init__(self, protocol: EvaluationProtocol) -> None:
        self.protocol = protocol
        self.datasets = protocol.datasets

    @property
    def keys_read(self) -> tuple[list[str], ...]:
        return tuple(keys for _, keys in images_read(self.protocol))

    def evaluate(self, embed: Embedder) -> Outcome:
        outcome = self.protocol.evaluate(QuantisedEmbedder(embed))
        outcome.choices["quantised"] = "round(127 f / max|f_i|), one byte per number"
        return outcome
