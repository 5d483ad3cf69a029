"""A table as GitHub Markdown."""

from __future__ import annotations

from collections.abc import Iterable

from kdface.reports.tables import text
from kdface.reports.tables.table import Table


def markdown(table: Table) -> str:
    """The table with legend, tests, runs, and the commands that fill missing cells."""
    definition = table.definition
    groups = any(row.group for row in table.rows)
    heads = [*([""] if groups else []), "", *(column.heading for column in table.columns)]
    lines = [f"# {_plain(definition.title)}", ""]
    lines.append(_row([_plain(head) for head in heads]))
    lines.append(_row([*(["---"] if groups else []), "---", *("---:" for _ in table.columns)]))
    before = ""
    for row, cells in zip(table.rows, table.cells, strict=True):
        words = [] if not groups else [_plain(row.group) if row.group != before else ""]
        before = row.group
        words.append(_plain(row.label))
        for cell, column in zip(cells, table.columns, strict=True):
            word = text.ours(cell, column, len(definition.seeds))
            word = f"**{word}**" if cell.wins else word
            if cell.published is not None:
                mark = table.mark(cell.published)
                small = text.theirs(cell, column)
                small = (f"<sub>{small}</sub>" if table.measured else small) + (f"<sup>{mark}</sup>" if mark else "")
                word = small if not cell.expected else f"{word}<br>{small}"
            words.append(word)
        lines.append(_row(words))
    lines += ["", *(f"{_plain(sentence)}  " for sentence in text.legend(table))]
    if definition.note:
        lines += ["", _plain(definition.note)]
    lines += _listed("Differences from the baseline, with their 95 % t-intervals", text.tests(table))
    lines += _listed("Other differences, each on its own", text.contrasts(table))
    lines += _listed("Runs", text.runs(table))
    commands = list(text.commands(table))
    if commands:
        lines += ["", "Missing; these commands fill it:", "", "```sh"]
        lines += [f"{command}   # {why}" for command, why in commands]
        lines += ["```"]
    return "\n".join(lines) + "\n"


def _listed(title: str, lines: Iterable[str]) -> list[str]:
    found = [f"- {_plain(line)}" for line in lines]
    return ["", f"{title}:", "", *found] if found else []


def _row(words: list[str]) -> str:
    return f"| {' | '.join(words)} |"


def _plain(text: str) -> str:
    """Escape markup, columns and line breaks in text from a definition or folder."""
    text = " ".join(text.split())
    for mark in "\\`*_[]|~":
        text = text.replace(mark, f"\\{mark}")
    return text.replace("&", "&amp;").replace("<", "&lt;")
