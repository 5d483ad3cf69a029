"""Embeddings with one byte per component: FaceNet stores 128 bytes per face without further details."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kdface.errors import UserError
from kdface.evaluation.calibration import Calibration
from kdface.evaluation.embed import Embedder, Recognition, Tested
from kdface.evaluation.protocol import EvaluationProtocol, Outcome, images_read, outcome_of, require_fits
from kdface.evaluation.scores import Embeddings, unit
from kdface.faces import FaceSet

_LEVELS = 127  # -128 is not used, so that f and -f stay opposite


def quantise(embeddings: Embeddings) -> NDArray[np.int8]:
    """round(127 f / max|f_i|) of each embedding: (images, D) -> (images, D) int8.

    Only the direction of an embedding counts, so the scale is not stored. With m the largest absolute component of the
    unit embedding, no component changes by more than m / 254, the embedding rotates by at most asin(sqrt(D) m / 254),
    and a squared distance changes by at most 2 (asin(sqrt(D) m / 254) + asin(sqrt(D) m' / 254)).

    Raises:
        UserError: a row is not finite or zero, and thus has no direction.
    """
    rows = unit(embeddings)
    return np.asarray(np.rint(rows * (_LEVELS / np.abs(rows).max(axis=1, keepdims=True))), dtype=np.int8)


def dequantise(codes: NDArray[np.int8]) -> NDArray[np.float32]:
    """(images, D) int8 -> (images, D) unit embeddings."""
    return unit(codes.astype(np.float32)).astype(np.float32)


class QuantisedEmbedder(Embedder):
    """Embeddings of another embedder, quantised to one byte per component and back.

    Embeddings of frozen networks compared with them are quantised too. Embeddings without a direction are passed
    through for the protocol to report. Face-image quality is not quantised.
    """

    def __init__(self, embed: Embedder) -> None:
        super().__init__(
            embed.network,
            embed.device,
            embed.batch_size,
            embed.rank,
            embed.world,
            quality_network=embed.quality_network,
            people=embed.people,
        )
        self.embed = embed

    def __call__(self, dataset: FaceSet, keys: Sequence[str], mirror: bool = True) -> NDArray[np.float32]:
        return _through(self.embed(dataset, keys, mirror))

    def logits(self, dataset: FaceSet, keys: Sequence[str]) -> NDArray[np.float32]:
        """(N, C): as the wrapped embedder's, quantised."""
        return _through(self.embed.logits(dataset, keys))

    def posterior(self, dataset: FaceSet, keys: Sequence[str]) -> NDArray[np.float32]:
        """Raise `UserError`: probabilities depend on the norm of the logits, which is not preserved."""
        raise _no_probabilities("a quantised test")

    def quality(self, dataset: FaceSet, keys: Sequence[str]) -> NDArray[np.float64]:
        """(N,): as the wrapped embedder's, not quantised."""
        return self.embed.quality(dataset, keys)

    def embed_and_grade(self, dataset: FaceSet, keys: Sequence[str], network: Recognition | None = None) -> None:
        """As the wrapped embedder's: both in one pass over the images."""
        self.embed.embed_and_grade(dataset, keys, network)

    def frozen(self, network: Recognition) -> Embedder:
        """An embedder of another network, quantised too."""
        return QuantisedEmbedder(self.embed.frozen(network))


def _no_probabilities(where: str) -> UserError:
    return UserError(
        f"{where} quantises what a protocol compares, but Calibration compares nothing: it tests probabilities.",
        fix="use the Calibration directly",
    )


def _through(given: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows quantised to one byte per component and back; those without a direction are unchanged."""
    rows = given.copy()
    directed = np.isfinite(rows).all(axis=1) & rows.any(axis=1)
    rows[directed] = dequantise(quantise(rows[directed]))
    return rows


class Quantised:
    """A protocol on quantised embeddings; run it next to the plain one to measure the cost of quantisation.

    Quantises all vectors the protocol compares: embeddings, including those of its frozen networks, and logits if it
    compares these.

    Args:
        protocol: the protocol to run; `Calibration` compares nothing and is rejected.
    """

    def __init__(self, protocol: EvaluationProtocol) -> None:
        self.protocol = protocol
        self.datasets = protocol.datasets
        if hasattr(protocol, "leave_out"):
            self.leave_out = protocol.leave_out

    @property
    def keys_read(self) -> tuple[list[str], ...]:
        """Those of the wrapped protocol."""
        return tuple(keys for _, keys in images_read(self.protocol))

    def require(self, network: Tested, where: str) -> None:
        """As the wrapped protocol; raises `UserError` if it compares nothing."""
        if isinstance(self.protocol, Calibration):
            raise _no_probabilities(where)
        require_fits(self.protocol, network, where)

    @property
    def left_out(self) -> list[str]:
        """Those of the wrapped protocol."""
        return getattr(self.protocol, "left_out", [])

    def evaluate(self, embed: Embedder) -> Outcome:
        """The wrapped protocol's outcome on quantised embeddings, noted in `choices`."""
        outcome = outcome_of(self.protocol, QuantisedEmbedder(embed), "Quantised")
        outcome.choices["quantised"] = "round(127 f / max|f_i|), one byte per number"
        return outcome
