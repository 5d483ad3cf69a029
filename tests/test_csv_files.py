"""CSV files are read whole or refused, and what is written is text to a spreadsheet, unless it is a number."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from kdface.csv_files import csv_text, read_rows
from kdface.errors import DataError

TEXTS = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "'=x", "''=x", "it's", "a=b", "", 'x,"y"\nz', "-"]


def test_no_text_is_a_formula_and_all_are_read_back(tmp_path: Path) -> None:
    """A spreadsheet evaluates a cell that begins with = + - @ or a control character (OWASP, CSV injection)."""
    file = tmp_path / "t.csv"
    file.write_text(csv_text([["key", "value"], *([text, 0.5] for text in TEXTS)]), newline="")
    cells = [row[0] for row in csv.reader(io.StringIO(file.read_text(), newline=""))]
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in cells)
    assert [row for _, row in read_rows(file)] == [["key", "value"], *([text, "0.5"] for text in TEXTS)]


def test_numbers_stay_numbers() -> None:
    assert csv_text([[-1, -0.5, "-0.5", "+1e-3", "-0.25 0.5", None, 3]]) == "-1,-0.5,-0.5,+1e-3,-0.25 0.5,,3\n"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"a,b\n\x00,1\n", "NUL"),
        (b"a,b\n\xff,1\n", "not UTF-8 (byte 4)"),
        (b'a,b\n"open,1\n', "unexpected end of data"),
        (b"a,b\n" + b"x" * 200_000 + b",1\n", "field larger than field limit"),
    ],
)
def test_damage_is_one_message(tmp_path: Path, content: bytes, why: str) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(DataError, match="cannot be read") as caught:
        read_rows(tmp_path / "t.csv")
    assert why in caught.value.problem


def test_lines_are_those_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b'\xef\xbb\xbfa\tb\r\n"x\r\ny"\t1\r\n\r\nz\t2\r\n')
    assert read_rows(tmp_path / "t.csv") == [(1, ["a", "b"]), (3, ["x\r\ny", "1"]), (4, []), (5, ["z", "2"])]
