"""kdface report DIR [-o FILE.html] [--images] [--watch]: every run below a folder in one HTML file."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import NoReturn

from kdface.errors import UserError

POLL_SECONDS = 5.0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"kdface report: {message}.", mend="kdface report --help")


def run(words: list[str]) -> int:
    parser = _Parser(prog="kdface report", description="One self-contained HTML file of every run below a folder.")
    parser.add_argument("folder", type=Path, help="a folder of runs, such as runs")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE.html", help="default: DIR/report.html")
    parser.add_argument(
        "--images", action="store_true", help="show faces of every dataset; mind its terms before you hand the file on"
    )
    parser.add_argument("--watch", action="store_true", help="go on, and write it again whenever a run changes")
    given = parser.parse_args(words)
    output = given.output or given.folder / "report.html"
    if output.suffix != ".html":
        raise UserError(f"{output}: the report is an HTML file.", expected="a name that ends in .html")
    from kdface.reports.html.page import Reader

    reader = Reader(given.folder)
    _write(reader, output, live=given.watch, images=given.images)
    state = reader.state()
    while given.watch:
        time.sleep(POLL_SECONDS)
        if (now := reader.state()) != state:
            _write(reader, output, live=True, images=given.images)
            state = now
    return 0


def _write(reader: object, output: Path, *, live: bool, images: bool) -> None:
    from kdface.reports.html.page import Reader, report
    from kdface.runs.folder import write_text

    assert isinstance(reader, Reader)
    runs = reader.runs()
    write_text(output, report(runs, reader.root.resolve().name, live=live, images=images))
    done = sum(run.status == "done" for run in runs)
    print(f"written  {output}  ({len(runs)} runs, {done} finished, {output.stat().st_size / 1e6:.1f} MB)", flush=True)
