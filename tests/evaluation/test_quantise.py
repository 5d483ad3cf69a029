"""One byte per number: what it may cost, and that protocols see it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from kdface.errors import UserError
from kdface.evaluation.embed import Embedder
from kdface.evaluation.protocol import Metric, Outcome
from kdface.evaluation.quantise import Quantised, dequantise, quantise
from kdface.evaluation.scores import squared_distances, unit
from kdface.faces import FaceSet, Preprocessing


def test_a_face_takes_128_bytes() -> None:
    embeddings = np.random.default_rng(0).normal(size=(5, 128))
    codes = quantise(embeddings)
    assert codes.dtype == np.int8 and codes[0].nbytes == 128
    assert np.abs(codes).max(axis=1).tolist() == [127] * 5
    np.testing.assert_allclose(np.linalg.norm(dequantise(codes), axis=1), 1, atol=1e-6)


def test_codes_by_hand() -> None:
    """127 f / max|f_i|, rounded: of (3, -4, 0, 1) that is (95.25, -127, 0, 31.75); length does not count."""
    given = np.array([[3.0, -4.0, 0.0, 1.0], [-30.0, 40.0, 0.0, -10.0]])
    assert quantise(given).tolist() == [[95, -127, 0, 32], [-95, 127, 0, -32]]


@pytest.mark.parametrize("size", [2, 16, 128, 512])
@pytest.mark.parametrize("tail", [0.5, 2.0])
def test_squared_distances_change_within_the_bound(size: int, tail: float) -> None:
    """Also for embeddings dominated by a few numbers, the worst case of one scale for all."""
    rng = np.random.default_rng(size)
    draws = rng.normal(size=(400, size))
    rows = unit(np.sign(draws) * np.abs(draws) ** (2 * tail))
    left, right = rows[:200], rows[200:]
    change = np.abs(
        squared_distances(left, right) - squared_distances(*(dequantise(quantise(x)) for x in (left, right)))
    )
    turn = np.arcsin(np.sqrt(size) * np.abs(rows).max(axis=1) / 254)
    assert (change <= 2 * (turn[:200] + turn[200:]) + 1e-6).all()
    assert change.max() > 0


def test_embeddings_without_a_direction_are_refused() -> None:
    with pytest.raises(UserError, match="zero or not finite"):
        quantise(np.zeros((2, 4)))


class Echo:
    """A protocol that keeps the embeddings it was given."""

    def __init__(self, dataset: FaceSet) -> None:
        self.dataset = dataset
        self.datasets: tuple[FaceSet, ...] = (dataset,)
        self.seen: NDArray[np.float32] = np.zeros((0, 0), np.float32)

    def evaluate(self, embed: Embedder) -> Outcome:
        self.seen = embed(self.dataset, ["a", "b"])
        return Outcome({"seen": Metric(1.0)}, {})


class Fixed(Embedder):
    def __init__(self) -> None:
        pass

    def __call__(self, dataset: FaceSet, keys: Sequence[str]) -> NDArray[np.float32]:
        return np.array([[3, -4, 0, 1], [0, 0, 2, 0]], np.float32)


class Nobody:
    name = "nobody"
    preprocessing = Preprocessing()
    people: Sequence[str] = ()
    labels: NDArray[np.int64] = np.zeros(0, np.int64)
    keys: Sequence[str] = ()

    def __len__(self) -> int:
        return 0

    def __getitem__(self, index: int) -> object:
        raise IndexError(index)


def test_a_protocol_is_handed_quantised_embeddings() -> None:
    inner = Echo(Nobody())  # type: ignore[arg-type]
    outcome = Quantised(inner).evaluate(Fixed())
    assert outcome.metrics == {"seen": Metric(1.0)}
    expected = unit(np.array([[95.0, -127.0, 0.0, 32.0], [0.0, 0.0, 127.0, 0.0]]))
    np.testing.assert_allclose(inner.seen, expected, atol=1e-7)
