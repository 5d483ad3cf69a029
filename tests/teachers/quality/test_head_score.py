"""The head's own score: CR-FIQA's regression and MagFace's norm, against their formulas."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from kdface.errors import UserError
from kdface.heads import CRFIQA, ArcFace, MagFace
from kdface.teachers import Teacher
from kdface.teachers.quality import HeadScore
from kdface.teachers.quality.labels import identity, quality_labels
from tests.teachers.quality.stand_ins import faces_of, flat_teacher

VECTORS = [[3, 4, 0, 0, 0, 0], [0, 0, -5, 12, 0, 0], [1, 1, 1, 1, 1, 1]]


def test_the_regression_of_crfiqa() -> None:
    teacher = flat_teacher()
    head = CRFIQA(6, 2)
    teacher.head = head
    weight, bias = (parameter.detach().double().numpy() for parameter in (head.regressor.weight, head.regressor.bias))
    expected = np.array(VECTORS, dtype=np.float64) @ weight[0] + bias
    assert HeadScore()(teacher, faces_of(VECTORS, "abc")).tolist() == pytest.approx(expected.tolist(), rel=1e-5)


def test_the_norm_of_magface() -> None:
    teacher = flat_teacher()
    teacher.head = MagFace(6, 2)
    assert HeadScore()(teacher, faces_of(VECTORS, "abc")).tolist() == pytest.approx([5.0, 13.0, 6**0.5], rel=1e-6)


def test_a_teacher_without_a_score() -> None:
    teacher = flat_teacher()
    with pytest.raises(UserError, match="this teacher has no head"):
        HeadScore()(teacher, faces_of(VECTORS, "abc"))
    teacher.head = ArcFace(6, 2)
    with pytest.raises(UserError, match="was trained with ArcFace"):
        HeadScore()(teacher, faces_of(VECTORS, "abc"))


def test_labels_are_made_anew_for_another_head(tmp_path: Path) -> None:
    faces, teacher = faces_of(VECTORS, "abc"), flat_teacher()
    heads = [CRFIQA(6, 2) for _ in range(2)]
    for _ in range(2):
        for head in heads:
            teacher.head = head
            with torch.no_grad():
                scores = head.quality(torch.tensor(VECTORS, dtype=torch.float32)).numpy()
            expected = (scores - scores.min()) / np.ptp(scores)
            assert quality_labels(HeadScore(), teacher, faces, tmp_path).quality.tolist() == pytest.approx(
                expected.tolist(), abs=1e-5
            )
    assert len(list(tmp_path.iterdir())) == 2
    teacher.quality = HeadScore()
    assert identity(teacher) != identity_with(teacher, heads[0])


def identity_with(teacher: Teacher, head: nn.Module) -> str:
    teacher.head = head
    return identity(teacher)
