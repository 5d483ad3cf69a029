"""A table as GitHub Markdown."""

from __future__ import annotations

from collections.abc import Iterable

from kdface.reports.tables import text
from kdface.reports.tables.table import Table


def markdown(table: Table) -> str:
    """The table with legend, tests, runs, and the commands that fill missing cells."""
    groups = any(row.group for row in table.rows)
    heads = [*([""] if groups else []), "", *(column.heading for column in table.columns)]
    rules = [*(["---"] if groups else []), "---", *("---:" for _ in table.columns)]
    lines = [f"# {plain(table.definition.title)}", "", _row(map(plain, heads)), _row(rules)]
    for row, starts, cells in text.rows(table):
        names = [row.group if starts else "", row.label] if groups else [row.label]
        lines.append(_row([*map(plain, names), *(_cell(cell, table.measured) for cell in cells)]))
    lines += ["", *(f"{plain(sentence)}  " for sentence in text.legend(table))]
    if table.definition.note:
        lines += ["", plain(table.definition.note)]
    for title, found in text.sections(table):
        lines += ["", f"{title}:", "", *(f"- {plain(line)}" for line in found)]
    if commands := text.commands(table):
        lines += ["", text.MISSING, "", "```sh", *commands, "```"]
    return "\n".join(lines) + "\n"


def _cell(cell: text.Cell, measured: bool) -> str:
    ours = f"**{cell.ours}**" if cell.bold else cell.ours
    theirs = f"<sub>{cell.theirs}</sub>" if cell.theirs and measured else cell.theirs
    theirs += f"<sup>{cell.mark}</sup>" if cell.mark else ""
    return "<br>".join(filter(None, (ours, theirs)))


def _row(words: Iterable[str]) -> str:
    return f"| {' | '.join(words)} |"


def plain(text: str) -> str:
    """Escape markup, columns and line breaks in text from a definition or folder."""
    text = " ".join(text.split())
    for mark in "\\`*_[]|~":
        text = text.replace(mark, f"\\{mark}")
    return text.replace("&", "&amp;").replace("<", "&lt;")
