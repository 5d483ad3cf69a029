"""Ranks against sorted lists, CMC against counting."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from kdface.errors import UserError
from kdface.evaluation import identification as module
from kdface.evaluation.identification import cmc, mate_ranks

Array = NDArray[Any]


def _slow_ranks(gallery: Array, gallery_people: list[str], probe: Array, probe_people: list[str]) -> list[int]:
    """Sort the gallery for each probe, strangers before mates where the cosine is the same."""
    ranks = []
    for row, person in zip(probe, probe_people, strict=True):
        order = []
        for other, name in zip(gallery, gallery_people, strict=True):
            cosine = float(row @ other) / float(np.linalg.norm(row)) / float(np.linalg.norm(other))
            order.append((-round(cosine, 12), name == person))
        order.sort()
        ranks.append([mate for _, mate in order].index(True) + 1)
    return ranks


def _draw(seed: int) -> tuple[Array, list[str], Array, list[str]]:
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(6, 4))
    gallery_ids, probe_ids = rng.permutation(np.repeat(np.arange(6), 3)), rng.integers(0, 6, 25)
    gallery = centers[gallery_ids] + rng.normal(size=(18, 4))
    probe = centers[probe_ids] + rng.normal(size=(25, 4))
    return gallery, [f"person {i}" for i in gallery_ids], probe, [f"person {i}" for i in probe_ids]


@pytest.mark.parametrize("block", [1, 40, 1 << 23])
@pytest.mark.parametrize("seed", range(3))
def test_ranks(seed: int, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK", block)
    sides = _draw(seed)
    found = mate_ranks(*sides)
    slow = _slow_ranks(*sides)
    assert len(set(slow)) > 3
    assert found.tolist() == slow


def test_equal_cosines_count_against_the_mate() -> None:
    axes = np.eye(3)
    gallery, people = axes[[0, 0, 1, 2]], ["ann", "bob", "bob", "cat"]
    probe = axes[[0, 0, 1, 2]]
    # The first gallery image is ann's, its twin bob's: both are second to each other. bob's other image is
    # unrivalled.
    assert mate_ranks(gallery, people, probe, ["ann", "bob", "bob", "cat"]).tolist() == [2, 2, 1, 1]


def test_a_collapsed_network_identifies_nobody() -> None:
    rows = np.ones((12, 5))
    people = [f"{i % 4}" for i in range(12)]
    ranks = mate_ranks(rows, people, rows, people)
    assert ranks.tolist() == [10] * 12  # nine images of others come first
    assert cmc(ranks, 1).tolist() == [0.0]


def test_lengths_of_vectors_do_not_matter() -> None:
    gallery, gallery_people, probe, probe_people = _draw(1)
    scale = np.random.default_rng(0).uniform(0.1, 10, (18, 1))
    before = mate_ranks(gallery, gallery_people, probe, probe_people)
    assert mate_ranks(gallery * scale, gallery_people, probe * 3, probe_people).tolist() == before.tolist()


def test_cmc_by_hand() -> None:
    curve = cmc(np.array([1, 3, 1, 2, 7]), max_rank=4)
    assert curve.tolist() == [2 / 5, 3 / 5, 4 / 5, 4 / 5]
    assert cmc(np.array([1, 3])).shape == (20,)


def test_strangers_are_named() -> None:
    gallery, gallery_people, probe, probe_people = _draw(0)
    with pytest.raises(UserError, match=r"2 people of the probe images have no image in the gallery: dan, eve"):
        mate_ranks(gallery, gallery_people, probe, ["eve", "dan", *probe_people[2:]])


def test_bad_input_is_told() -> None:
    gallery, gallery_people, probe, probe_people = _draw(0)
    with pytest.raises(ValueError, match="one name"):
        mate_ranks(gallery, gallery_people[:-1], probe, probe_people)
    with pytest.raises(UserError, match="0 probe images"):
        mate_ranks(gallery, gallery_people, probe[:0], [])
    probe[2, 1] = np.nan
    with pytest.raises(UserError, match="1 of 25 embeddings are zero or not finite, the first in row 2"):
        mate_ranks(gallery, gallery_people, probe, probe_people)
