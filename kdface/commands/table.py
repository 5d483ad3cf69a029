"""kdface table experiments/PAPER/TABLE.yaml [OVERRIDES] [--run] [-o FOLDER]: a paper table from run folders."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from kdface.errors import UserError

if TYPE_CHECKING:
    from kdface.reports.tables import Definition, Table
    from kdface.runs.folder import RunFolder


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"kdface table: {message}.", mend="kdface table --help")


def run(words: list[str]) -> int:
    parser = _Parser(prog="kdface table", description="Write a paper table (.md, .tex, .csv, .html) from run folders.")
    parser.add_argument("definition", type=Path, help="experiments/PAPER/TABLE.yaml")
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="of every row, such as paths.runs=FOLDER")
    parser.add_argument("--figures", action="store_true", help="draw each column as bars too (.pdf, .png)")
    parser.add_argument("--run", action="store_true", help="train and evaluate what is missing, one after the other")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FOLDER", help="where to write; default: beside the definition"
    )
    parser.add_argument("--config-dir", "-cd", action="append", default=[], type=Path, help="your own folder of YAML")
    given = parser.parse_intermixed_args(words)
    from kdface.reports.tables import read_definition
    from kdface.reports.tables.render_csv import csv_text
    from kdface.reports.tables.render_html import html
    from kdface.reports.tables.render_latex import latex
    from kdface.reports.tables.render_markdown import markdown
    from kdface.runs.folder import write_text

    definition = read_definition(given.definition)

    def now() -> Table:
        return tabulated(definition, given.definition.parent, given.overrides, given.config_dir)

    table, failed = now(), False
    if given.run and table.missing:
        for what in ("train", "evaluate"):  # what can be evaluated is known only when training is done
            failed |= _run_missing(what, table, given.config_dir)
            table = now()
    folder = given.output or given.definition.parent
    forms: dict[str, Callable[[], str]] = {
        ".md": lambda: markdown(table),
        ".tex": lambda: latex(table),
        ".csv": lambda: csv_text(table),
        ".html": lambda: html(table, folder),
    }
    for suffix, form in forms.items():
        write_text(folder / f"{given.definition.stem}{suffix}", form())
    if given.figures:
        _draw(table, folder / given.definition.stem)
    print(markdown(table), end="")
    print(f"\nwritten  {folder / given.definition.stem}{{{','.join(forms)}}}")
    return 1 if failed or (given.run and table.missing) else 0


def tabulated(definition: Definition, beside: Path, extra: Sequence[str], config_dirs: list[Path]) -> Table:
    """A table as run folders have it now; its published numbers lie in `beside`, `extra` are overrides of every row."""
    from kdface.commands.prepare import run_folder
    from kdface.config.compose import compose_in, hydra_context
    from kdface.reports.tables import collect, tabulate

    with hydra_context(config_dirs) as hydra:

        def locate(overrides: Sequence[str]) -> RunFolder:
            return run_folder(compose_in(hydra, list(overrides)))

        collected = collect(definition, locate, extra)
    return tabulate(definition, collected, beside)


def _draw(table: Table, stem: Path) -> None:
    """STEM_1.pdf, STEM_1.png, ... for each column that has values."""
    from kdface.reports.figures import save
    from kdface.reports.tables.bars import bar_figure

    for number, column in enumerate(table.columns, 1):
        if any(cells[number - 1].summary for cells in table.cells):
            for suffix in (".pdf", ".png"):
                save(bar_figure(table, column), stem.with_name(f"{stem.name}_{number}{suffix}"))


def _run_missing(what: str, table: Table, config_dirs: list[Path]) -> bool:
    """Run every missing command of a kind once, whatever single ones do. Returns whether one failed."""
    commands = list(dict.fromkeys(each.command for each in table.missing if each.command[1] == what))
    own = [word for folder in config_dirs for word in ("--config-dir", str(folder))]
    failed = False
    for number, command in enumerate(commands, 1):
        print(f"[{number}/{len(commands)}] {' '.join(command)}", file=sys.stderr, flush=True)
        code = subprocess.run([sys.executable, "-m", "kdface", *command[1:], *own]).returncode
        if code:
            print(f"failed with exit code {code}: {' '.join(command)}", file=sys.stderr, flush=True)
            failed = True
    return failed
