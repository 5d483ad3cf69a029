"""Labels: scaled, checked for direction, made once for each source, network and set."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdface.backbones import iresnet_nano
from kdface.datasets.degraded import JPEG, Pixels
from kdface.datasets.derived import Derived
from kdface.datasets.readable import Readable
from kdface.datasets.resized import Resized
from kdface.errors import UserError
from kdface.faces import FaceSet, Sample
from kdface.teachers import Teacher
from kdface.teachers.quality import SERFIQ, EmbeddingNorm, LabelFile, MatedCosine, QualitySource
from kdface.teachers.quality.labels import QualityLabels, identity, quality_labels
from kdface.teachers.quality.source import Options
from tests.teachers.quality.stand_ins import Faces, Linear, cosine, faces_of, flat_teacher, random_faces


@dataclass(frozen=True)
class Counted(Options):
    """The brightness of the image; counts how often it is asked."""

    asked: ClassVar[list[str]] = []
    factor: float = 1.0

    def __call__(self, teacher: Teacher, faces: FaceSet) -> NDArray[np.float64]:
        self.asked.append(faces.name)
        return np.array([self.factor * float(faces[row].image.mean()) for row in range(len(faces))])


class Given:
    """These scores."""

    def __init__(self, scores: Sequence[float]) -> None:
        self.scores = scores

    def __call__(self, teacher: Teacher, faces: FaceSet) -> NDArray[np.float64]:
        return np.array(self.scores, dtype=np.float64)


class RawBytes(Faces):
    """Images made from files, which are not what they show."""

    def __init__(self, images: NDArray[np.uint8], who: Sequence[str], files: NDArray[np.uint8]) -> None:
        super().__init__(images, who)
        self.files = files

    def raw_bytes(self, index: int) -> bytes:
        return bytes(self.files[index])


def strangers(count: int) -> Faces:
    """One image of each person: nothing to compare the direction with."""
    return random_faces(count, 1, (4, 6))


def teacher(seed: int = 1) -> Teacher:
    return Teacher(Linear((4, 6), seed=seed), strangers(1).preprocessing)


def test_a_direction_that_cannot_be_checked_is_told(caplog: pytest.LogCaptureFixture) -> None:
    quality_labels(Given([3.0, -1.0, 7.0, 1.0, 2.0]), teacher(), strangers(5))
    assert "Given on stand_ins: not checked that higher scores mean better images: 0 of 5 images have" in caplog.text
    caplog.clear()
    # each person's images are equal: all mean mated cosines are 1
    alike = faces_of([[9, 0, 0, 0, 0, 0]] * 3 + [[0, 9, 0, 0, 0, 0]] * 3, list("aaabbb"))
    quality_labels(Given([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), flat_teacher(), alike)
    assert "mean mated cosines, of 6 images are all equal" in caplog.text
    caplog.clear()
    faces, network, mated = agreeing()
    quality_labels(Given(mated.tolist()), network, faces)
    assert "not checked" not in caplog.text


def ranks(values: Sequence[float]) -> list[float]:
    return [sum(b < a for b in values) + (sum(b == a for b in values) - 1) / 2 for a in values]


def test_scaled_to_one(tmp_path: Path) -> None:
    labels = quality_labels(Given([3.0, -1.0, 7.0, 1.0]), teacher(), strangers(4), tmp_path)
    assert labels.quality.tolist() == [0.5, 0.0, 1.0, 0.25] and labels.quality.dtype == np.float32
    assert math.isnan(labels.rho) and labels.compared == 0


def test_rho_is_spearmans() -> None:
    rng = np.random.default_rng(7)
    vectors = rng.integers(-90, 90, (9, 6))
    who = list("aaaabbbbc")  # c has no mate and is left out
    scores = [5.0, 1.0, 1.0, 8.0, 2.0, 9.0, 4.0, 7.0, -3.0]
    z = vectors.astype(np.float64)
    mated = [np.mean([cosine(z[i], z[j]) for j in range(9) if j != i and who[j] == who[i]]) for i in range(8)]
    expected = np.corrcoef(ranks(scores[:8]), ranks([float(score) for score in mated]))[0, 1]
    assert expected > -2 / math.sqrt(8)
    labels = quality_labels(Given(scores), flat_teacher(), faces_of(vectors.tolist(), who))
    assert labels.rho == pytest.approx(expected, abs=1e-9) and labels.compared == 8


def agreeing() -> tuple[Faces, Teacher, NDArray[np.float64]]:
    """Twenty images of two people, and their mean mated cosines."""
    rng = np.random.default_rng(8)
    vectors = np.concatenate([np.array(c) + rng.integers(-60, 60, (10, 6)) for c in ([60] * 6, [-60, 60] * 3)])
    faces = faces_of(vectors.tolist(), ["a"] * 10 + ["b"] * 10)
    return faces, flat_teacher(), MatedCosine()(flat_teacher(), faces)


def test_the_source_and_the_check_of_its_direction_share_the_embeddings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faces, network, _ = agreeing()
    embedded: list[int] = []
    embed = Teacher.embed

    def watched(self: Teacher, images: Tensor) -> Tensor:
        embedded.append(len(images))
        return embed(self, images)

    monkeypatch.setattr(Teacher, "embed", watched)
    quality_labels(MatedCosine(), network, faces, tmp_path)
    assert sum(embedded) == len(faces)
    MatedCosine()(network, faces)  # afterwards everybody embeds for themselves again
    assert sum(embedded) == 2 * len(faces)


def test_direction(tmp_path: Path) -> None:
    faces, network, mated = agreeing()
    assert quality_labels(MatedCosine(), network, faces, tmp_path).rho == pytest.approx(1.0)
    with pytest.raises(UserError, match=r"Given runs the wrong way: over 20 images.*rho -1\.000") as error:
        quality_labels(Given((-mated).tolist()), network, faces, tmp_path)
    assert error.value.fix == "another source of quality, or method.check_direction=false"


@pytest.mark.parametrize(("low", "high", "passes"), [(-0.49, -0.45, False), (-0.44, -0.40, True)])
def test_only_a_clearly_wrong_direction_is_an_error(low: float, high: float, passes: bool) -> None:
    """Twenty images: the bound is -2 / sqrt(20) = -0.447."""
    faces, network, mated = agreeing()
    rng = np.random.default_rng(0)
    permutations = (rng.permutation(20).tolist() for _ in range(2000))
    scores, rho = next(
        (order, found)
        for order in permutations
        if low < (found := np.corrcoef(ranks(order), ranks(mated.tolist()))[0, 1]) < high
    )
    if passes:
        assert quality_labels(Given(scores), network, faces).rho == pytest.approx(rho, abs=1e-9)
    else:
        with pytest.raises(UserError, match=rf"the wrong way.*rho {rho:.3f}"):
            quality_labels(Given(scores), network, faces)


def test_a_file_that_runs_the_wrong_way_is_mended_by_flip(tmp_path: Path) -> None:
    faces, network, mated = agreeing()
    path = tmp_path / "labels.csv"
    rows = [f"{key},{-value}" for key, value in zip(faces.keys, mated.tolist(), strict=True)]
    path.write_text("\n".join(["key,quality", *rows]), encoding="utf-8")
    with pytest.raises(UserError, match="LabelFile runs the wrong way") as error:
        quality_labels(LabelFile(path), network, faces, tmp_path)
    assert error.value.fix.startswith("teacher.quality.flip=true, ")
    assert quality_labels(LabelFile(path, flip=True), network, faces, tmp_path).rho == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (Given([2.0, 2.0, 2.0]), "Given gives every image of stand_ins the score 2"),
        (
            Given([1.0, math.nan, math.inf]),
            "2 of 3 scores of stand_ins by Given are not finite, the first that of p1/001",
        ),
    ],
)
def test_scores_that_are_no_labels(source: QualitySource, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        quality_labels(source, teacher(), strangers(3), tmp_path)


def test_scores_of_another_shape() -> None:
    with pytest.raises(ValueError, match=r"Given returned scores of shape \(2,\), expected \(3,\)"):
        quality_labels(Given([1.0, 2.0]), teacher(), strangers(3))


def same(a: QualityLabels, b: QualityLabels) -> bool:
    return np.array_equal(a.quality, b.quality) and np.array_equal([a.rho], [b.rho], equal_nan=True)


def test_made_once(tmp_path: Path) -> None:
    Counted.asked.clear()
    faces = random_faces(3, 4, (4, 6))
    first = quality_labels(Counted(), teacher(), faces, tmp_path)
    again = quality_labels(Counted(), teacher(), random_faces(3, 4, (4, 6)), tmp_path)
    assert len(Counted.asked) == 1 and same(first, again) and first.compared == again.compared == 12
    (file,) = tmp_path.iterdir()  # nothing else is left
    with np.load(file, allow_pickle=False) as stored:
        assert set(stored) == {"scores", "rho", "compared"}


def test_made_anew_where_something_differs(tmp_path: Path) -> None:
    Counted.asked.clear()
    faces = strangers(6)
    altered = strangers(6)
    altered.images[3, 0, 0, 0] ^= 1
    calls: list[tuple[Counted, Teacher, Faces]] = [
        (Counted(), teacher(), faces),
        (Counted(factor=2.0), teacher(), faces),
        (Counted(), teacher(seed=2), faces),
        (Counted(), teacher(), altered),
        (Counted(), teacher(), faces.taken([1, 0, 2, 3, 4, 5])),
    ]
    for _ in range(2):
        for source, network, images in calls:
            labels = quality_labels(source, network, images, tmp_path)
            brightness = images.images.reshape(6, -1).mean(1)
            expected = (brightness - brightness.min()) / np.ptp(brightness)
            assert labels.quality.tolist() == pytest.approx(expected.tolist(), abs=1e-6)
    assert len(Counted.asked) == len(list(tmp_path.iterdir())) == 5


def test_changed_images_have_labels_of_their_own(tmp_path: Path) -> None:
    """The bytes beneath and the preprocessing are equal, the pixels are not."""
    Counted.asked.clear()
    faces = random_faces(6, 1, (16, 16))
    alike = RawBytes(faces.images.reshape(6, 8, 2, 8, 2, 3)[:, :, 0, :, 0], list(faces.people), faces.images)
    large = RawBytes(faces.images, list(faces.people), faces.images)
    sets: list[FaceSet] = [
        large,
        JPEG(large, 10),
        JPEG(large, 90),
        Pixels(large, 64),
        Pixels(large, 16),
        JPEG(Pixels(large, 16), 10),
        Pixels(JPEG(large, 10), 16),
        alike,
        Resized(large, (8, 8)),
        Resized(Resized(large, (4, 4)), (8, 8)),
    ]
    asker = Teacher(Linear((16, 16)), large.preprocessing)
    for _ in range(2):
        for images in sets:
            labels = quality_labels(Counted(), asker, images, tmp_path, check_direction=False)
            brightness = np.array([images[row].image.mean() for row in range(len(images))])
            expected = (brightness - brightness.min()) / np.ptp(brightness)
            assert labels.quality.tolist() == pytest.approx(expected.tolist(), abs=1e-6)
    assert len(Counted.asked) == len(list(tmp_path.iterdir())) == len(sets)
    quality_labels(Counted(), asker, Readable(large), tmp_path)
    assert len(Counted.asked) == len(sets)  # the same images


def test_images_changed_by_who_knows_what_are_not_kept(tmp_path: Path) -> None:
    class Darker(Derived):
        def __init__(self, dataset: FaceSet) -> None:
            super().__init__(dataset)
            self.preprocessing = dataset.preprocessing

        def __getitem__(self, index: int) -> Sample:
            sample = self.dataset[index]
            return Sample(sample.image // 2, sample.label, sample.key)

    quality_labels(Counted(), teacher(), Darker(strangers(6)), tmp_path)
    assert not list(tmp_path.iterdir())


def test_labels_of_two_rates_of_dropout_are_two(tmp_path: Path) -> None:
    """The rate is no weight, and a run's record and the file of scores tell it apart all the same."""
    faces = random_faces(3, 2, (32, 32))
    found, names = [], []
    for rate in (0.4, 0.1):
        torch.manual_seed(3)
        network = iresnet_nano(12, rate, (32, 32), (8, 8, 8, 8), (1, 1, 1, 1))
        for source in (SERFIQ(passes=5), SERFIQ(passes=5, dropout=0.4)):
            asked = Teacher(network, faces.preprocessing, source)
            found.append(quality_labels(source, asked, faces, tmp_path, check_direction=False))
            names.append(identity(asked))
    assert not same(found[0], found[2]) and names[0] != names[2]
    assert same(found[1], found[3]) and names[1] == names[3]  # an imposed rate is the source's option
    assert len(list(tmp_path.iterdir())) == 3


def test_a_wrong_direction_is_refused_unless_it_is_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    faces, network, mated = agreeing()
    scores = (-mated).tolist()
    with pytest.raises(UserError, match="runs the wrong way") as told:
        quality_labels(Given(scores), network, faces)
    assert "method.check_direction=false" in told.value.fix
    labels = quality_labels(Given(scores), network, faces, check_direction=False)
    assert labels.rho < -0.9 and "runs the wrong way" in caplog.text


def test_a_file_cut_off_is_made_again(tmp_path: Path) -> None:
    Counted.asked.clear()
    first = quality_labels(Counted(), teacher(), strangers(5), tmp_path)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    for broken in (whole[: len(whole) // 2], b"", b"nothing of the kind"):
        file.write_bytes(broken)
        assert same(quality_labels(Counted(), teacher(), strangers(5), tmp_path), first)
    assert len(Counted.asked) == 4 and file.read_bytes() == whole


def test_a_changed_label_file_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    for second, expected in (("2", [0.0, 0.5, 1.0]), ("3", [0.0, 1.0, 1.0])):
        path.write_text(f"key,quality\np0/000,1\np1/001,{second}\np2/002,3\n", encoding="utf-8")
        assert quality_labels(LabelFile(path), teacher(), strangers(3), tmp_path / "kept").quality.tolist() == expected


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    blocked = tmp_path / "a file"
    blocked.touch()
    labels = quality_labels(Counted(), teacher(), strangers(4), blocked / "folder")
    assert labels.quality.min() == 0.0 and labels.quality.max() == 1.0


def test_the_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KDFACE_CACHE", str(tmp_path))
    quality_labels(EmbeddingNorm(), teacher(), strangers(3))
    assert [path.name.startswith("quality-EmbeddingNorm-") for path in tmp_path.iterdir()] == [True]
    assert torch.is_grad_enabled()
