"""A table as LaTeX with booktabs."""

from __future__ import annotations

from itertools import groupby

from kdface.reports.tables import text
from kdface.reports.tables.table import Table

_ESCAPES = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "→": r"$\rightarrow$",
    "λ": r"$\lambda$",
    "τ": r"$\tau$",
    "σ": r"$\sigma$",
    text.MINUS: r"$-$",
    text.EMPTY: "---",
}


_WIDE = 8  # columns; beyond, a page needs smaller letters


def latex(table: Table) -> str:
    r"""A `table*` environment. It needs `\usepackage{booktabs}` and nothing else."""
    definition = table.definition
    width = len(table.columns)
    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table*}",
        r"\centering",
        rf"\caption{{{_plain(definition.title)}}}",
    ]
    lines += [r"\scriptsize\setlength{\tabcolsep}{3pt}" if width > _WIDE else r"\small"]
    lines += [rf"\begin{{tabular}}{{l{'r' * width}}}", r"\toprule"]
    if any(column.group for column in table.columns):
        spans, rules, at = [], [], 2
        for group, found in groupby(table.columns, key=lambda column: column.group):
            size = len(list(found))
            spans.append(rf"\multicolumn{{{size}}}{{c}}{{{_plain(group)}}}")
            rules += [rf"\cmidrule(lr){{{at}-{at + size - 1}}}"] if group else []
            at += size
        lines += [" & ".join(["", *spans]) + r" \\", "".join(rules)]
    lines += [" & ".join(["", *(_heading(column.label) for column in table.columns)]) + r" \\", r"\midrule"]
    before: str | None = None
    for row, cells in zip(table.rows, table.cells, strict=True):
        if row.group != (before or ""):
            lines += [r"\addlinespace"] if before is not None else []
            lines += [rf"\multicolumn{{{width + 1}}}{{l}}{{\emph{{{_plain(row.group)}}}}} \\"]
        before = row.group
        words = [_plain(row.label)]
        for cell, column in zip(cells, table.columns, strict=True):
            word = _plain(text.ours(cell, column, len(definition.seeds)))
            word = rf"\textbf{{{word}}}" if cell.wins else word
            if cell.published is not None:
                mark = table.mark(cell.published)
                small = _plain(text.theirs(cell, column)) + (rf"\textsuperscript{{{mark}}}" if mark else "")
                small = rf"{{\scriptsize {small}}}" if table.measured else small
                word = small if not cell.expected else rf"\shortstack[r]{{{word}\\{small}}}"
            words.append(word)
        lines.append(" & ".join(words) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}", ""]
    sentences = [*text.legend(table), *([definition.note] if definition.note else [])]
    lines += [rf"\par\smallskip{{\footnotesize {' '.join(_plain(each) for each in sentences)}}}", r"\end{table*}"]
    return "\n".join(lines) + "\n"


def _heading(label: str) -> str:
    """A column's label; a long one in two lines."""
    words = label.split()
    if len(label) < 10 or len(words) < 2:
        return _plain(label)
    cut = min(range(1, len(words)), key=lambda k: abs(len(" ".join(words[:k])) - len(label) / 2))
    return rf"\shortstack[r]{{{_plain(' '.join(words[:cut]))}\\{_plain(' '.join(words[cut:]))}}}"


def _plain(words: str) -> str:
    """Text that LaTeX sets as it stands."""
    return "".join(_ESCAPES.get(letter, letter) for letter in " ".join(words.split()))
