"""Files in a run folder for watchers of the job: its number of steps, and the reason of a failure.

plan.json    {"total_steps": N}, written at the start of training
failed.json  {"error": "..."}, written by the job itself and removed when it is started again
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

from kdface.atomic import write_json
from kdface.errors import UserError
from kdface.runs.folder import RunFolder
from kdface.runs.folder import held as held
from kdface.runs.schemas import Failure, Plan, Record
from kdface.stored import parse_json, printable, read_json, read_tail, tail

_FAILED_LINES = 12  # lines of a failed job's output to show
_TAIL = 1 << 16  # bytes to read from the end of metrics.jsonl or output.log


@dataclass(frozen=True)
class Progress:
    """Progress of a run: completed and total steps, and the seconds left at the current rate, if known."""

    step: int = 0
    total: int | None = None
    left: float | None = None

    def __str__(self) -> str:
        return f"{self.step}/{self.total}" if self.total else f"{self.step}"


def note_plan(folder: RunFolder, total_steps: int) -> None:
    """Record the total number of steps."""
    write_json(folder.root / "plan.json", {"total_steps": total_steps})


def note_failure(folder: RunFolder, error: str) -> None:
    """Record a failure unless one is recorded, since the first rank to fail is the cause. Does not recreate a removed
    folder; a full disk does not hide the cause."""
    if folder.config.is_file() and failure(folder) is None:
        with contextlib.suppress(OSError):
            write_json(folder.root / "failed.json", {"error": error})


def forget_failure(folder: RunFolder) -> None:
    """Remove the record of a failure."""
    (folder.root / "failed.json").unlink(missing_ok=True)


def failure(folder: RunFolder) -> str | None:
    """The reason why a run failed; None if it did not."""
    found = _read(folder, "failed.json", Failure)
    if found is None:
        return "unknown: failed.json is damaged" if (folder.root / "failed.json").exists() else None
    return printable(found["error"])


def progress(folder: RunFolder) -> Progress:
    """Progress from the end of metrics.jsonl; the rate is measured between the last two training records."""
    plan = _read(folder, "plan.json", Plan) or {}
    total = plan.get("total_steps")
    rows = [row for row in _last_records(folder) if row.get("kind") == "train"][-2:]
    if not rows:
        return Progress(total=total)
    step = int(rows[-1]["step"])
    steps = step - int(rows[0]["step"])
    if total is None or steps <= 0:
        return Progress(step, total)
    spent = rows[-1].get("time", 0.0) - rows[0].get("time", 0.0)
    return Progress(step, total, max(0.0, spent / steps * (total - step)))


def failed_lines(folder: RunFolder) -> list[str]:
    """The last lines of a failed job's output, without terminal control sequences, or else its recorded reason."""
    return tail(folder.root / "output.log", _FAILED_LINES) or (failure(folder) or "").splitlines()


def _last_records(folder: RunFolder) -> list[dict[str, Any]]:
    try:
        rows = read_tail(folder.metrics, _TAIL).splitlines()
    except (OSError, ValueError):
        return []
    found = []
    for row in rows:
        with contextlib.suppress(ValueError):  # a partial line at the start of the tail, or one being written
            found.append(parse_json(row.decode(), Record))
    return found


def _read(folder: RunFolder, name: str, schema: Any) -> Any:
    """Read such a file; None if it is missing or damaged."""
    try:
        return read_json(folder.root / name, schema)
    except UserError:
        return None
