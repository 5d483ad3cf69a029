"""kdface table: write paper tables (.md, .tex, .csv, .html) from run folders, by default next to TABLE.yaml."""

from __future__ import annotations

import hashlib
import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdface.commands.arguments import Arguments, Parser, is_hydras, is_override, is_search_path
from kdface.config.locate import PROCESSES
from kdface.csv_files import read_rows, rows_in
from kdface.errors import UserError
from kdface.sweeps.lifeline import said

if TYPE_CHECKING:
    from kdface.reports.tables import Definition, Table
    from kdface.reports.tables.collect import Missing
    from kdface.runs.folder import RunFolder


_CELL = ("group", "row", "column")  # columns that identify a cell in our CSV files


def run(words: list[str]) -> int:
    """Run `kdface table` and return the exit code. Raises `UserError` for invalid arguments."""
    parser = Parser("table", __doc__, "TABLE.yaml ...", overrides=is_override, output="FOLDER").config_dir()
    parser.flag("--figures", action="store_true", help="draw columns as bars, test sets as curves (.pdf, .png)")
    parser.flag("--run", action="store_true", help="train and evaluate what is missing, as one sweep")
    given = parser.read(words)
    from kdface.reports.tables import read_definition

    overrides = [word for word in given.overrides if not is_hydras(word)]
    launcher = [word for word in given.overrides if is_hydras(word)]
    definitions = [(read_definition(path), path) for path in given.paths]
    targets = [given.values.get("output", path.parent) / path.stem for path in given.paths]
    if double := [target for target in targets if targets.count(target) > 1]:
        raise UserError(f"two tables would be written to {double[0]}.", fix="one command each, or without -o")

    if "run" in given.values:
        tables, failed = filled(definitions, overrides, launcher, given.config_dirs)
    else:
        tables = [tabulated(definition, path.parent, overrides, given.config_dirs) for definition, path in definitions]
        failed = False
    for table, target in zip(tables, targets, strict=True):
        _write(table, target, "figures" in given.values)
    return 1 if failed or ("run" in given.values and any(table.missing for table in tables)) else 0


def filled(
    definitions: Sequence[tuple[Definition, Path]],
    overrides: Sequence[str],
    launcher: Sequence[str],
    config_dirs: list[Path],
) -> tuple[list[Table], bool]:
    """Train and evaluate the missing cells of tables, as one sweep. Returns the tables and whether a job failed.

    Args:
        definitions: definitions with their paths.
        overrides: overrides of every row; `launcher`: those of Hydra's launcher.
        config_dirs: the user's own folders of YAML.
    """
    from kdface.commands.session import checked_node
    from kdface.config.compose import hydra_context, load

    def now() -> list[Table]:
        return [tabulated(definition, path.parent, overrides, config_dirs) for definition, path in definitions]

    launcher = [*(word for word in overrides if is_search_path(word)), *launcher]
    with hydra_context(config_dirs) as hydra:  # first: a mistake is reported before training
        node = checked_node(load(hydra, launcher), "launcher")
    tables = now()
    _require_same_teachers(tables)
    own = Arguments(launcher, config_dirs)
    failed = _train(_missing("train", tables), own, node, [path for _, path in definitions])
    tables = now()  # evaluations are known only after training
    failed |= _evaluate(_missing("evaluate", tables), at_once(node))
    tables = now()
    _require_same_teachers(tables)
    return tables, failed


def _write(table: Table, target: Path, figures: bool) -> None:
    from kdface.atomic import write_text
    from kdface.reports.tables.render_csv import csv_text
    from kdface.reports.tables.render_html import html
    from kdface.reports.tables.render_latex import latex
    from kdface.reports.tables.render_markdown import markdown

    forms: dict[str, str] = {
        ".md": markdown(table),
        ".tex": latex(table),
        ".csv": csv_text(table),
        ".html": html(table),
    }
    files = {target.with_name(f"{target.name}{suffix}"): text for suffix, text in forms.items()}
    print(forms[".md"], end="")
    if lost := _lost(target.with_name(f"{target.name}.csv"), forms[".csv"]):
        print(
            f"\nkept     {target}{{{','.join(forms)}}}: {len(lost)} of its cells have numbers of runs that are not in "
            f"paths.runs ({lost[0]}). Add --run to train them, or -o FOLDER to write this table elsewhere"
        )
        return
    for file, text in files.items():
        write_text(file, text)
    if figures:
        from kdface.reports.plotting import save_both
        from kdface.reports.tables.figures import table_figures

        for name, figure in table_figures(table).items():
            save_both(figure, target.with_name(f"{target.name}_{name}"))
    print(f"\nwritten  {target}{{{','.join(forms)}}}")


def _lost(file: Path, text: str) -> list[str]:
    """The cells ("row, column") of a table on disk with values for seeds that the new table lacks."""
    if not file.is_file():
        return []

    def seeds(written: list[list[str]]) -> dict[tuple[str, ...], set[str]]:
        rows = [dict(zip(written[0], row, strict=False)) for row in written[1:]]
        return {tuple(row.get(key, "") for key in _CELL): set(row.get("seeds", "").split()) for row in rows}

    now, before = (seeds([row for _, row in found]) for found in (rows_in(text), read_rows(file)))
    return [f"{cell[1]}, {cell[2]}" for cell, there in before.items() if cell in now and there - now[cell]]


def tabulated(definition: Definition, beside: Path, extra: Sequence[str], config_dirs: list[Path]) -> Table:
    """Compute a table from the run folders. Published numbers are read from `beside`; `extra` overrides every row."""
    from kdface.commands.prepare import run_folder
    from kdface.config.compose import compose_in, hydra_context
    from kdface.reports.tables import collect, tabulate

    with hydra_context(config_dirs) as hydra:

        def locate(overrides: Sequence[str]) -> RunFolder:
            return run_folder(compose_in(hydra, list(overrides)))

        collected = collect(definition, locate, extra, [str(config_dir) for config_dir in config_dirs])
    return tabulate(definition, collected, beside)


def _require_same_teachers(tables: Sequence[Table]) -> None:
    from kdface.training.identity import require_same_teachers

    cells = [cell for table in tables for row in table.cells for cell in row]
    require_same_teachers({run.root: run for cell in cells for run in cell.runs.values()}.values())


def _missing(command: str, tables: Sequence[Table]) -> list[Missing]:
    """The unique commands that fill missing cells."""
    return list({str(cell): cell for table in tables for cell in table.missing if cell.command == command}.values())


def _train(
    missing: Sequence[Missing], arguments: Arguments, launcher: Mapping[str, Any], paths: Sequence[Path]
) -> bool:
    """Run trainings as one sweep, whose ledger in RUNS/sweeps is named after the tables. Returns whether one failed."""
    from kdface.commands.prepare import run_folder
    from kdface.commands.session import Session
    from kdface.config.compose import hydra_context

    if not missing:
        return False
    with hydra_context(arguments.config_dirs) as hydra:
        name = "+".join(dict.fromkeys(f"{path.absolute().parent.name}-{path.stem}" for path in paths))
        if len(name) > 100:  # file systems limit the length of names
            name = f"{name[:90]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
        session = Session(hydra, arguments, name, launcher)
        # A table may need a run that is a row of another table, given by different overrides.
        jobs = {run_folder(session.compose(list(cell.words))).root: cell.words for cell in missing}
        session.run_listed(list(jobs.values()))
    return session.tell() != 0


def at_once(launcher: Mapping[str, Any]) -> int | None:
    """How many evaluations run at a time on this machine: n_jobs of the process launcher. None with another launcher,
    whose n_jobs counts the jobs of a cluster."""
    return launcher.get("n_jobs") if launcher["_target_"] == PROCESSES else None


def _evaluate(missing: Sequence[Missing], count: int | None) -> bool:
    """Evaluate finished runs as the columns require, `count` at a time (see `divide`). Returns whether one failed."""
    from kdface.sweeps.slots import divide
    from kdface.sweeps.warm import Call, called

    if not missing:
        return False
    of_run: dict[str, list[Call]] = {}  # evaluations of one run are sequential
    failed = False
    with tempfile.TemporaryDirectory(prefix="kdface-table-") as logs:
        for place, evaluation in enumerate(missing):
            run_word = next(word for word in evaluation.words if word.startswith("run="))
            of_run.setdefault(run_word, []).append(Call(tuple(evaluation.arguments), Path(logs) / str(place)))
        for call, code in called(list(of_run.values()), divide(count, 1)):
            failed |= bool(code)
            text = call.log.read_text(errors="replace") if call.log.is_file() else ""
            print(text, end="", flush=True, file=sys.stderr if code else sys.stdout)
            told = f"failed with {said(code)}" if code else "evaluated"
            print(f"{told}: kdface {shlex.join(call.words)}", file=sys.stderr, flush=True)
    return failed
