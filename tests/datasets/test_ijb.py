"""IJB's release: faces aligned as they are read, people from the 1:N lists, and lists that do not fit."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from kdface.datasets import IJB
from kdface.errors import DataError, UserError
from kdface.faces import FaceSet
from tests.datasets.ijb_release import draw, write

FACES = [(7, 1, 0.9), (7, 1, 0.5), (3, 2, 0.8), (9, 1, 0.7), (4, 5, 0.6), (2, 6, 0.9)]


def release(root: Path) -> Path:
    """Templates 7 and 3 show subject 40, 9 shows 50, 4 shows 60; of 2 nobody is known."""
    return write(root, FACES, [(7, 3, 1), (7, 9, 0), (2, 4, 1)], [{7: 40}, {9: 50}], {3: 40, 4: 60})


def test_faces_are_aligned_and_belong_to_their_templates_subject(tmp_path: Path) -> None:
    release(tmp_path)
    crops = draw(tmp_path, len(FACES))
    faces = IJB(tmp_path, "ijbb")
    assert isinstance(faces, FaceSet)
    assert list(faces.keys) == [f"{i}.jpg" for i in range(1, 7)]
    assert [faces.people[label] for label in faces.labels] == ["40", "40", "40", "50", "60", "template 2"]
    assert faces.template.tolist() == [7, 7, 3, 9, 4, 2]
    assert faces.medium.tolist() == [1, 1, 2, 1, 5, 6]
    assert faces.detector_score.tolist() == [0.9, 0.5, 0.8, 0.7, 0.6, 0.9]
    assert (faces.pairs.tolist(), faces.same.tolist()) == ([[7, 3], [7, 9], [2, 4]], [True, False, True])
    assert [gallery.tolist() for gallery in faces.galleries] == [[7], [9]]
    assert faces.probes.tolist() == [3, 4]
    for index, crop in enumerate(crops):  # the landmarks are the template's, 20 pixels to the right and down
        difference = faces[index].image.astype(int) - crop[20:132, 20:132]
        assert np.abs(difference).max() <= 2  # they are written with two decimals
    assert IJB(tmp_path, "ijbb", size=(64, 64))[0].image.shape == (64, 64, 3)


@pytest.mark.parametrize(
    ("file", "old", "new", "changed"),
    [
        ("face_tid_mid.txt", "2.jpg 7 1", "2.jpg 7 8", [1]),
        ("name_5pts_score.txt", " 0.5\n", " 0.4\n", [1]),
        ("template_pair_label.txt", "7 9 0\n", "", range(6)),
        ("1N_probe_mixed.csv", "4,60,img/0.jpg,0\n4,60,img/1.jpg,1\n", "", range(6)),
    ],
)
def test_bytes_tell_the_image_its_template_and_the_lists(
    tmp_path: Path, file: str, old: str, new: str, changed: Sequence[int]
) -> None:
    release(tmp_path)
    draw(tmp_path, len(FACES))
    before = IJB(tmp_path, "ijbb")
    path = tmp_path / "meta" / f"ijbb_{file}"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    after = IJB(tmp_path, "ijbb")
    assert [i for i in range(6) if before.raw_bytes(i) != after.raw_bytes(i)] == list(changed)


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("face_tid_mid.txt", "2.jpg 7", "8.jpg 7", "not the same in the same order"),
        ("face_tid_mid.txt", "2.jpg 7 1", "2.jpg 7", "ijbb_face_tid_mid.txt, line 2: '2.jpg 7' cannot be read"),
        ("face_tid_mid.txt", "2.jpg 7 1", "2.jpg seven 1", "line 2: '2.jpg seven 1' cannot be read"),
        ("template_pair_label.txt", "7 9 0", "7 99 0", "1 compared templates have no face, the first one 99"),
        ("template_pair_label.txt", "7 9 0", "7 9 2", "a label is neither 0 nor 1"),
        ("template_pair_label.txt", "7 9 0", "7 9 1", "first one for templates 7 and 9, subjects 40 and 50"),
        ("template_pair_label.txt", "7 9 0", "7 2147483648 0", "2147483648 is not the number of a template"),
        ("template_pair_label.txt", "7 9 0", "-7 9 0", "-7 is not the number of a template"),
        ("template_pair_label.txt", "7 9 0", f"7 {'9' * 30} 0", "line 2: '7 999"),
        ("1N_probe_mixed.csv", "4,60,img/1", "2147483647,60,img/1", "the first one 2147483647"),  # 16 GB if by place
        ("face_tid_mid.txt", "2.jpg 7 1", "2.jpg 4294967303 1", "4294967303 is not the number"),  # 7, modulo 2^32
        ("name_5pts_score.txt", " 0.5\n", " nan\n", "a detector score is not positive"),
        ("1N_probe_mixed.csv", "4,60,img/1", "4,61,img/1", "template 4 shows 61, and 60 elsewhere"),
    ],
)
def test_lists_that_do_not_fit(tmp_path: Path, file: str, old: str, new: str, said: str) -> None:
    release(tmp_path)
    path = tmp_path / "meta" / f"ijbb_{file}"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(DataError, match=re.escape(said)):
        IJB(tmp_path, "ijbb")


def test_what_is_not_there_or_empty_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="loose_crop"):
        IJB(tmp_path, "ijbb")
    release(tmp_path)
    with pytest.raises(UserError, match=r"ijbc_name_5pts_score\.txt"):
        IJB(tmp_path, "ijbc")
    (tmp_path / "meta" / "ijbb_1N_gallery_S2.csv").unlink()
    with pytest.raises(UserError, match=r"ijbb_1N_gallery_\*\.csv matches ijbb_1N_gallery_S1\.csv"):
        IJB(tmp_path, "ijbb")
    (tmp_path / "meta" / "ijbb_1N_gallery_S2.csv").write_text("TEMPLATE_ID,SUBJECT_ID\n")
    with pytest.raises(DataError, match="the list is empty"):
        IJB(tmp_path, "ijbb")


def test_landmarks_that_coincide_are_told_of_with_the_file(tmp_path: Path) -> None:
    release(tmp_path)
    draw(tmp_path, len(FACES))
    detected = tmp_path / "meta" / "ijbb_name_5pts_score.txt"
    rest = detected.read_text().splitlines()[1:]
    detected.write_text("\n".join(["1.jpg" + " 50.0" * 10 + " 0.9", *rest]) + "\n")
    faces = IJB(tmp_path, "ijbb")
    with pytest.raises(DataError, match=r"1\.jpg: landmarks coincide"):
        faces[0]
    assert faces[1].key == "2.jpg"
