"""Scores from a CSV file."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdface.errors import DataError, UserError
from kdface.teachers.quality import LabelFile
from tests.teachers.quality.stand_ins import flat_teacher, random_faces

FACES = random_faces(1, 5, (1, 2))  # p0/000 to p0/004


def written(folder: Path, *rows: str, header: str = "key,quality") -> LabelFile:
    path = folder / "labels.csv"
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return LabelFile(path)


def test_scores_by_key(tmp_path: Path) -> None:
    rows = ["p0/003,0.25", "p0/000,-1", "p0/001,2e3", "elsewhere,7", "p0/004,0", '"p0/002",5']
    source = written(tmp_path, *rows)
    assert source(flat_teacher(), FACES).tolist() == [-1.0, 2000.0, 5.0, 0.25, 0.0]
    assert LabelFile(source.path, flip=True)(flat_teacher(), FACES).tolist() == [1.0, -2000.0, -5.0, -0.25, 0.0]


def test_a_key_with_a_comma_and_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text('key,quality\n"a,b.jpg",3\n', encoding="utf-8-sig")
    faces = FACES.taken([0])
    faces.keys = ["a,b.jpg"]
    assert LabelFile(path)(flat_teacher(), faces).tolist() == [3.0]


def test_missing_keys(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"4 of the 5 images of stand_ins have no row \(p0/000, p0/001, p0/003, \.\.\.\)"
    ):
        written(tmp_path, "p0/002,1")(flat_teacher(), FACES)
    with pytest.raises(DataError, match="5 of the 5 images") as error:
        written(tmp_path)(flat_teacher(), FACES)
    assert "no rows" in error.value.expected


@pytest.mark.parametrize("row", ["p0/001", "p0/001,good", "p0/001,nan", "p0/001,inf", "p0/001,", "p0/001,1,2", ""])
def test_a_line_that_is_no_row(tmp_path: Path, row: str) -> None:
    with pytest.raises(DataError, match=rf"labels.csv, line 3: '{row}' cannot be used"):
        written(tmp_path, "p0/000,1", row, "p0/002,1")(flat_teacher(), FACES)


def test_a_key_twice(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="line 3: duplicate key p0/000"):
        written(tmp_path, "p0/000,1", "p0/000,1")(flat_teacher(), FACES)


@pytest.mark.parametrize("header", ["", "p0/000,1", "key;quality"])
def test_another_header(tmp_path: Path, header: str) -> None:
    with pytest.raises(DataError, match="the first line is") as error:
        written(tmp_path, "p0/000,1", header=header)(flat_teacher(), FACES)
    assert error.value.expected == "key,quality"


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.csv cannot be read: No such file"):
        LabelFile(tmp_path / "none.csv")(flat_teacher(), FACES)
    empty, binary = tmp_path / "empty.csv", tmp_path / "labels.pkl"
    empty.touch()
    binary.write_bytes(b"\x80\x04\x95\xff")
    with pytest.raises(DataError, match="the first line is ''"):
        LabelFile(empty)(flat_teacher(), FACES)
    with pytest.raises(DataError, match=r"labels\.pkl cannot be read: it is not UTF-8"):
        LabelFile(binary)(flat_teacher(), FACES)
