"""Protocols through their public face: metrics named by protocol, counts, symptoms."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from kdface.errors import DataError, UserError
from kdface.evaluation import Embedder, PairList, Verification, lfw_verification, mfr2_verification, random_verification
from kdface.faces import Preprocessing, Sample
from tests.datasets.test_loading import Noise


def _by_person(images: torch.Tensor, kind: Preprocessing) -> torch.Tensor:
    """A perfect network: the noise of image i is seeded by i, so its bytes tell the person (i modulo 4)."""
    index = {Noise()[i].image.tobytes(): i for i in range(20)} | {
        np.ascontiguousarray(Noise()[i].image[:, ::-1]).tobytes(): i for i in range(20)
    }
    people = [index[image.numpy().tobytes()] % 4 for image in images]
    return torch.eye(4)[people] + 0.01 * torch.rand(len(people), 4, generator=torch.Generator().manual_seed(0))


def test_a_perfect_network() -> None:
    outcome = random_verification(Noise(), folds=2, pairs_per_fold=8, fars=(0.25, 1e-3)).evaluate(Embedder(_by_person))
    values = {key: metric.value for key, metric in outcome.metrics.items()}
    separation = {key: values.pop(f"{key}") for key in ("genuine_mean", "impostor_mean", "fdr")}
    assert separation["genuine_mean"] == pytest.approx(1.0, abs=0.01)
    assert separation["impostor_mean"] == pytest.approx(0.0, abs=0.02)
    assert 0 <= values.pop("reached_far@far=2.5e-1") <= 1  # type: ignore[operator]
    assert values == {
        "accuracy": 1.0,
        "accuracy_exact": 1.0,
        "val@far=2.5e-1": 1.0,
        "val@far=1e-3": None,
        "reached_far@far=1e-3": None,
        "eer": 0.0,
        "auc": 1.0,
        "tar@far=2.5e-1": 1.0,
        "tar@far=1e-3": None,  # eight impostor pairs cannot resolve it
        "fmr100": None,
        "fmr1000": None,
    }
    assert outcome.metrics["accuracy"].std == 0.0
    assert outcome.counts["pairs"] == 16
    assert outcome.symptoms == []


@pytest.mark.parametrize("value", [0.0, 1.0, float("nan")])
def test_a_dead_network_has_symptoms(value: float) -> None:
    verification = random_verification(Noise(), folds=2, pairs_per_fold=8)
    outcome = verification.evaluate(Embedder(lambda images, kind: torch.full((len(images), 4), value)))
    assert outcome.symptoms
    if value != 1.0:
        assert outcome.metrics["accuracy"].value is None


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


class FewPeople(Noise):
    """P1 to P4, five images each."""

    keys: Sequence[str] = [f"P{1 + index % 4}/P{1 + index % 4}_{1 + index // 4}.png" for index in range(20)]


@pytest.mark.parametrize(("genuine", "impostors", "folds"), [(4, 12, 4), (12, 3, 3), (2, 2, 2)])
def test_under_ten_pairs_of_a_kind_make_fewer_folds(tmp_path: Path, genuine: int, impostors: int, folds: int) -> None:
    """As many folds as the kind with fewer pairs has; each fold has pairs of both kinds, and the numbers come out."""
    lines = ["P1 1 2", "P2 1 2", "P3 1 2", "P4 1 2"] * 3
    lines = lines[:genuine] + [f"P1 1 P{2 + place % 3} {1 + place // 6}" for place in range(impostors)]
    (tmp_path / "pairs.txt").write_text("\n".join(lines), encoding="utf-8")
    test = mfr2_verification(FewPeople(), tmp_path / "pairs.txt")
    assert test.pairs.fold is not None
    for kind in (True, False):
        assert set(test.pairs.fold[test.pairs.same == kind]) == set(range(folds))
    assert test.evaluate(Embedder(_by_person)).metrics["accuracy"].value == 1


def test_one_pair_of_a_kind_makes_no_folds(tmp_path: Path) -> None:
    (tmp_path / "pairs.txt").write_text("P1 1 2\nP1 1 P2 1\nP1 2 P2 2\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"pairs\.txt: 1 pairs of one person and 2 of two cannot be cut into folds"):
        mfr2_verification(FewPeople(), tmp_path / "pairs.txt")


class Angles(Noise):
    """Image i is black but for one pixel, which tells an angle in degrees: its embedding points there."""

    def __init__(self, angles: Sequence[int], name: str) -> None:
        self.angles = angles
        self.name = name
        self.keys = [f"{i:02d}" for i in range(len(angles))]
        self.labels = np.zeros(len(angles), dtype=np.int64)

    def __len__(self) -> int:
        return len(self.angles)

    def __getitem__(self, index: int) -> Sample:
        image = np.zeros((4, 4, 3), dtype=np.uint8)
        image[:, :, 0] = self.angles[index]
        return Sample(image, 0, self.keys[index])


SAME, FOLD = np.array([True, True, False, False]), np.array([0, 1, 0, 1])


def _pointing(images: torch.Tensor, kind: Preprocessing) -> torch.Tensor:
    angle = torch.deg2rad(images[:, 0, 0, 0].float())
    return torch.stack([angle.cos(), angle.sin()], dim=1)


def test_the_second_image_of_a_pair_comes_from_the_probes() -> None:
    """Scores by hand: cosines of 0, 60, 90 and 120 degrees, where the probes alone, or the first set, give others."""
    gallery, probes = Angles([0, 10, 20, 30], "bare"), Angles([0, 70, 110, 150], "masked")
    pairs = PairList(("00", "01", "02", "03"), ("00", "01", "02", "03"), SAME, FOLD)
    outcome = Verification(gallery, pairs, fars=(0.5,), probes=probes).evaluate(Embedder(_pointing))
    assert outcome.scores == pytest.approx([1.0, 0.5, 0.0, -0.5], abs=1e-6)
    values = {key: metric.value for key, metric in outcome.metrics.items()}
    assert values["genuine_mean"] == pytest.approx(0.75)
    assert values["impostor_mean"] == pytest.approx(-0.25)
    assert values["fdr"] == pytest.approx(1.0 / (0.0625 + 0.0625))  # gap 1, variances (0.25)^2 each
    assert outcome.counts == {"pairs": 4, "folds": 2, "images": 8, "images_embedded": 8}


def test_probes_that_lack_an_image() -> None:
    pairs = PairList(("00", "03"), ("00", "03"), np.array([True, False]), None)
    with pytest.raises(UserError, match="are not in masked: 03"):
        Verification(Angles([0, 1, 2, 3], "bare"), pairs, probes=Angles([0, 1], "masked"))


def test_the_published_half_split_masks_both_images_of_the_second_half() -> None:
    gallery, probes = Angles([0, 10, 20, 30], "bare"), Angles([0, 70, 110, 150], "masked")
    pairs = PairList(("00", "02", "00", "01"), ("01", "03", "02", "03"), SAME[[0, 2, 1, 3]], np.array([0, 0, 1, 1]))
    protocol = Verification(gallery, pairs, fars=(0.5,), probes=probes, official_half_split=True)
    scores = protocol.evaluate(Embedder(_pointing)).scores
    angles = [10, 10, 110, 80]  # 0 and 10, 20 and 30 of the bare; 0 and 110, 70 and 150 of the masked
    assert scores == pytest.approx(np.cos(np.deg2rad(angles)), abs=1e-6)


class Turned:
    """A frozen network that turns every image by so many degrees more than `_pointing` does."""

    def __init__(self, degrees: float, size: tuple[int, int] = (8, 8), length: int = 2) -> None:
        self.preprocessing = Preprocessing(size=size)
        self.degrees = degrees
        self.length = length

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        angle = torch.deg2rad(images[:, 0, 0, 0].float() + self.degrees)
        return torch.stack([angle.cos(), angle.sin()] + [torch.zeros_like(angle)] * (self.length - 2), dim=1)

    def to(self, device: torch.device | str) -> Turned:
        return self


@pytest.mark.parametrize(("first", "second"), [(False, True), (True, False), (True, True), (False, False)])
def test_either_image_may_be_embedded_by_a_frozen_network(first: bool, second: bool) -> None:
    """Scores by hand: cosines of the angles between the images, an old network adding 30 degrees."""
    faces, old = Angles([0, 10, 30, 60], "faces"), Turned(30)
    pairs = PairList(("00", "01", "00", "03"), ("01", "02", "03", "01"), SAME, FOLD)
    outcome = Verification(
        faces, pairs, fars=(0.5,), recognition=old if first else None, probe_recognition=old if second else None
    ).evaluate(Embedder(_pointing))
    apart = np.array([10, 20, 60, -50]) + 30 * (second - first)
    assert outcome.scores == pytest.approx(np.cos(np.deg2rad(apart)), abs=1e-6)
    assert outcome.counts["images_embedded"] == outcome.counts["images"] == (4 if first == second else 3 + 3)


def test_a_frozen_network_for_other_images_or_with_longer_embeddings() -> None:
    faces = Angles([0, 10, 30, 60], "faces")
    pairs = PairList(("00", "01", "00", "03"), ("01", "02", "03", "01"), SAME, FOLD)
    with pytest.raises(UserError, match="the recognition network and faces"):
        Verification(faces, pairs, probe_recognition=Turned(30, size=(4, 4)))
    mixed = Verification(faces, pairs, probe_recognition=Turned(30, length=3))
    with pytest.raises(UserError, match="have 2 and 3 components"):
        mixed.evaluate(Embedder(_pointing))


def test_val_at_a_far_has_a_spread_and_a_standard_error_over_the_folds() -> None:
    """Angles of two folds: genuine 10 and 50, 20 and 60, impostors 40 and 90, 30 and 80; distances rise with the angle.

    FAR .5 lets in one impostor of the other fold: fold 0 is judged at 60, the last under the impostor of 80; fold 1 at
    50, the last under 90. VAL: 2/2 and 1/2, FAR 1/2 and 1/2.
    """
    faces = Angles([0, 10, 50, 20, 60, 40, 90, 30, 80], "faces")
    pairs = PairList(
        ("00",) * 8,
        tuple(f"{place:02d}" for place in range(1, 9)),
        np.repeat([True, False], 4),
        np.tile(np.repeat([0, 1], 2), 2),
    )
    metrics = Verification(faces, pairs, fars=(0.5,)).evaluate(Embedder(_pointing)).metrics
    val, reached = metrics["val@far=5e-1"].to_dict(), metrics["reached_far@far=5e-1"]
    assert val == pytest.approx({"value": 0.75, "std": 0.25, "standard_error": 0.25})
    assert (reached.value, reached.std) == (0.5, 0.0)
    accuracy = metrics["accuracy_exact"]
    assert accuracy.std is not None and accuracy.standard_error == pytest.approx(accuracy.std)  # of two folds
