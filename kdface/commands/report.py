"""kdface report: write one self-contained HTML file, by default DIR/report.html, of all runs under a folder.

The rows of paper tables name the runs; their numbers are shown first, next to the published ones.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from kdface.commands.arguments import Parser
from kdface.errors import UserError

if TYPE_CHECKING:
    from kdface.reports.html.page import Reader

POLL_SECONDS = 5.0


def run(words: list[str]) -> int:
    """Run `kdface report` and return the exit code. Raises `UserError` for invalid arguments."""
    parser = Parser("report", __doc__, "DIR", "[TABLE.yaml ...]", output="FILE.html")
    terms = "show faces of every dataset; check its terms before sharing the file"
    parser.flag("--images", action="store_true", help=terms)
    parser.flag("--watch", action="store_true", help="keep running; rewrite the report when a run changes")
    given = parser.read(words)
    folder, *tables = given.paths
    output, images = given.values.get("output") or folder / "report.html", "images" in given.values
    if output.suffix != ".html":
        raise UserError(f"{output}: the report is an HTML file.", expected="a file name ending in .html")
    from kdface.reports.html.page import Reader

    reader = Reader(folder)
    if "watch" in given.values:
        _watch(reader, output, tables, images=images)
    _write(reader, output, tables, live=False, images=images)
    return 0


def _watch(reader: Reader, output: Path, tables: Sequence[Path], *, images: bool) -> NoReturn:
    seen = None
    if reader.state() is None:
        print(f"waiting for the first run under {reader.root}", flush=True)
    while True:
        now = reader.state()
        if now is not None and now != seen:
            _write(reader, output, tables, live=True, images=images)
            seen = now
        time.sleep(POLL_SECONDS)


def _write(reader: Reader, output: Path, tables: Sequence[Path], *, live: bool, images: bool) -> None:
    from kdface.atomic import write_text
    from kdface.commands.table import tabulated
    from kdface.reports.html.page import report
    from kdface.reports.tables import read_definition

    runs = reader.runs()
    title = reader.root.resolve().name
    here = [f"paths.runs={json.dumps(str(reader.root))}"]
    made = [tabulated(read_definition(path), path.parent, here, []) for path in tables]
    write_text(output, report(runs, title, sweeps=reader.sweeps(), tables=made, live=live, images=images))
    done = sum(run.status == "done" for run in runs)
    print(f"written  {output}  ({len(runs)} runs, {done} finished, {output.stat().st_size / 1e6:.1f} MB)", flush=True)
