"""Protocols through their public face: metrics named by protocol, counts, symptoms."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from kdface.errors import UserError
from kdface.evaluation import Embedder, PairList, Verification, lfw_verification, random_verification
from tests.datasets.test_loading import Noise


def _by_person(images: torch.Tensor) -> torch.Tensor:
    """A perfect network: the noise of image i is seeded by i, so its bytes tell the person (i modulo 4)."""
    index = {Noise()[i].image.tobytes(): i for i in range(20)} | {
        np.ascontiguousarray(Noise()[i].image[:, ::-1]).tobytes(): i for i in range(20)
    }
    people = [index[image.numpy().tobytes()] % 4 for image in images]
    return torch.eye(4)[people] + 0.01 * torch.rand(len(people), 4, generator=torch.Generator().manual_seed(0))


def test_a_perfect_network() -> None:
    outcome = random_verification(Noise(), folds=2, pairs_per_fold=8, fars=(0.25, 1e-3)).evaluate(Embedder(_by_person))
    values = {key: metric.value for key, metric in outcome.metrics.items()}
    assert values == {
        "10fold/accuracy": 1.0,
        "10fold/accuracy_exact": 1.0,
        "roc/eer": 0.0,
        "roc/auc": 1.0,
        "roc/tar@far=0.25": 1.0,
        "roc/tar@far=0.001": None,  # eight impostor pairs cannot resolve it
    }
    assert outcome.metrics["10fold/accuracy"].std == 0.0
    assert outcome.counts["pairs"] == 16
    assert outcome.symptoms == []


@pytest.mark.parametrize("value", [0.0, 1.0, float("nan")])
def test_a_dead_network_has_symptoms(value: float) -> None:
    verification = random_verification(Noise(), folds=2, pairs_per_fold=8)
    outcome = verification.evaluate(Embedder(lambda images: torch.full((len(images), 4), value)))
    assert outcome.symptoms
    if value != 1.0:
        assert outcome.metrics["10fold/accuracy"].value is None


def test_a_pair_list_of_another_dataset_is_told() -> None:
    pairs = PairList(("00", "99"), ("01", "98"), np.array([True, False]), None)
    with pytest.raises(UserError, match="2 of 4 images of the pair list are not in noise: 98, 99"):
        Verification(Noise(), pairs)


def test_view_1_is_cut_into_folds_that_hold_both_kinds(tmp_path: Path) -> None:
    """View 1 lists all same pairs first; in consecutive blocks half the folds would hold one kind only."""
    people = ["Ann_Lee", "Bob_Ray"]
    same = [f"{person}\t{i}\t{i + 1}" for person in people for i in range(1, 11)]
    different = [f"Ann_Lee\t{i}\tBob_Ray\t{j}" for i in range(1, 5) for j in range(1, 6)]
    (tmp_path / "pairs.txt").write_text("20\n" + "\n".join(same + different) + "\n")

    class Lfw(Noise):
        keys: Sequence[str] = [f"{person}/{person}_{i:04d}.jpg" for person in people for i in range(1, 13)]

    fold = lfw_verification(Lfw(), tmp_path / "pairs.txt").pairs.fold
    assert fold is not None
    assert np.array_equal(np.bincount(fold[:20]), [2] * 10)
    assert np.array_equal(np.bincount(fold[20:]), [2] * 10)
