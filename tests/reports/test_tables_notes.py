"""Each source of published numbers has a mark of its own, however many there are."""

from __future__ import annotations

from pathlib import Path

from kdface.reports.tables import Definition, Table, tabulate
from kdface.reports.tables.collect import Collected
from kdface.reports.tables.definition import Column, PublishedFile, Row
from kdface.reports.tables.render_markdown import markdown

HEAD = "paper,table,method,value,spread,unit,provenance\n"


def _table(folder: Path, *sources: tuple[str, str]) -> Table:
    """A row for each (paper, provenance), its published number the row's place in percent."""
    lines = [f"{paper},1,row {k},{k},,percent,{provenance}" for k, (paper, provenance) in enumerate(sources)]
    (folder / "published.csv").write_text(HEAD + "\n".join(lines))
    rows = tuple(Row(label=f"row {k}", published={"method": f"row {k}"}) for k in range(len(sources)))
    column = Column(label="LFW", published={"table": "1"})
    definition = Definition(title="t", rows=rows, columns=(column,), published=PublishedFile())
    return tabulate(definition, Collected(), folder)


def _marks(table: Table) -> list[str]:
    return [table.mark(row[0].published) for row in table.cells if row[0].published is not None]


def test_marks_go_on_after_z(tmp_path: Path) -> None:
    table = _table(tmp_path, *((f"paper {k}", "secondary") for k in range(54)))
    marks = _marks(table)
    assert marks[0] == "a" and marks[25:28] == ["z", "aa", "ab"] and marks[51:] == ["az", "ba", "bb"]
    assert [mark for mark, _ in table.notes] == marks


def test_the_papers_own_numbers_need_no_mark(tmp_path: Path) -> None:
    table = _table(tmp_path, ("One", "paper"), ("Two", "secondary"), ("One", "paper"), ("Three", "secondary"))
    assert _marks(table) == ["", "a", "", "b"]
    assert "Published: One, table 1." in markdown(table)


def test_two_papers_own_numbers_are_told_apart(tmp_path: Path) -> None:
    table = _table(tmp_path, ("One", "paper"), ("Two", "secondary"), ("Three", "paper"))
    assert _marks(table) == ["a", "b", "c"]
    text = markdown(table)
    assert "Published (a): One, table 1." in text and "Published (c): Three, table 1." in text
