"""A table as LaTeX with booktabs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby

from kdface.reports.tables import text
from kdface.reports.tables.latex_text import plain, running
from kdface.reports.tables.table import Table

_BREAKS = re.compile(r" |(?<=@)")  # line breaks in a column's heading
_SPREAD = re.compile(r" (?=± |\()")  # before the small part: the spread or brackets
_STACKED = 7  # with more columns, the small part is set below its number


def latex(table: Table) -> str:
    """A `table*` environment, shrunk to the text width if necessary; its first line lists the packages."""
    lines = [
        r"% needs \usepackage{adjustbox,amssymb,booktabs,makecell}",
        r"\begin{table*}",
        r"\centering",
        rf"\caption{{{running(table.definition.title)}}}",
        r"\small\setlength{\tabcolsep}{4pt}",
        r"\begin{adjustbox}{max width=\textwidth}",
        rf"\begin{{tabular}}{{l{'r' * len(table.columns)}}}",
        r"\toprule",
        *_head(table),
        r"\midrule",
        *_body(table),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{adjustbox}",
        "",
        rf"\smallskip{{\footnotesize\raggedright {' '.join(map(running, text.sentences(table)))}\par}}",
        r"\end{table*}",
    ]
    return "\n".join(lines) + "\n"


def _head(table: Table) -> list[str]:
    lines, at, rules, spans = [], 2, "", [""]
    for group, columns in groupby(column.group for column in table.columns):
        size = len(list(columns))
        spans.append(rf"\multicolumn{{{size}}}{{c}}{{{plain(group)}}}")
        rules += rf"\cmidrule(lr){{{at}-{at + size - 1}}}" if group else ""
        at += size
    if rules:
        lines += [_row(spans), rules]
    return [
        *lines,
        _row(
            ["", *(_stacked("br", [plain(part) for part in _BREAKS.split(column.label)]) for column in table.columns)]
        ),
    ]


def _body(table: Table) -> list[str]:
    lines: list[str] = []
    for row, starts, cells in text.rows(table):
        if starts:
            lines += [r"\addlinespace"] if lines else []
            if row.group:
                lines += [rf"\multicolumn{{{1 + len(cells)}}}{{l}}{{\emph{{{plain(row.group)}}}}} \\"]
        lines.append(_row([plain(row.label), *(_cell(cell, table) for cell in cells)]))
    return lines


def _cell(cell: text.Cell, table: Table) -> str:
    stacked = len(table.columns) > _STACKED
    ours = _number(cell.ours, stacked) if cell.ours else []
    theirs = _number(cell.theirs, stacked) if cell.theirs else []
    if cell.mark:
        theirs[-1] += rf"\textsuperscript{{{cell.mark}}}"
    lines = [rf"\textbf{{{line}}}" for line in ours] if cell.bold else ours
    lines += [rf"{{\scriptsize {line}}}" for line in theirs] if table.measured else theirs
    return _stacked("r", lines)


def _number(words: str, stacked: bool) -> list[str]:
    number, *spread = map(plain, _SPREAD.split(words))
    if not spread:
        return [number]
    small = rf"{{\scriptsize\,{' '.join(spread)}}}"
    return [number, small] if stacked else [number + small]


def _stacked(place: str, lines: Sequence[str]) -> str:
    inner = r" \\ ".join(lines)
    return inner if len(lines) == 1 else rf"\makecell[{place}]{{{inner}}}"


def _row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"
