r"""What LaTeX makes of a table: it compiles as it is, fits the page, and shows what it was given.

The judge is pdflatex: a two-column `article` on A4, its log read for lines that stick out.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from kdface.reports.tables import Definition, Table, read_definition, tabulate
from kdface.reports.tables.collect import Collected, Measured
from kdface.reports.tables.definition import Column
from kdface.reports.tables.latex_text import plain, running
from kdface.reports.tables.render_latex import latex
from kdface.runs.folder import RunFolder

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
GREEK = "α β γ δ ε ζ η θ ι κ λ μ ν ξ ο π ρ ς σ τ υ φ χ ψ ω Γ Δ Θ Λ Ξ Π Σ Υ Φ Ψ Ω µ"
SIGNS = "≤ ≥ ≠ ≈ ± × ÷ − – — · • √ ∞ ∈ ∑ ∫ ∂ ∇ ← → ↑ ↓ ⇒ ° ′ … ‘ ’ “ ” § † © 10⁻³ x₂ ½ ‖ ⟨ ⟩"
LETTERS = "é è ñ ü ç Å ø ß œ ł ő š ế ȩ İ ý"
UNKNOWN = "王 😀 ж \x07 \u200b"
ASCII = "".join(map(chr, range(33, 127)))


def _definition(*labels: str, **given: object) -> Definition:
    rows = [{"label": label, "overrides": []} for label in labels]
    columns = [{"label": label, "metric": "m"} for label in labels]
    return Definition.model_validate({"title": "t", "rows": rows, "columns": columns, **given})


def _filled(definition: Definition, folder: Path) -> Table:
    """Three seeds of each cell that a run can fill: 87.65 and 89.65, the spreads 2 and 4 (in percent)."""
    found = Collected()
    for r, row in enumerate(definition.rows):
        for c, column in enumerate(definition.columns):
            if row.overrides is not None and column.metrics_of(row):
                found.values[r, c] = {
                    seed: Measured(0.87654 + 0.02 * seed * (1 + r % 2), RunFolder(folder)) for seed in definition.seeds
                }
    return tabulate(definition, found, folder)


def _hostile() -> Table:
    labels = ["[first", "*second", r"\\[3pt] & \end{tabular} $x_{", f"{GREEK} {LETTERS}", f"{SIGNS} {UNKNOWN}", ASCII]
    definition = _definition(
        *labels,
        title=f"{ASCII} {GREEK} {SIGNS} {LETTERS} {UNKNOWN} https://{'long' * 60}",
        note=f"[{'unbroken' * 40} {UNKNOWN}",
    )
    columns = [
        column.model_copy(update={"group": ("*", "[g]", "_" * 90)[k // 2]})
        for k, column in enumerate(definition.columns)
    ]
    rows = [row.model_copy(update={"group": "[" * (k // 3)}) for k, row in enumerate(definition.rows)]
    return _filled(definition.model_copy(update={"rows": tuple(rows), "columns": tuple(columns)}), Path("/nowhere"))


def _log(folder: Path, parts: Mapping[str, str]) -> dict[str, str]:
    """What pdflatex says while it reads each part. It must get through all of them without an error."""
    if shutil.which("pdflatex") is None:
        pytest.skip("pdflatex is not installed: apt-get install texlive-latex-extra")
    lines = [
        r"\documentclass[twocolumn,a4paper]{article}",
        r"\usepackage{adjustbox,amssymb,booktabs,graphicx,makecell}",
        r"\begin{document}",
    ]
    for number, part in enumerate(parts.values()):
        lines += [rf"\typeout{{PART {number}.}}", part, r"\clearpage"]
    (folder / "all.tex").write_text("\n".join([*lines, r"\end{document}"]), encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]
    said = re.split(r"PART \d+\.", (folder / "all.log").read_text(errors="replace"))[1:]
    return dict(zip(parts, said, strict=True))


def _too_wide(said: str) -> list[str]:
    return [points for points in re.findall(r"Overfull \\hbox \(([\d.]+)pt", said) if float(points) > 1]


def test_every_table_of_the_experiments_compiles_within_the_page(tmp_path: Path) -> None:
    parts = {str(path): path.read_text(encoding="utf-8") for path in sorted(EXPERIMENTS.glob("*/*.tex"))}
    for path in sorted(EXPERIMENTS.glob("*/*.yaml")):
        definition = read_definition(path)
        parts[f"{path}, filled"] = latex(_filled(definition, path.parent))
        parts[f"{path}, no run"] = latex(tabulate(definition, Collected(), path.parent))
    said = _log(tmp_path, parts)
    assert len(said) > 20
    assert {name: wide for name, log in said.items() if (wide := _too_wide(log))} == {}


def test_a_hostile_table_compiles_within_the_page(tmp_path: Path) -> None:
    said = _log(tmp_path, {"hostile": latex(_hostile())})
    assert _too_wide(said["hostile"]) == []


def test_numbers_are_kept_and_spreads_set_small() -> None:
    text = latex(_filled(_definition("m0", "m1"), Path("/nowhere")))
    cell = r"89.65{\scriptsize\,\ensuremath{\pm} 2.00}"
    assert rf"m0 & {cell} & {cell} \\" in text
    wide = latex(_filled(_definition(*(f"m{k}" for k in range(8))), Path("/nowhere")))
    stacked = r"\makecell[r]{89.65 \\ {\scriptsize\,\ensuremath{\pm} 2.00}}"
    assert "m0 & " + " & ".join([stacked] * 8) + r" \\" in wide
    assert text.startswith(r"% needs \usepackage{adjustbox,amssymb,booktabs,makecell}")


def test_a_heading_breaks_at_spaces_and_behind_an_at_sign() -> None:
    columns = (Column(label="on CFP-FP"), Column(label="TAR@1e-6"), Column(label="EER"))
    text = latex(_filled(_definition("a").model_copy(update={"columns": columns}), Path("/nowhere")))
    assert r" & \makecell[br]{on \\ CFP-FP} & \makecell[br]{TAR@ \\ 1e-6} & EER \\" in text


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("α ≤ 10⁻³", r"\ensuremath{\alpha} \ensuremath{\leq} 10\ensuremath{^-}{\textthreesuperior}"),
        ("[a] *b", "{[}a] {*}b"),
        ("--run", "-{}-run"),
        ("Müller, ½", r"M\"uller, {\textonehalf}"),
        ("M\u0075\u0308ller", r"M\"uller"),
        ("王", "{[}U+738B]"),
        ("a\u00a0 b\nc", "a b c"),
        (r"50 % & \x_{1}", r"50 \% \& {\textbackslash}x\_\{1\}"),
    ],
)
def test_text_is_shown_as_it_stands(words: str, shown: str) -> None:
    assert plain(words) == shown


def test_only_long_words_may_break() -> None:
    assert running("a word " + "x" * 30) == "a word " + "x" * 24 + r"\allowbreak{}" + "x" * 6
