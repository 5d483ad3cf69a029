"""The quality protocol: whose quality, whose embeddings, and what its metrics are called."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from kdface.datasets.derived import Rows
from kdface.errors import DataError, UserError
from kdface.evaluation.edc import DiscardPolicy, bootstrap_error_discard, error_discard
from kdface.evaluation.embed import Embedder
from kdface.evaluation.people import people_of
from kdface.evaluation.protocol import Verification, random_verification
from kdface.evaluation.quality import QualityEDC, QualityOutcome, spearman
from kdface.evaluation.scores import cosine_scores
from kdface.faces import FaceSet, Preprocessing, Sample
from kdface.teachers import Teacher
from kdface.training.test_sets import check_test_sets
from tests.datasets.test_loading import Noise
from tests.methods.test_distillation import small_network

POLICY = DiscardPolicy(fmr=0.25)  # two of eight impostor pairs


class Dimmed(Noise):
    """The same images, darker."""

    name = "noise:dimmed"

    def __getitem__(self, index: int) -> Sample:
        sample = super().__getitem__(index)
        return Sample(sample.image // 2, sample.label, sample.key)


def _test() -> Verification:
    return random_verification(Noise(), folds=2, pairs_per_fold=8)


def _network(images: torch.Tensor, kind: Preprocessing | None = None) -> torch.Tensor:
    """Cosines that tell people apart no better than noise."""
    return images.reshape(len(images), -1).float()[:, :24] - 60.0


def _brightness(images: torch.Tensor, kind: Preprocessing) -> torch.Tensor:
    return images.float().mean(dim=(1, 2, 3))


def _contrast(teacher: Teacher, faces: FaceSet) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return np.array([faces[row].image.std() for row in range(len(faces))])


def _embedder() -> Embedder:
    return Embedder(_network, quality_network=_brightness)


def _embeddings(dataset: Noise, keys: list[str]) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """f(image) + f(mirror), computed here."""
    rows = [dataset[dataset.keys.index(key)].image for key in keys]
    both = [np.concatenate([_network(torch.from_numpy(row.copy()[None])).numpy()]) for row in rows]
    mirrored = [_network(torch.from_numpy(row[:, ::-1].copy()[None])).numpy() for row in rows]
    return np.concatenate([a + b for a, b in zip(both, mirrored, strict=True)]).astype(np.float64)


def _values(outcome: QualityOutcome) -> dict[str, float | None]:
    return {name: metric.value for name, metric in outcome.metrics.items()}


def test_an_image_is_read_once_to_be_recognised_and_graded() -> None:
    read: list[tuple[str, str]] = []

    class Counted(Dimmed):
        def __getitem__(self, index: int) -> Sample:
            read.append((self.name, str(self.keys[index])))
            return super().__getitem__(index)

    aligned, darker = Counted(), Counted()
    aligned.name = "noise"
    test = random_verification(aligned, folds=2, pairs_per_fold=8)
    embed, keys = _embedder(), set(test.pairs.keys())
    for quality in (QualityEDC(test, policy=POLICY), QualityEDC(test, darker, policy=POLICY)):
        quality.evaluate(embed)
    assert sorted(read) == sorted((name, key) for name in ("noise", "noise:dimmed") for key in keys)


@pytest.mark.parametrize("interval", ["people", "images", "pairs"])
def test_aligned_images(interval: Literal["people", "images", "pairs"]) -> None:
    test = _test()
    outcome = QualityEDC(test, policy=POLICY, resamples=50, seed=4, interval=interval).evaluate(_embedder())
    keys = test.pairs.keys()
    left, right = test.pairs.rows(keys)
    embeddings = _embeddings(Noise(), keys)
    quality = np.array([Noise()[Noise().keys.index(key)].image.astype(np.float32).mean() for key in keys])
    worst = np.minimum(quality[left], quality[right])
    scores = cosine_scores(embeddings[left], embeddings[right])
    curve = error_discard(scores, test.pairs.same, worst, POLICY)
    people = people_of(Noise())
    owners = ([people[key] for key in test.pairs.left], [people[key] for key in test.pairs.right])
    units = {"people": owners, "images": (left, right), "pairs": None}[interval]
    spread = bootstrap_error_discard(scores, test.pairs.same, worst, POLICY, resamples=50, seed=4, units=units)

    assert list(outcome.metrics) == ["pauc@0.2", "pauc@0.3", "fnmr"]
    assert 0 < curve.errors[0] < 1
    for name, value in (("pauc@0.2", curve.pauc(0.2)), ("pauc@0.3", curve.pauc(0.3)), ("fnmr", curve.errors[0])):
        assert outcome.metrics[f"{name}"].value == pytest.approx(value)
        assert outcome.metrics[f"{name}"].std is None
    told = outcome.metrics["pauc@0.3"].to_dict()
    assert (told["low"], told["high"]) == pytest.approx(spread.pauc[0.3])
    assert outcome.metrics["fnmr"].to_dict()["low"] == pytest.approx(spread.low[0])
    assert outcome.pair_quality == pytest.approx(worst)
    assert outcome.scores == pytest.approx(scores)
    assert outcome.keys == keys and outcome.quality == pytest.approx(quality, rel=1e-5)
    assert len(outcome.aligned_quality) == 0
    assert outcome.counts == {"pairs": 16, "images": len(keys), "images_embedded": len(keys)}
    assert outcome.symptoms == []
    for key, choice in {"fmr": 0.25, "threshold": "fixed", "discard": "all", "ties": "group", "seed": 4}.items():
        assert outcome.choices[key] == choice
    assert outcome.choices["quality_of"] == outcome.choices["embeddings_of"] == "noise"


@pytest.mark.parametrize("recompute", [True, False])
def test_perturbed_images(recompute: bool) -> None:
    test = _test()
    dimmed = Dimmed()
    protocol = QualityEDC(test, dimmed, recompute, policy=POLICY, resamples=0)
    assert protocol.dataset is dimmed and protocol.datasets[1] is dimmed
    outcome = protocol.evaluate(_embedder())
    kind = "recomputed" if recompute else "aligned"
    assert list(outcome.metrics) == [
        f"{kind}_embeddings/pauc@0.2",
        f"{kind}_embeddings/pauc@0.3",
        f"{kind}_embeddings/fnmr",
        "spearman_aligned",
        "mad_aligned",
    ]
    keys = test.pairs.keys()
    left, right = test.pairs.rows(keys)
    embeddings = _embeddings(dimmed if recompute else Noise(), keys)
    assert outcome.scores == pytest.approx(cosine_scores(embeddings[left], embeddings[right]))
    images = [Noise()[Noise().keys.index(key)].image for key in keys]
    before, after = (np.array([(image // part).mean() for image in images]) for part in (1, 2))
    assert outcome.quality == pytest.approx(after) and outcome.aligned_quality == pytest.approx(before)
    assert outcome.metrics["spearman_aligned"].value == pytest.approx(spearmanr(before, after).statistic)
    assert outcome.metrics["mad_aligned"].value == pytest.approx(np.abs(before - after).mean(), rel=1e-5)
    assert outcome.choices["embeddings_of"] == ("noise:dimmed" if recompute else "noise")
    assert outcome.choices["quality_of"] == "noise:dimmed"


class Frozen:
    """A recognition network that counts the images it is given."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        self.preprocessing = preprocessing
        self.fingerprint = "abc"
        self.images = 0
        self.device: object = None

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        self.images += len(images)
        return images.reshape(len(images), -1).float()[:, 50:80] - 127

    def to(self, device: torch.device | str) -> Frozen:
        self.device = device
        return self


def test_a_frozen_network_recognises_once_for_all_evaluations() -> None:
    frozen = Frozen(Preprocessing(size=(8, 8), color="bgr", mean=0.0, std=1.0))  # how it sees pixels is its own affair
    test = _test()
    protocol = QualityEDC(test, recognition=frozen, policy=POLICY, resamples=0)
    own = QualityEDC(test, policy=POLICY, resamples=0).evaluate(_embedder())
    first = protocol.evaluate(_embedder())
    second = protocol.evaluate(_embedder())
    assert frozen.images == 2 * len(test.pairs.keys())  # each image and its mirror
    assert str(frozen.device) == "cpu"
    assert np.array_equal(first.scores, second.scores) and not np.allclose(first.scores, own.scores)
    assert first.pair_quality == pytest.approx(own.pair_quality)
    assert first.choices["recognition"] == "weights abc" and own.choices["recognition"] == "the run's own network"


def test_a_source_grades_in_place_of_the_network() -> None:
    grader = Teacher(small_network(), Noise().preprocessing, quality=_contrast)
    own = QualityEDC(_test(), policy=POLICY, resamples=0).evaluate(_embedder())
    graded = QualityEDC(_test(), grader=grader, policy=POLICY, resamples=0).evaluate(_embedder())
    dataset = Noise()
    expected = [float(dataset[dataset.keys.index(key)].image.std()) for key in graded.keys]
    np.testing.assert_allclose(graded.quality, expected, rtol=1e-12)
    assert graded.choices["grader"] == "function"
    np.testing.assert_array_equal(graded.scores, own.scores)


class _Mated:
    """A source that looks at every image of a set."""

    needs_mates = True

    def __call__(self, teacher: Teacher, faces: FaceSet) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        contrast = _contrast(teacher, faces)
        centred: np.ndarray[tuple[int, ...], np.dtype[np.float64]] = contrast - contrast.mean()
        return centred


@pytest.mark.parametrize("in_pairs", [True, False])
@pytest.mark.parametrize("source", [_contrast, _Mated()], ids=["alone", "mated"])
def test_broken_images_are_not_graded(source: Any, in_pairs: bool) -> None:
    dataset = Noise()
    test = random_verification(dataset, folds=2, pairs_per_fold=4)
    paired = test.pairs.keys()
    unpaired = next(row for row, key in enumerate(dataset.keys) if key not in paired)
    broken = dataset.keys.index(test.pairs.left[0]) if in_pairs else unpaired  # each fold keeps both kinds
    dataset.broken = (broken,)
    grader = Teacher(small_network(), dataset.preprocessing, quality=source)
    protocol = QualityEDC(test, grader=grader, policy=POLICY, resamples=0)
    if in_pairs or source is not _contrast:
        with pytest.raises(DataError, match="1 of"):
            check_test_sets({"evaluation.edc": protocol}, "raise", full=True)
    check_test_sets({"evaluation.edc": protocol}, "skip")
    outcome = protocol.evaluate(_embedder())
    assert outcome.keys and dataset.keys[broken] not in outcome.keys
    whole = Rows(dataset, np.delete(np.arange(20), broken))
    expected = dict(zip(whole.keys, source(grader, whole), strict=True))
    np.testing.assert_allclose(outcome.quality, [expected[key] for key in outcome.keys], rtol=1e-12)


def test_a_recognition_network_for_other_crops_is_refused() -> None:
    with pytest.raises(UserError, match="the recognition network and noise"):
        QualityEDC(_test(), recognition=Frozen(Preprocessing(size=(16, 16))))


def test_too_few_impostor_pairs_are_not_available() -> None:
    outcome = QualityEDC(_test(), policy=DiscardPolicy(1e-3)).evaluate(_embedder())
    assert _values(outcome) == {"pauc@0.2": None, "pauc@0.3": None, "fnmr": None}
    assert outcome.metrics["fnmr"].to_dict() == {"value": None}
    assert len(outcome.scores) == 16  # curves of recognition can still be drawn


def test_recognition_without_an_error_has_no_area() -> None:
    people = {Noise()[i].image.tobytes(): i % 4 for i in range(20)}
    people |= {np.ascontiguousarray(Noise()[i].image[:, ::-1]).tobytes(): i % 4 for i in range(20)}
    embed = Embedder(
        lambda images, _: torch.eye(4)[[people[image.numpy().tobytes()] for image in images]],
        quality_network=_brightness,
    )
    values = _values(QualityEDC(_test(), policy=POLICY, resamples=20).evaluate(embed))
    assert values == {"pauc@0.2": None, "pauc@0.3": None, "fnmr": 0.0}


def test_what_is_worth_nothing_has_symptoms() -> None:
    constant = Embedder(_network, quality_network=lambda images, _: torch.ones(len(images)))
    outcome = QualityEDC(_test(), Dimmed(), policy=POLICY, resamples=20).evaluate(constant)
    assert any("have the quality 1" in symptom for symptom in outcome.symptoms)
    assert outcome.metrics["recomputed_embeddings/pauc@0.3"].value == pytest.approx(1)
    assert outcome.metrics["spearman_aligned"].value is None

    broken = Embedder(_network, quality_network=lambda images, _: torch.full((len(images),), torch.nan))
    outcome = QualityEDC(_test(), Dimmed(), policy=POLICY, resamples=20).evaluate(broken)
    assert any("not finite" in symptom for symptom in outcome.symptoms)
    assert set(_values(outcome).values()) == {None}

    dead = Embedder(lambda images, _: torch.zeros(len(images), 4), quality_network=_brightness)
    outcome = QualityEDC(_test(), policy=POLICY, resamples=20).evaluate(dead)
    assert outcome.symptoms and set(_values(outcome).values()) == {None}


def test_a_network_without_quality_is_told() -> None:
    with pytest.raises(UserError, match="no face-image quality"):
        QualityEDC(_test(), policy=POLICY).evaluate(Embedder(_network))


def test_pairs_across_two_sets_are_refused() -> None:
    test = random_verification(Noise(), folds=2, pairs_per_fold=8, probes=Dimmed())
    with pytest.raises(UserError, match="probes"):
        QualityEDC(test)


def test_perturbed_images_must_be_those_of_the_pairs() -> None:
    class Fewer(Dimmed):
        keys = Noise.keys[:3]

    with pytest.raises(UserError, match="images of the pairs are not in noise:dimmed"):
        QualityEDC(_test(), Fewer())


def test_spearman_shares_ranks_among_equals() -> None:
    """Ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4: Pearson of these is 4.5 / sqrt(4.5 * 5)."""
    found = spearman(np.array([0.0, 5.0, 5.0, 6.0]), np.array([1.0, 2.0, 3.0, 100.0]))
    assert found == pytest.approx(4.5 / np.sqrt(4.5 * 5))
    assert spearman(np.ones(3), np.arange(3.0)) is None
