"""A definition's mistakes are told, and its published numbers are just one each."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdface.errors import UserError
from kdface.reports.tables.published import PublishedNumbers
from tests.reports.test_tables import PUBLISHED, _definition, _table


@pytest.mark.parametrize(
    ("text", "told", "near"),
    [
        ("rows: [{label: a}]\ncolumns: [{label: b}]", "title", ""),
        ("title: t\nrows: [{labl: a}]\ncolumns: [{label: b}]", "labl|label", ""),
        ("title: t\nbaselin: a\nrows: [{label: a}]\ncolumns: [{label: b}]", "unknown key 'baselin'", "baseline"),
        ("title: t\nbaseline: c\nrows: [{label: a}]\ncolumns: [{label: b}]", "'c' is not a row", ""),
        ("title: t\ncontrasts: [[a, c]]\nrows: [{label: a}]\ncolumns: [{label: b}]", "contrast 'c' is not", ""),
        ("title: t\nrows: [{label: a}, {label: a}]\ncolumns: [{label: b}]", "two rows", ""),
        ("title: t\nrows: [{group: a, label: b c}, {group: a b, label: c}]\ncolumns: [{label: b}]", "'a b c'", ""),
        ("title: t\nrows: [{label: a}]\ncolumns: [{label: b}, {label: b}]", "two columns", ""),
        ("title: t\nseeds: [0, 0]\nrows: [{label: a}]\ncolumns: [{label: b}]", "duplicate seeds", ""),
        ("title: t\nrows: [{label: a, published: {x: y}}]\ncolumns: [{label: b}]", "no `published:`", ""),
        ("title: [", "cannot be read", ""),
        ("- a", "cannot be read: Input should be a valid dictionary", ""),
    ],
)
def test_mistakes_in_a_definition_are_told(tmp_path: Path, text: str, told: str, near: str) -> None:
    with pytest.raises(UserError, match=told) as caught:
        _definition(tmp_path, text)
    assert not near or caught.value.nearest == near


def test_published_numbers_must_be_just_one(tmp_path: Path) -> None:
    text = (
        "title: t\nrows: [{label: a, published: {method: Twice}}]\ncolumns: [{label: b, published: {dataset: LFW}}]\n"
        "published: {}"
    )
    with pytest.raises(UserError, match="2 published numbers"):
        _table(tmp_path, tmp_path, _definition(tmp_path, text))
    with pytest.raises(UserError, match="no column 'metod'"):
        _table(tmp_path, tmp_path, _definition(tmp_path, text.replace("method", "metod")))


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("A paper,1,Short,LFW", "line 7: 4 fields, and the header has 8"),
        ("A paper,1,Long,LFW,1,1,percent,paper,more", "line 7: 9 fields, and the header has 8"),
        ('"A paper,1,Open,LFW,1,1,percent,paper', "unexpected end of data"),
    ],
)
def test_rows_of_published_numbers_are_whole(tmp_path: Path, row: str, told: str) -> None:
    (tmp_path / "p.csv").write_text(f"{PUBLISHED}{row}\n")
    with pytest.raises(UserError, match=told):
        PublishedNumbers(tmp_path / "p.csv")


@pytest.mark.parametrize("value", ["nan", "inf", "1e999", "9O.1"])
def test_published_numbers_are_finite(tmp_path: Path, value: str) -> None:
    (tmp_path / "p.csv").write_text(f"{PUBLISHED}A paper,1,Odd,LFW,{value},,percent,paper\n")
    with pytest.raises(UserError, match=r"not finite|could not convert"):
        PublishedNumbers(tmp_path / "p.csv").find({"method": "Odd"})
