"""One byte per number: what it may cost, and that protocols see it."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from kdface.config.compose import compose
from kdface.errors import UserError
from kdface.evaluation.calibration import Calibration
from kdface.evaluation.edc import DiscardPolicy
from kdface.evaluation.embed import Embedder
from kdface.evaluation.folds import fold_identification
from kdface.evaluation.pairs import PairList
from kdface.evaluation.protocol import Measured, Verification
from kdface.evaluation.quality import QualityEDC, QualityOutcome
from kdface.evaluation.quantise import Quantised, QuantisedEmbedder, dequantise, quantise
from kdface.evaluation.scores import squared_distances, unit
from kdface.faces import Preprocessing, Sample
from tests.conftest import TINY, Kdface
from tests.evaluation.faces import Given, Listed, noise


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


def _coded(rows: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """round(127 f / max|f_i|), as unit vectors, one row after the other."""
    codes = np.array([[round(127 * value / max(map(abs, row))) for value in row] for row in rows.tolist()], np.float64)
    return np.asarray(codes / np.sqrt((codes**2).sum(axis=1, keepdims=True)))


IMAGES = [(person, f"{person}{number}") for person in "abcd" for number in range(3)]
SAME_PAIRS = [(f"{person}0", f"{person}{number}") for person in "abcd" for number in (1, 2)]
OTHER_PAIRS = [(f"{one}0", f"{other}1") for one, other in permutations("abcd", 2)][:8]
PAIRS = PairList(
    tuple(left for left, _ in SAME_PAIRS + OTHER_PAIRS),
    tuple(right for _, right in SAME_PAIRS + OTHER_PAIRS),
    np.repeat([True, False], 8),
    np.tile([0, 1], 8),
)


def _cosines(left: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.array([one @ other for one, other in zip(left, right, strict=True)])


def test_a_protocol_is_handed_quantised_embeddings() -> None:
    faces = Listed(IMAGES)
    rows = noise(faces, centre=0, seed=0, spread=0.5)
    outcome = Quantised(Verification(faces, PAIRS, fars=(0.5,))).evaluate(Given((faces, rows)))
    left, right = (np.array([rows[key] for key in keys], np.float32) for keys in (PAIRS.left, PAIRS.right))
    expected = _cosines(_coded(left), _coded(right))
    np.testing.assert_allclose(outcome.scores, expected, atol=1e-6)
    assert np.abs(outcome.scores - _cosines(unit(left), unit(right))).max() > 1e-4
    assert "one byte" in outcome.choices["quantised"]


class Frozen:
    """A frozen network whose embedding of an image is its first pixels."""

    preprocessing = Preprocessing()

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        return images[:, 0, :4, 0].float() - 100

    def to(self, device: torch.device | str) -> Frozen:
        return self


class Pictures(Listed):
    """Twelve pictures of noise."""

    def __init__(self) -> None:
        super().__init__(IMAGES)
        self.preprocessing = Frozen.preprocessing

    def __getitem__(self, index: int) -> Sample:
        image = np.random.default_rng(index).integers(0, 256, (8, 8, 3)).astype(np.uint8)
        return Sample(image, int(self.labels[index]), self.keys[index])

    def seen(self, key: str) -> NDArray[np.float64]:
        """f(image) + f(mirrored image) of the frozen network."""
        image = self[list(self.keys).index(key)].image.astype(np.float64)
        return np.asarray(image[0, :4, 0] + image[0, ::-1][:4, 0] - 200)


@pytest.mark.parametrize("first", [True, False])
def test_frozen_networks_are_quantised_too(first: bool) -> None:
    faces, frozen = Pictures(), Frozen()
    sides = {"recognition": frozen} if first else {"probe_recognition": frozen}
    rows = noise(faces, centre=0, seed=0, spread=0.5, size=4)
    test = Verification(faces, PAIRS, fars=(0.5,), **sides)  # type: ignore[arg-type]
    scores = Quantised(test).evaluate(Given((faces, rows))).scores
    own, old = (PAIRS.right, PAIRS.left) if first else (PAIRS.left, PAIRS.right)
    ours = _coded(np.array([rows[key] for key in own], np.float32))
    theirs = np.array([faces.seen(key) for key in old])
    np.testing.assert_allclose(scores, _cosines(ours, _coded(theirs)), atol=1e-6)
    assert np.abs(scores - _cosines(ours, unit(theirs))).max() > 1e-4


@pytest.mark.parametrize("mirror", [True, False])
def test_the_mirror_image_counts_as_the_protocol_asks(mirror: bool) -> None:
    faces = Listed(IMAGES)
    inner = Given((faces, noise(faces, centre=0, seed=0, spread=0.5)))
    QuantisedEmbedder(inner)(faces, ["a0", "b1"], mirror)
    assert inner.mirrored == [mirror]


def test_quality_is_that_of_the_network_and_is_not_quantised() -> None:
    """Pixels and their mean, of noise: the quality is the network's number for number."""
    faces = Pictures()

    def network(images: torch.Tensor, kind: Preprocessing) -> torch.Tensor:
        return images.reshape(len(images), -1)[:, :24].float() - 100

    def grade(images: torch.Tensor, kind: Preprocessing) -> torch.Tensor:
        return images.float().mean(dim=(1, 2, 3))

    test = QualityEDC(Verification(faces, PAIRS), policy=DiscardPolicy(fmr=0.25), resamples=0)
    outcome = Quantised(test).evaluate(Embedder(network, quality_network=grade))
    assert isinstance(outcome, QualityOutcome)
    expected = [faces[list(faces.keys).index(key)].image.mean() for key in outcome.keys]
    assert outcome.quality == pytest.approx(expected, rel=1e-6)
    assert outcome.metrics["fnmr"].value is not None


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_embeddings_without_a_direction_are_not_available_and_symptoms_say_why(value: float) -> None:
    faces = Listed(IMAGES)
    rows = noise(faces, centre=0, seed=0, spread=0.5)
    rows["a0"] = np.full(6, value)
    test = Verification(faces, PAIRS, fars=(0.5,))
    outcome, plain = Quantised(test).evaluate(Given((faces, rows))), test.evaluate(Given((faces, rows)))
    assert outcome.metrics["accuracy"] == Measured(None)
    assert outcome.symptoms == plain.symptoms and len(outcome.symptoms) == 1


def test_collapsed_embeddings_have_symptoms() -> None:
    faces = Listed(IMAGES)
    outcome = Quantised(Verification(faces, PAIRS)).evaluate(Given((faces, dict.fromkeys(faces.keys, np.ones(6)))))
    assert "one vector" in outcome.symptoms[0]


@pytest.mark.parametrize(("choice", "plain"), [("lfw_quantised", "lfw"), ("toy_quantised", "toy_pairs")])
def test_the_shipped_tests_measure_the_same_pairs_both_ways(choice: str, plain: str) -> None:
    tests = compose([f"evaluation={choice}"]).tree["evaluation"]
    quantised = tests.pop(choice)
    assert quantised == {"_target_": "kdface.evaluation.Quantised", "protocol": tests.pop(plain)}
    assert tests == {}


def test_quality_that_the_network_does_not_give_is_told_before_training(kdface: Kdface, tmp_path: Path) -> None:
    """A quantised test of quality needs a network that grades, as the plain one does."""
    mine = tmp_path / "mine" / "evaluation"
    mine.mkdir(parents=True)
    test = """
      _target_: kdface.evaluation.random_verification
      dataset: {_target_: kdface.datasets.ToyFaces, people: 4, images_per_person: 4, split: test, size: [32, 32]}
      folds: 2
      pairs_per_fold: 4
"""
    node = "graded:\n  _target_: kdface.evaluation.Quantised\n  protocol:\n    _target_: kdface.evaluation.QualityEDC\n"
    (mine / "graded.yaml").write_text(f"# Quality, quantised\n{node}    test:{test}")
    words = [word for word in TINY if not word.startswith("evaluation")]
    said = kdface(
        "train", *words, "evaluation=graded", "--config-dir", str(tmp_path / "mine"), f"paths.runs={tmp_path}/r"
    )
    assert said.code == 2 and "the run's network gives none" in said.err, said


def test_compared_logits_are_quantised_too() -> None:
    faces = Listed(IMAGES)
    rows = noise(faces, centre=0, seed=0, spread=0.5)
    test = fold_identification(faces, folds=2, compare="logits")
    (plain, quantised) = (protocol.evaluate(Given(logits=[(faces, rows)])) for protocol in (test, Quantised(test)))
    coded = dict(zip(rows, _coded(np.array(list(rows.values()), np.float32)), strict=True))
    assert quantised.metrics == test.evaluate(Given(logits=[(faces, coded)])).metrics
    assert quantised.counts == plain.counts


def test_probabilities_cannot_be_quantised() -> None:
    faces = Listed(IMAGES)
    with pytest.raises(UserError, match="Calibration compares nothing"):
        Quantised(Calibration(faces)).evaluate(Embedder(lambda images, _: images, people=list(faces.people)))
