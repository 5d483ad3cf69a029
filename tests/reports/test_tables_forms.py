"""What Markdown, LaTeX, CSV and HTML make of a table."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pytest

from kdface.reports.tables.render_csv import csv_text
from kdface.reports.tables.render_html import html
from kdface.reports.tables.render_latex import latex
from kdface.reports.tables.render_markdown import markdown
from tests.reports.test_tables import VALUES, _definition, _fill, _table


def test_latex_is_balanced_and_every_line_has_all_columns(tmp_path: Path) -> None:
    _fill(tmp_path / "runs", ["arcface", "cosface"])
    text = latex(_table(tmp_path, tmp_path / "runs"))
    bare = re.sub(r"\\[\\{}%&$#_]", "", text)
    depth = 0
    for letter in re.sub(r"(?m)^%.*$", "", bare):
        depth += (letter == "{") - (letter == "}")
        assert depth >= 0
    assert depth == 0
    assert bare.count("$") % 2 == 0
    opened, closed = re.findall(r"\\begin\{(\w+\*?)\}", text), re.findall(r"\\end\{(\w+\*?)\}", text)
    assert opened == closed[::-1] == ["table*", "adjustbox", "tabular"]
    body = text[text.index(r"\toprule") : text.index(r"\bottomrule")]
    for line in body.splitlines():
        if line.endswith(r"\\") and r"\multicolumn" not in line:
            assert len(re.findall(r"(?<!\\)&", line)) == 1
    assert r"Heads \& margins\_of 100 \%" in text and r"Arc\textbar{}Face" in text
    assert all(ord(letter) < 128 for letter in text)


def test_markdown_rows_keep_their_columns(tmp_path: Path) -> None:
    _fill(tmp_path / "runs")
    rows = [line for line in markdown(_table(tmp_path, tmp_path / "runs")).splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {3}
    assert any("<sub>98.00 (−5.00)</sub><sup>a</sup>" in row for row in rows)
    assert "Published (a): A paper, table 1 (secondary: printed elsewhere)." in markdown(
        _table(tmp_path, tmp_path / "runs")
    )


def test_csv_holds_every_number_in_full(tmp_path: Path) -> None:
    _fill(tmp_path / "runs")
    rows = list(csv.DictReader(io.StringIO(csv_text(_table(tmp_path, tmp_path / "runs")))))
    assert [row["row"] for row in rows] == ["Arc|Face", "CosFace", "NormFace", "Nobody's"]
    assert [float(value) for value in rows[1]["values"].split()] == list(VALUES["cosface"].values())
    assert float(rows[0]["published"]) == pytest.approx(0.995)
    assert rows[1]["provenance"] == "secondary: printed elsewhere"
    assert rows[1]["wins"] == "yes" and rows[2]["wins"] == "no"
    assert rows[0]["runs"].split()[0].startswith("demo/seed0-")


def test_html_escapes_and_tells_runs(tmp_path: Path) -> None:
    _fill(tmp_path / "runs")
    text = (
        "title: <script>x</script>\nrows: [{label: '<b>', overrides: [head=arcface]}]\n"
        "columns: [{label: c, metric: lfw/accuracy}]"
    )
    page = html(_table(tmp_path, tmp_path / "runs", _definition(tmp_path, text)))
    assert "<script" not in page and "<b>" not in page
    (told,) = re.findall(r'title="([^"]+)"', page)
    names = told.split(", ")
    assert len(names) == 3 and all((tmp_path / "runs" / name / "DONE").is_file() for name in names)
