"""A table as a self-contained HTML page: no script, no network, dark and light."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from itertools import groupby

from kdface.reports.tables import text
from kdface.reports.tables.definition import Column
from kdface.reports.tables.table import Cell, Table

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2530; --soft: #5c6773; --line: #d5dae0; --back: #ffffff }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e8ee; --soft: #9aa5b1; --line: #39424d; --back: #12161b }
}
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--back) }
body { margin: 2rem auto; max-width: max-content; padding: 0 1rem }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
caption { text-align: left; font-weight: 650; font-size: 1.25rem; padding-bottom: .75rem }
th, td { padding: .3rem .5rem; text-align: right; font-size: .82rem }
td small, tbody th { white-space: nowrap }
th[scope=row], th[scope=rowgroup] { text-align: left; font-weight: 400 }
th[scope=rowgroup] { font-style: italic; padding-top: .8rem }
th[scope=colgroup] { text-align: center; border-bottom: 1px solid var(--line) }
thead th { font-weight: 600 }
thead { border-top: 2px solid var(--ink); border-bottom: 1px solid var(--ink) }
tbody { border-bottom: 2px solid var(--ink) }
small, p, li { color: var(--soft) }
td small { display: block; font-size: .78rem }
pre { overflow-x: auto; font-size: .8rem }
"""


def html(table: Table) -> str:
    """A complete page; tooltips of numbers show their runs."""
    head = (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(table.definition.title)}</title>\n<style>{_STYLE}</style>",
    )
    return "\n".join((*head, fragment(table))) + "\n"


def fragment(table: Table) -> str:
    """The content of the page, for embedding."""
    return "\n".join(_body(table))


def _body(table: Table) -> Iterator[str]:
    definition = table.definition
    title = escape(definition.title)
    yield f'<div class="wide" tabindex="0" role="region" aria-label="{title}">'
    yield f"<table><caption>{title}</caption>\n<thead>"
    if any(column.group for column in table.columns):
        spans = [(group, len(list(found))) for group, found in groupby(table.columns, key=lambda column: column.group)]
        cells = "".join(f'<th scope="colgroup" colspan="{size}">{escape(group)}</th>' for group, size in spans)
        yield f"<tr><td></td>{cells}</tr>"
    heads = "".join(f'<th scope="col">{escape(column.label)}</th>' for column in table.columns)
    yield f"<tr><td></td>{heads}</tr>\n</thead>\n<tbody>"
    before = ""
    for row, found in zip(table.rows, table.cells, strict=True):
        if row.group not in ("", before):
            yield f'<tr><th scope="rowgroup" colspan="{len(table.columns) + 1}">{escape(row.group)}</th></tr>'
        before = row.group
        seeds = len(definition.seeds)
        cells = "".join(_cell(table, cell, column, seeds) for cell, column in zip(found, table.columns, strict=True))
        yield f'<tr><th scope="row">{escape(row.label)}</th>{cells}</tr>'
    yield "</tbody></table></div>"
    yield "".join(f"<p>{escape(sentence)}</p>" for sentence in text.legend(table))
    if definition.note:
        yield f"<p>{escape(definition.note)}</p>"
    for heading, lines in (
        ("Differences from the baseline", text.tests(table)),
        ("Other differences, each on its own", text.contrasts(table)),
        ("Runs", text.runs(table)),
    ):
        if items := "".join(f"<li>{escape(line)}</li>" for line in lines):
            yield f"<details><summary>{heading}</summary><ul>{items}</ul></details>"
    if commands := list(text.commands(table)):
        listed = escape("\n".join(f"{command}   # {why}" for command, why in commands))
        yield f"<p>Missing; these commands fill it:</p><pre tabindex=0>{listed}</pre>"


def _cell(table: Table, cell: Cell, column: Column, seeds: int) -> str:
    word = escape(text.ours(cell, column, seeds))
    if cell.runs:
        title = escape(", ".join(text.run_name(run.root) for run in cell.runs.values()))
        word = f'<span title="{title}">{word}</span>'
    word = f"<b>{word}</b>" if cell.wins else word
    if cell.published is None:
        return f"<td>{word}</td>"
    mark = table.mark(cell.published)
    small = f"<small>{escape(text.theirs(cell, column))}{f'<sup>{mark}</sup>' if mark else ''}</small>"
    return f"<td>{word if cell.expected else ''}{small}</td>"
