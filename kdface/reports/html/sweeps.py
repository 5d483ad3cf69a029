"""The sweeps under a folder, by their ledgers: job counts by state, and failed or unstarted jobs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from kdface.stored import printable
from kdface.sweeps import marks
from kdface.sweeps.ledger import Entry, Ledger, State

_OPEN = (State.FAILED, State.WAITING)  # started jobs are listed among the runs


def read_sweeps(root: Path) -> list[dict[str, Any]]:
    """Plain JSON for each sweep under a folder.

    Returns:
        `name`, `counts` (state -> jobs), `jobs` (failed, then unstarted ones: `state`, `overrides`, and `why`, the
        first line of the failure), and `problem`, what could not be read.
    """
    found = []
    for file in sorted(root.rglob("sweeps/*/sweep.json")):
        ledger = Ledger(file.parent)
        problems: list[str] = []
        jobs = [(ledger.state(entry), entry) for entry in ledger.entries(problems.append)]
        counts = Counter(state for state, _ in jobs)
        found.append(
            {
                "name": file.parent.name,
                "counts": {str(state): counts[state] for state in State if counts[state]},
                "jobs": [_job(ledger, entry, kind) for kind in _OPEN for state, entry in jobs if state is kind],
                "problem": printable("; ".join(problems)).replace(f"{file.parent}/", ""),
            }
        )
    return found


def _job(ledger: Ledger, entry: Entry, state: State) -> dict[str, str]:
    why = (marks.failure(ledger.folder(entry)) or "").strip().partition("\n")[0]
    runs = str(ledger.runs.resolve())  # their location is not shown
    return {
        "state": str(state),
        "overrides": " ".join(entry.overrides).replace(runs, "<runs>"),
        "why": why.replace(runs, "<runs>"),
    }
