"""A table as LaTeX with booktabs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

from kdface.reports.tables import text
from kdface.reports.tables.latex_layout import ROOM, Layout, Line, Style, lay_out
from kdface.reports.tables.latex_text import plain, running
from kdface.reports.tables.table import Table

_SURE = 0.9  # of the room: a table estimated to need more is set to shrink where a page is narrower


def latex(table: Table) -> str:
    """A `table*` environment whose first line names the packages that it needs, `booktabs` and perhaps `graphicx`."""
    layout = lay_out(table)
    style = layout.style
    shrinks = layout.width > _SURE * ROOM
    sentences = [*text.legend(table), *([table.definition.note] if table.definition.note else [])]
    lines = [
        rf"% needs \usepackage{{booktabs{',graphicx' if shrinks else ''}}}",
        r"\begin{table*}",
        r"\centering",
        rf"\caption{{{running(table.definition.title)}}}",
        rf"\{style.size}\setlength{{\tabcolsep}}{{{style.gap}pt}}",
        *([r"\resizebox{\ifdim\width>\textwidth\textwidth\else\width\fi}{!}{%"] if shrinks else []),
        rf"\begin{{tabular}}{{l{'r' * len(table.columns)}}}",
        r"\toprule",
        *_head(layout),
        r"\midrule",
        *_body(table, layout),
        r"\bottomrule",
        r"\end{tabular}" + ("}" if shrinks else ""),
        "",
        rf"\smallskip{{\footnotesize\raggedright {' '.join(map(running, sentences))}\par}}",
        r"\end{table*}",
    ]
    return "\n".join(lines) + "\n"


def _head(layout: Layout) -> list[str]:
    lines = []
    if any(group for group, _, _ in layout.groups):
        for row in _from_below([words for _, words, _ in layout.groups]):
            spans = zip(row, layout.groups, strict=True)
            lines.append(
                _row(["", *(rf"\multicolumn{{{size}}}{{c}}{{{plain(words)}}}" for words, (*_, size) in spans)])
            )
        at, rules = 2, []
        for group, _, size in layout.groups:
            rules += [rf"\cmidrule(lr){{{at}-{at + size - 1}}}"] if group else []
            at += size
        lines.append("".join(rules))
    return lines + [_row(["", *map(plain, row)]) for row in _from_below(layout.headings)]


def _body(table: Table, layout: Layout) -> list[str]:
    lines: list[str] = []
    before: str | None = None
    for row, label, cells in zip(table.rows, layout.labels, layout.cells, strict=True):
        if row.group != (before or ""):
            lines += [r"\addlinespace"] if before is not None else []
            if row.group:
                lines += [rf"\multicolumn{{{1 + len(cells)}}}{{l}}{{\emph{{{plain(row.group)}}}}} \\"]
        elif lines and layout.style.stacked:
            lines += [r"\addlinespace[2pt]"]
        before = row.group
        for words, found in zip_longest(label, zip_longest(*cells)):
            numbers = (_line(each, layout.style, table.measured) for each in found or [None] * len(cells))
            lines.append(_row([plain(words or ""), *numbers]))
    return lines


def _line(line: Line | None, style: Style, measured: bool) -> str:
    if line is None:
        return ""
    words = plain(line.words) + (rf"\textsuperscript{{{line.mark}}}" if line.mark else "")
    if line.published and measured:
        return rf"{{\{style.small} {words}}}"
    return rf"\textbf{{{words}}}" if line.bold else words


def _row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _from_below(columns: Sequence[list[str]]) -> list[tuple[str, ...]]:
    """Rows of columns whose last lines stand side by side."""
    most = max(map(len, columns))
    return list(zip(*([""] * (most - len(each)) + each for each in columns), strict=True))
