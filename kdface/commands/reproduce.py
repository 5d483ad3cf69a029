"""kdface reproduce: rerun a run, or those of a table cell; print identical or the first difference.

If the runs of a cell are missing, they are trained and compared with the numbers in the table's CSV. paths.data=FOLDER
is where the data lies now.
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdface.commands.arguments import Parser, is_hydras, is_override
from kdface.errors import UserError
from kdface.sweeps.lifeline import said

if TYPE_CHECKING:
    from kdface.reports.tables.definition import Definition
    from kdface.runs.folder import RunFolder

# Depend on the clock, disk or an interruption, not on the computation; operating points follow from the scores.
_CLOCKED = ("time", "images_per_second", "seconds")
_NOT_RESULTS = ("train_seconds", "resumed_at", "operating_points")


def run(words: list[str]) -> int:
    """Run `kdface reproduce`. Returns exit code 0 if metrics and results are bit-identical, otherwise 1."""
    given = Parser(
        "reproduce",
        __doc__,
        "RUN|TABLE.yaml:ROW/COLUMN",
        overrides=lambda word: is_override(word) and not _is_cell(word),
    ).read(words)
    (thing,), overrides = given.things, given.overrides
    data = [word.partition("=")[2] for word in overrides if word.startswith("paths.data=")]
    if len(data) > 1:
        raise UserError(f"kdface reproduce {' '.join(words)}: paths.data= is given more than once.")
    now = data[0] if data else None
    if _is_cell(thing):
        return 0 if _cell(thing, overrides, now) else 1
    if len(overrides) != len(data):
        raise UserError(
            f"kdface reproduce {' '.join(words)}: a run is reproduced as it was configured.",
            expected="kdface reproduce RUN [paths.data=FOLDER]",
        )
    from kdface.runs.folder import find_run

    return 0 if again(find_run(thing), now) else 1


def again(first: RunFolder, data: str | None, evaluation: str = "", metrics: Sequence[str] = ()) -> bool:
    """Rerun, print the differences, and return whether the relevant values are identical.

    Args:
        first: a finished run.
        data: new folder of its data; None: unchanged.
        evaluation: also run this `kdface evaluate` on the second run, and compare `metrics` from it.
        metrics: their keys in results.json.
    """
    from kdface.runs.folder import RunFolder, prepare

    if not first.done:
        raise UserError(f"{first.root} is not finished.", fix=f"kdface run {first.root}")
    temporary = Path(tempfile.mkdtemp(prefix="kdface-reproduce-"))
    tree = moved(first.read_config(), temporary, data)
    second = RunFolder(temporary / f"again-{first.root.name}")
    prepare(second.root, tree, {"command": ["kdface", "reproduce", str(first.root)], "choices": {}, "where": {}})
    print(f"running {first.root} again in {second.root}", file=sys.stderr, flush=True)
    _call(second.root, "run", str(second.root), origin=str(first.root))
    rows = compare(first, second)
    if evaluation:
        where = f"paths.data={tree['paths']['data']}"
        _call(second.root, "evaluate", f"run={second.root}", f"evaluation={evaluation}", where, origin=str(first.root))
        rows.append((f"evaluation {evaluation}", _values(*(_measured(run, metrics) for run in (first, second))), True))
    same = True
    for what, difference, decides in rows:
        print(f"{what:<13} {difference or 'identical'}")
        same &= not (decides and difference)
    if same:
        shutil.rmtree(temporary)
    print("identical" if same else f"NOT identical; the second run is kept in {second.root}")
    return same


def _is_cell(word: str) -> bool:
    return ".yaml:" in word.partition("=")[0]  # labels may contain "=" too


def _cell(word: str, overrides: list[str], data: str | None) -> bool:
    """Reproduce every run of a table cell; `overrides` are those that the table was made with. If none of its runs is
    in paths.runs, they are trained there and compared with the numbers in the table's CSV."""
    from kdface.commands.table import tabulated
    from kdface.reports.tables import read_definition
    from kdface.reports.tables.definition import single
    from kdface.reports.tables.render_csv import read_values

    stem, _, name = word.partition(".yaml:")
    path = Path(f"{stem}.yaml")
    definition = single(read_definition(path), name, path)
    (row,), (column,) = definition.rows, definition.columns
    launcher = [word for word in overrides if is_hydras(word)]
    overrides = [word for word in overrides if word not in launcher]
    table = tabulated(definition, path.parent, overrides, [])
    runs = table.cells[0][0].runs
    csv = path.with_suffix(".csv")
    written = read_values(csv) if csv.is_file() and not runs else {}
    if values := written.get((f"{row.group} {row.label}".strip(), column.heading), {}):
        return _anew((definition, path), name, overrides, launcher, values)
    for cell in table.missing:
        print(f"{cell.what} is {cell.why}: {cell}", file=sys.stderr)
    if not runs:
        raise UserError(f"{name}: this cell has no run.", fix=str(table.missing[0]))
    metrics = column.metrics_of(row)
    same = []
    for seed, folder in runs.items():
        print(f"seed {seed}")
        later = [metric for metric in metrics if metric not in folder.read_results()["metrics"]]
        same.append(again(folder, data, column.evaluation if later else "", later))
    print(f"{name}: {sum(same)} of {len(same)} runs are identical")
    return all(same)


def _anew(
    table: tuple[Definition, Path],
    name: str,
    overrides: Sequence[str],
    launcher: Sequence[str],
    written: Mapping[int, float],
) -> bool:
    """Train and evaluate what a cell needs. Prints its values next to the written ones, and the difference of means
    relative to the sample standard deviation over the written seeds. Returns whether all values are identical."""
    from kdface.commands.table import filled

    (made,), _ = filled([table], overrides, launcher, [])
    values = made.cells[0][0].values
    if not values:
        raise UserError(f"{name}: its runs failed.", fix=str(made.missing[0]))
    print(f"{'seed':<6}{'written':>12}{'now':>12}{'difference':>12}")
    for seed in sorted(written.keys() | values.keys()):
        before, now = written.get(seed), values.get(seed)
        texts = [_decimal(value) for value in (before, now)]
        texts.append("" if before is None or now is None else _decimal(now - before))
        print(f"{seed:<6}" + "".join(f"{text:>12}" for text in texts))
    same = dict(written) == dict(values)
    if same:
        print(f"{name}: identical")
        return True
    distance = statistics.fmean(values.values()) - statistics.fmean(written.values())
    spread = statistics.stdev(written.values()) if len(written) > 1 else 0.0
    beside = f", {abs(distance) / spread:.2f} standard deviations over seeds ({_decimal(spread)})" if spread else ""
    print(f"{name}: NOT identical; the means differ by {_decimal(distance)}{beside}")
    return False


def _decimal(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.6f}"


def _call(folder: Path, *words: str, origin: str) -> None:
    from kdface.sweeps.slots import divide
    from kdface.sweeps.warm import Call, called

    ((_, code),) = called([[Call(words, folder / "output.log")]], divide(1, 1))
    if code:
        raise UserError(f"kdface {words[0]} stopped with {said(code)}.", origin=origin, fix=f"less {folder}/output.log")


def _measured(run: RunFolder, metrics: Sequence[str]) -> dict[str, Any]:
    """Metrics of a later `kdface evaluate`, each read from the same file as in the table."""
    measured: dict[str, Any] = {}
    for found in run.read_later().values():
        if run.is_of_end(found, run.read_results()):
            measured = {key: found["metrics"][key] for key in metrics if key in found["metrics"]} | measured
    return measured


def moved(tree: Mapping[str, Any], runs: Path, data: str | None) -> dict[str, Any]:
    """The configuration with another folder of runs, no logger, and the current data folder."""
    from kdface.config import fingerprint

    now = str(tree["paths"]["data"]) if data is None else str(Path(data).expanduser().absolute())
    found: dict[str, Any] = fingerprint.moved(tree, {str(tree["paths"]["data"]): now})
    found["paths"]["runs"] = str(runs)
    found["logger"] = None
    return found


def compare(first: Any, second: Any) -> list[tuple[str, str, bool]]:
    """Compare two run folders: (what, its first difference or "", whether it counts), causes before effects."""
    from kdface.config.fingerprint import fingerprint
    from kdface.runs.records import read

    one, two = first.read_config(), second.read_config()
    two["paths"] = {**two["paths"], "runs": one["paths"]["runs"]}  # the path of a teacher is unchanged
    configs = [fingerprint(one), fingerprint(two)]
    data = [folder.read_data() for folder in (first, second)]
    about = [folder.read_environment() for folder in (first, second)]
    results = [_without(folder.read_results(), _NOT_RESULTS) for folder in (first, second)]
    records = [list(read(folder.metrics)) for folder in (first, second)]
    git = [environment.get("git") or {} for environment in about]
    code = [
        {"commit": found.get("commit"), "uncommitted": found.get("diff"), "plugins": environment.get("plugins", {})}
        for found, environment in zip(git, about, strict=True)
    ]
    return [
        ("config", _values(*({"fingerprint": config} for config in configs)), False),
        ("data", _values(*({name: card.get("fingerprint") for name, card in cards.items()} for cards in data)), False),
        ("code", _values(*code), False),
        ("environment", _values(*(_without(environment, ("git", "plugins")) for environment in about)), False),
        ("metrics", first_record(*records), True),
        ("results", _values(*results), True),
    ]


def first_record(one: list[dict[str, Any]], two: list[dict[str, Any]]) -> str:
    """Describe the first record of metrics.jsonl that differs; "" if there is none."""
    for before, after in zip(one, two, strict=False):
        if told := _values(_without(before, _CLOCKED), _without(after, _CLOCKED)):
            return f"differ first at step {before.get('step')} ({before.get('kind')}): {told}"
    if len(one) != len(two):
        return f"{len(one)} records, then {len(two)}; the common ones are identical"
    return ""


def _values(one: Mapping[str, Any], two: Mapping[str, Any]) -> str:
    from kdface.config.fingerprint import difference

    rows = difference(one, two)
    if not rows:
        return ""
    key, before, after = rows[0]
    more = f" (and {len(rows) - 1} more)" if len(rows) > 1 else ""
    return f"{key}: {_brief(before)}, now {_brief(after)}{more}"


def _brief(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _without(tree: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: value for key, value in tree.items() if key not in keys}
