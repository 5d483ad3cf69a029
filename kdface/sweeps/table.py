"""The results of a sweep: results.csv and results.json in its folder, and its table of states.

Jobs are sorted by key and no times are written, so the files of a resumed sweep are bit-identical to those of an
uninterrupted one.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from kdface.atomic import write_json, write_text
from kdface.csv_files import csv_text
from kdface.errors import UserError
from kdface.progress import clock
from kdface.stored import printable
from kdface.sweeps import marks
from kdface.sweeps.ledger import Entry, Ledger, State
from kdface.terminal import render, shown

log = logging.getLogger("kdface")


def write_results(ledger: Ledger) -> None:
    """Write one row per job: its run, point, state, and metrics. Unreadable values are left out."""
    rows = [(entry, ledger.state(entry)) for entry in ledger.entries(log.info)]
    found = [{**_told(entry, state), "metrics": _metrics(ledger, entry, state)} for entry, state in rows]
    write_json(ledger.root / "results.json", {"jobs": found})
    points = sorted({key for entry, _ in rows for key in entry.point})
    names = sorted({name for row in found for name in row["metrics"]})
    table: list[list[object]] = [["run", "base", *points, "state", *names]]
    for row in found:
        values = [row["metrics"].get(name) for name in names]
        table.append([row["run"], row["base"], *(row["point"].get(key, "") for key in points), row["state"], *values])
    write_text(ledger.root / "results.csv", csv_text(table))


def _told(entry: Entry, state: State) -> dict[str, Any]:
    return {"run": entry.run, "base": entry.base, "point": entry.point, "state": str(state)}


def _metrics(ledger: Ledger, entry: Entry, state: State) -> dict[str, float | None]:
    """The metrics of a finished job; empty if unreadable, which `status` reports."""
    if state is not State.DONE:
        return {}
    try:
        results = ledger.folder(entry).read_results()
    except UserError:
        return {}
    return {name: metric["value"] for name, metric in sorted(results["metrics"].items())}


def status(ledger: Ledger) -> str:
    """The table of `kdface sweep status`: every job with its state, progress, and reason of failure."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("job", "state", "steps", "left", "run"):
        table.add_column(name, overflow="fold")
    tails: list[str] = []
    counts: Counter[State] = Counter()
    for entry in ledger.entries(tails.append):
        state = ledger.state(entry)
        counts[state] += 1
        folder = ledger.folder(entry)
        found = marks.progress(folder)
        left = clock(found.left) if state is State.RUNNING and found.left is not None else ""
        title = printable(entry.title)
        steps = "" if state is State.WAITING else str(found)
        table.add_row(Text(title), str(state), steps, left, Text(printable(entry.run)))
        if state is State.DONE:
            try:
                folder.read_results()
            except UserError as error:
                tails.append(f"{title} has no results: {error.problem}")
        if state is State.FAILED:
            tails.append(f"{title} failed: {shown(folder.root)}/output.log ends with")
            tails += [f"    {line}" for line in marks.failed_lines(folder)]
    said = ", ".join(f"{counts[state]} {state}" for state in State if counts[state])
    return "\n".join([render(table), *map(printable, tails), f"{sum(counts.values())} jobs: {said or 'none'}"])
