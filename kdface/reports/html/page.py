"""Assemble the report from template, style, script, charting library and data."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from kdface.errors import UserError
from kdface.reports.html.images import contact_sheets, hardest_pairs
from kdface.reports.html.maps import embedding_maps
from kdface.reports.html.overview import facts, row_names
from kdface.reports.html.payload import LEADING, grouped, payload
from kdface.reports.html.runs import Run, read_run, run_folders, signature
from kdface.reports.html.sweeps import read_sweeps
from kdface.reports.tables import Table
from kdface.reports.tables.render_html import html
from kdface.reports.templates import render
from kdface.sweeps.ledger import State


class Reader:
    """Reads the runs under a folder; later calls read only changed ones."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._seen: dict[Path, tuple[Any, Run]] = {}

    def state(self) -> tuple[Any, ...] | None:
        """A value that changes whenever the report would; None if there is no run."""
        folders = run_folders(self.root)
        return (*((folder.root, signature(folder)) for folder in folders), self.sweeps()) if folders else None

    def sweeps(self) -> list[dict[str, Any]]:
        """The sweeps, from `kdface.reports.html.sweeps.read_sweeps`."""
        return read_sweeps(self.root)

    def runs(self) -> list[Run]:
        """The runs. Raises `UserError` if there is none."""
        folders = run_folders(self.root)
        if not folders:
            raise UserError(f"there is no run under {self.root}.", expected="a folder with runs of kdface train")
        found = []
        for folder in folders:
            now = signature(folder)
            before = self._seen.get(folder.root)
            if before is None or before[0] != now:
                before = self._seen[folder.root] = (now, read_run(folder, self.root))
            found.append(before[1])
        return found


def report(
    runs: list[Run],
    title: str,
    *,
    sweeps: Sequence[Mapping[str, Any]] = (),
    tables: Sequence[Table] = (),
    live: bool = False,
    images: bool = False,
) -> str:
    """The page as text.

    Args:
        runs, sweeps: from a `Reader`.
        title: title of the page.
        tables: paper tables; their rows name configurations, and their numbers are shown first, next to published ones.
        live: reload the page every 30 seconds, since the file is being rewritten.
        images: show images of every dataset, whatever its terms; otherwise only generated faces.
    """
    members = grouped(runs)
    told = payload(runs, title, row_names(tables))
    drawn = told["ranked"][:LEADING]
    data = {
        **told,
        "live": live,
        "leading": LEADING,
        "maps": embedding_maps(members, drawn),
        "sheets": contact_sheets(members, images),
        "hardest": hardest_pairs(members, drawn, images),
    }
    return render(
        "page.html",
        title=title,
        facts=list(facts(runs, members)),
        papers=told["papers"],
        labels=[group["label"] for group in told["groups"]],
        counts=[len(found) for found in members],
        tables=[html(table, "table.html") for table in tables],
        sweeps=sweeps,
        states=[str(state) for state in State if any(str(state) in sweep["counts"] for sweep in sweeps)],
        open_runs=[run for run in told["runs"] if run["status"] != "done" or run["problem"]],
        data=inert(json.dumps(data, allow_nan=False)),
        library=_library(),
    )


def inert(text: str) -> str:
    """JSON that cannot close its script element, whatever a run folder contains."""
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _library() -> str:
    """Plotly's JavaScript from its Python package, compressed; the page unpacks it when a chart becomes visible."""
    try:
        code = (resources.files("plotly") / "package_data" / "plotly.min.js").read_bytes()
    except (ImportError, FileNotFoundError):
        raise UserError(
            "kdface report needs Plotly, which is not installed.", fix='pip install "kdface[report]"'
        ) from None
    return base64.b64encode(gzip.compress(code, 9, mtime=0)).decode("ascii")
