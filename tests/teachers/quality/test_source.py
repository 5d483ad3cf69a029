"""What the sources share: options held to their types, crops that fit, embeddings that have a direction."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from kdface.errors import UserError
from kdface.faces import Preprocessing
from kdface.teachers import Teacher
from kdface.teachers.quality import (
    CRFIQA,
    FROQ,
    SDDFIQA,
    SERFIQ,
    EmbeddingNorm,
    FaceQAN,
    GraFIQs,
    LabelFile,
    MatedCosine,
    QualitySource,
)
from kdface.teachers.quality.source import batches, unit_embeddings
from tests.teachers.quality.stand_ins import Flat, Linear, faces_of, flat_teacher, random_faces


def test_every_source_is_one() -> None:
    sources = [CRFIQA(), EmbeddingNorm(), FaceQAN(), FROQ(), GraFIQs(), MatedCosine(), SDDFIQA(), SERFIQ()]
    assert all(isinstance(source, QualitySource) for source in [*sources, LabelFile(Path("labels.csv"))])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: SERFIQ(passes=1), "SERFIQ: passes is 1"),
        (lambda: SERFIQ(dropout=1.0), "SERFIQ: dropout is 1.0"),
        (lambda: SERFIQ(dropout=0.0), "SERFIQ: dropout is 0.0"),
        (lambda: SDDFIQA(pairs=0), "SDDFIQA: pairs is 0"),
        (lambda: SDDFIQA(signed="no"), "SDDFIQA: signed is 'no'"),  # type: ignore[arg-type]
        (lambda: FaceQAN(epsilon=0.0), "FaceQAN: epsilon is 0.0"),
        (lambda: FaceQAN(exponent=0), "FaceQAN: exponent is 0"),
        (lambda: FROQ(grid=0), "FROQ: grid is 0"),
        (lambda: GraFIQs(stage=2), "GraFIQs: stage is 2"),  # type: ignore[arg-type]
        (lambda: LabelFile("labels.csv"), "LabelFile: path is 'labels.csv'"),  # type: ignore[arg-type]
    ],
)
def test_impossible_options(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


def test_batches_cover_the_set_in_order() -> None:
    faces = random_faces(5, 3, (4, 4))
    seen = list(batches(Teacher(Linear((4, 4)), faces.preprocessing), faces, "test", size=4))
    assert [rows.tolist() for rows, _ in seen] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [12, 13, 14]]
    assert np.array_equal(torch.cat([images for _, images in seen]).numpy(), faces.images)


def test_crops_of_another_size_or_template() -> None:
    faces = random_faces(2, 2, (4, 4))
    for other in (Preprocessing(size=(4, 6)), Preprocessing(template="other", size=(4, 4))):
        with pytest.raises(UserError, match=r"the teacher and stand_ins do not see the same kind of image"):
            EmbeddingNorm()(Teacher(Linear((4, 4)), other), faces)
    scaled = Preprocessing(size=(4, 4), color="bgr", mean=0.0, std=255.0)  # which is the teacher's own work
    assert EmbeddingNorm()(Teacher(Linear((4, 4)), scaled), faces).shape == (4,)


def test_unit_embeddings() -> None:
    faces = faces_of([[3, 0, 4, 0, 0, 0], [0, -5, 0, 0, 0, 12]], ["a", "a"])
    expected = np.array([[0.6, 0, 0.8, 0, 0, 0], [0, -5 / 13, 0, 0, 0, 12 / 13]], dtype=np.float32)
    assert np.array_equal(unit_embeddings(flat_teacher(), faces), expected)


def test_embedding_without_direction() -> None:
    faces = faces_of([[3, 0, 4, 0, 0, 0], [0] * 6, [1] * 6], ["a", "b", "b"])
    with pytest.raises(UserError, match=r"1 of 3 embeddings of stand_ins .* the first that of b/001"):
        unit_embeddings(flat_teacher(), faces)


def test_embedding_norm() -> None:
    vectors = [[3, 0, 4, 0, 0, 0], [1, 1, 1, 1, 0, 0], [0] * 6, [-100, 100, 1, 0, 0, 7]]
    found = EmbeddingNorm()(flat_teacher(), faces_of(vectors, list("abcd")))
    assert found.tolist() == pytest.approx([5.0, 2.0, 0.0, (20000 + 50) ** 0.5], rel=1e-7)
    assert found.dtype == np.float64


def test_the_teacher_is_left_as_it_was() -> None:
    network = Flat()
    teacher = Teacher(network, flat_teacher().preprocessing)
    faces = faces_of([[3, 0, 4, 1, 2, 9], [1, 1, 1, 1, 5, 8]], ["a", "a"])
    state = torch.get_rng_state()
    for source in (EmbeddingNorm(), MatedCosine(), FaceQAN(copies=2), FROQ(grid=1)):
        source(teacher, faces)
    assert torch.equal(torch.get_rng_state(), state) and not network.training
