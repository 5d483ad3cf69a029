"""What a job leaves in its run folder for whoever watches it: how many steps it will take, and why it failed.

plan.json    {"total_steps": N}, written when training begins
failed.json  {"error": "..."}, written by the job itself; a job that is started again removes it
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

from kdface.errors import UserError
from kdface.runs.folder import RunFolder, write_json
from kdface.runs.folder import held as held
from kdface.runs.schemas import Failure, Plan, Record
from kdface.stored import parse_json, printable, read_json, read_tail, tail

_TAIL = 1 << 16  # bytes of metrics.jsonl or output.log that are looked at


@dataclass(frozen=True)
class Progress:
    """How far a run is: steps done and in all, and the seconds left at its present rate, where they are known."""

    step: int = 0
    total: int | None = None
    left: float | None = None

    def __str__(self) -> str:
        return f"{self.step}/{self.total}" if self.total else f"{self.step}"


def note_plan(folder: RunFolder, total_steps: int) -> None:
    """Say how many steps the run will take."""
    write_json(folder.root / "plan.json", {"total_steps": total_steps})


def note_failure(folder: RunFolder, error: str) -> None:
    """The first word counts: of several ranks that fail together, the first to fail is the cause. A folder that was
    removed is not made again, and a full disk does not hide the cause."""
    if folder.config.is_file() and failure(folder) is None:
        with contextlib.suppress(OSError):
            write_json(folder.root / "failed.json", {"error": error})


def forget_failure(folder: RunFolder) -> None:
    """Remove the mark of a failure."""
    (folder.root / "failed.json").unlink(missing_ok=True)


def failure(folder: RunFolder) -> str | None:
    """Why a run failed; None if it did not."""
    found = _read(folder, "failed.json", Failure)
    if found is None:
        return "unknown: failed.json is damaged" if (folder.root / "failed.json").exists() else None
    return printable(found["error"])


def started(folder: RunFolder) -> bool:
    """Whether the run ever began to train."""
    return (folder.root / "environment.json").is_file()


def progress(folder: RunFolder) -> Progress:
    """Read from the end of metrics.jsonl; the rate is that between its last two records of training."""
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


def log_tail(folder: RunFolder, lines: int = 12) -> list[str]:
    """The last lines of what a job of a sweep printed, without what a terminal would act upon."""
    return tail(folder.root / "output.log", lines)


def _last_records(folder: RunFolder) -> list[dict[str, Any]]:
    try:
        rows = read_tail(folder.metrics, _TAIL).splitlines()
    except (OSError, ValueError):
        return []
    found = []
    for row in rows:
        with contextlib.suppress(ValueError):  # the part of a line that the tail begins with, or one being written
            found.append(parse_json(row.decode(), Record))
    return found


def _read(folder: RunFolder, name: str, schema: Any) -> Any:
    """A mark; None if it is not there or damaged: a watcher goes on without it."""
    try:
        return read_json(folder.root / name, schema)
    except UserError:
        return None
