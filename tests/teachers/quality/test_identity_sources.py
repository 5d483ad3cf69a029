"""Sources that look at who is who, MatedCosine, CRFIQA and SDDFIQA, against loops over pairs."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import wasserstein_distance
from torch import nn

from kdface.errors import DataError, UserError
from kdface.teachers.quality import CRFIQA, SDDFIQA, MatedCosine, QualitySource
from tests.teachers.quality.stand_ins import Faces, cosine, faces_of, flat_teacher

SOURCES = [MatedCosine(), CRFIQA(), SDDFIQA(pairs=2, repeats=3)]


def drawn(counts: dict[str, int], seed: int = 0, reach: int = 40) -> tuple[Faces, NDArray[np.float64], list[str]]:
    """Faces, their embeddings (up to `reach` about the person's own) and their people, the people mixed."""
    rng = np.random.default_rng(seed)
    who = [str(name) for name in rng.permutation([name for name, count in counts.items() for _ in range(count)])]
    centres = {name: rng.integers(reach - 100, 100 - reach, 6) for name in counts}
    vectors = np.array([centres[name] + rng.integers(-reach, reach, 6) for name in who])
    return faces_of(vectors.tolist(), who), vectors.astype(np.float64), who


def test_mated_cosine() -> None:
    faces, z, who = drawn({"a": 2, "b": 5, "c": 3})
    expected = [
        np.mean([cosine(z[i], z[j]) for j in range(len(z)) if j != i and who[j] == who[i]]) for i in range(len(z))
    ]
    assert MatedCosine()(flat_teacher(), faces).tolist() == pytest.approx(expected, abs=1e-6)


def test_certainty_ratio() -> None:
    faces, z, who = drawn({"a": 2, "b": 5, "c": 3, "d": 4})
    centre = {
        name: np.mean([z[j] / np.linalg.norm(z[j]) for j in range(len(z)) if who[j] == name], axis=0)
        for name in set(who)
    }
    expected = [
        cosine(z[i], centre[who[i]]) / (max(cosine(z[i], centre[n]) for n in centre if n != who[i]) + 1 + 1e-9)
        for i in range(len(z))
    ]
    assert CRFIQA()(flat_teacher(), faces).tolist() == pytest.approx(expected, rel=1e-5)


def test_certainty_ratio_in_closed_form() -> None:
    # two people at right angles: 1 / (0 + 1); two opposite ones: 1 / (-1 + 1 + 1e-9)
    right = faces_of([[9, 0, 0, 0, 0, 0]] * 2 + [[0, 0, 9, 0, 0, 0]] * 2, list("aabb"))
    assert CRFIQA()(flat_teacher(), right).tolist() == pytest.approx([1.0] * 4, rel=1e-6)
    opposite = faces_of([[9, 0, 0, 0, 0, 0]] * 2 + [[-9, 0, 0, 0, 0, 0]] * 2, list("aabb"))
    assert CRFIQA()(flat_teacher(), opposite).tolist() == pytest.approx([1e9] * 4, rel=1e-6)


class Classifier(nn.Module):
    """A head's class weights (C, D)."""

    def __init__(self, weight: NDArray[np.float64]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))


def test_certainty_ratio_to_the_class_weights() -> None:
    counts = {"a": 2, "b": 5, "c": 3, "d": 1}  # d has no mate, which a classifier does not mind
    faces, z, who = drawn(counts)
    weight = np.array([z[who.index(name)] * (2 + row) for row, name in enumerate("abcd")]) + 3.0
    teacher = flat_teacher()
    source = CRFIQA(centres="classifier")
    with pytest.raises(UserError, match="this teacher has none"):
        source(teacher, faces)
    teacher.head = Classifier(weight)
    expected = [
        cosine(z[i], weight["abcd".index(who[i])])
        / (max(cosine(z[i], weight[c]) for c in range(4) if "abcd"[c] != who[i]) + 1 + 1e-9)
        for i in range(len(z))
    ]
    assert source(teacher, faces).tolist() == pytest.approx(expected, rel=1e-5)
    teacher.head = Classifier(weight[[1, 2, 3, 0]])
    with pytest.raises(UserError, match="of the 4 people of stand_ins lie no closer to their own class"):
        source(teacher, faces)
    teacher.head = Classifier(weight[:3])
    with pytest.raises(UserError, match="trained on 3 classes of 6 components, but stand_ins has 4 people"):
        source(teacher, faces)


def test_sdd_fiqa() -> None:
    faces, z, who = drawn({"a": 2, "b": 6, "c": 4}, reach=90)  # cosines of mates and strangers overlap
    source = SDDFIQA(pairs=3, repeats=5, seed=2)
    order = sorted(range(len(z)), key=lambda i: (who[i], faces.keys[i]))
    distance = np.zeros((len(z), 5))
    for name in "abc":
        own = [i for i in order if who[i] == name]
        for i in own:
            mates, strangers = source._draw(faces.keys[i], own.index(i), order.index(own[0]), len(own), len(z))
            assert mates.shape == (5, min(3, len(own) - 1)) and strangers.shape == (5, 3)  # all have 6 strangers
            for r in range(5):
                assert {who[order[j]] for j in mates[r]} == {name} and i not in [order[j] for j in mates[r]]
                assert name not in {who[order[j]] for j in strangers[r]}
                assert len(set(mates[r])) == mates.shape[1] and len(set(strangers[r])) == strangers.shape[1]
                a = [cosine(z[i], z[order[j]]) for j in mates[r]]
                b = [cosine(z[i], z[order[j]]) for j in strangers[r]]
                distance[i, r] = wasserstein_distance(a, b)
    low, high = distance.min(0), distance.max(0)
    expected = [np.mean(100 * (distance[i] - low) / (high - low)) for i in range(len(z))]
    assert source(flat_teacher(), faces).tolist() == pytest.approx(expected, abs=1e-3)


def test_sdd_fiqa_draws_every_mate_and_stranger_alike() -> None:
    source = SDDFIQA(pairs=2, repeats=3000)
    # image 1 of a person with 5 images at places 4..8, of 12
    mates, strangers = source._draw("key", 1, 4, 5, 12)
    for found, places in ((mates, [4, 6, 7, 8]), (strangers, [0, 1, 2, 3, 9, 10, 11])):
        counts = np.bincount(found.ravel(), minlength=12)
        assert np.flatnonzero(counts).tolist() == places
        share = 2 / len(places)  # five standard errors of a binomial count
        assert np.abs(counts[places] - 3000 * share).max() < 5 * math.sqrt(3000 * share * (1 - share))


def test_sdd_fiqa_of_unequal_sides_in_closed_form() -> None:
    # a has one mate, at cosine 1, and three strangers, at 0, .6 and .8: WD = (1 + .4 + .2) / 3. b's cosines to its own
    # are {.6, .8}, {.8, .96} and {.6, .96}, to a's {0, 0}, {.6, .6} and {.8, .8}: WD = .7, .28 and .18.
    vectors = [[100, 0], [100, 0], [0, 100], [60, 80], [80, 60]]
    faces = faces_of([[*vector, 0, 0, 0, 0] for vector in vectors], list("aabbb"))
    distance = [1.6 / 3, 1.6 / 3, 0.7, 0.28, 0.18]
    scaled = [100 * (value - 0.18) / 0.52 for value in distance]
    assert SDDFIQA(pairs=3, repeats=2)(flat_teacher(), faces).tolist() == pytest.approx(scaled, abs=1e-4)


def test_the_sign_of_sdd_fiqa() -> None:
    # The last image of a looks like b.
    x, y = [100, 0, 0, 0, 0, 0], [60, 80, 0, 0, 0, 0]
    faces = faces_of([x, x, x, y, y, y, y], list("aaaabbb"))
    # WD of the three like x: {1, 1, .6} against {.6, .6, .6}, .8 / 3; of the odd one: .6 against 1, .4 whatever is
    # drawn; of b: {1, 1} against three of {.6, .6, .6, 1}, .4 or .8 / 3
    unsigned = SDDFIQA(pairs=3, repeats=20)(flat_teacher(), faces)
    signed = SDDFIQA(pairs=3, repeats=20, signed=True)(flat_teacher(), faces)
    assert unsigned.argmax() == 3 and unsigned[3] == pytest.approx(100.0)
    assert signed.argmin() == 3 and signed[3] == pytest.approx(0.0)


@pytest.mark.parametrize("source", SOURCES, ids=repr)
def test_scores_do_not_depend_on_the_order_of_the_set(source: QualitySource) -> None:
    faces, _, _ = drawn({"a": 3, "b": 4, "c": 4})
    order = np.random.default_rng(4).permutation(len(faces)).tolist()
    first = source(flat_teacher(), faces)
    assert np.array_equal(source(flat_teacher(), faces), first)
    assert source(flat_teacher(), faces.taken(order)).tolist() == pytest.approx(first[order].tolist(), rel=1e-6)


def test_the_draws_depend_on_the_seed() -> None:
    faces, _, _ = drawn({"a": 5, "b": 5})
    first, other = (SDDFIQA(pairs=1, repeats=1, seed=seed)(flat_teacher(), faces) for seed in (0, 1))
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("source", SOURCES, ids=repr)
def test_an_image_unlike_its_person_scores_least(source: QualitySource) -> None:
    rng = np.random.default_rng(3)
    a, b, halfway = [90, 0, 0, 0, 0, 0], [0, 90, 0, 0, 0, 0], [64, 64, 0, 0, 0, 0]
    vectors = np.array([a] * 6 + [b] * 6 + [halfway]) + rng.integers(-5, 5, (13, 6))
    faces = faces_of(vectors.tolist(), list("aaaaaabbbbbba"))
    assert source(flat_teacher(), faces).argmin() == 12


@pytest.mark.parametrize("source", SOURCES, ids=repr)
def test_people_with_one_image(source: QualitySource) -> None:
    faces, _, _ = drawn({"a": 3, "b": 1, "c": 1})
    name = type(source).__name__
    with pytest.raises(DataError, match=rf"{name} compares .* 2 of the 5 images of stand_ins have none"):
        source(flat_teacher(), faces)
    with pytest.raises(DataError, match="2 of the 5 images"):  # nobody knows who "?" is
        source(flat_teacher(), drawn({"a": 3, "?": 2})[0])


def test_one_person() -> None:
    faces, _, _ = drawn({"a": 3})
    assert MatedCosine()(flat_teacher(), faces).shape == (3,)
    for source in (CRFIQA(), SDDFIQA()):
        with pytest.raises(DataError, match="stand_ins has only one person"):
            source(flat_teacher(), faces)


def test_all_distances_equal() -> None:
    faces = faces_of([[9, 0, 0, 0, 0, 0]] * 2 + [[0, 9, 0, 0, 0, 0]] * 2, list("aabb"))
    with pytest.raises(DataError, match="the same SDD-FIQA distance, 1"):
        SDDFIQA()(flat_teacher(), faces)
