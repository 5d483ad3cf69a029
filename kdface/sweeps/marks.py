"""What a job leaves in its run folder for whoever watches it: how many steps it will take, and why it failed.

plan.json    {"total_steps": N}, written when training begins
failed.json  {"error": "..."}, written by the job itself; a job that is started again removes it
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from typing import Any

from kdface.runs.folder import RunFolder, write_json
from kdface.runs.folder import held as held

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
    write_json(folder.root / "plan.json", {"total_steps": total_steps})


def note_failure(folder: RunFolder, error: str) -> None:
    """The first word counts: of several ranks that fail together, the first to fail is the cause. A folder that was
    removed is not made again, and a full disk does not hide the cause."""
    if folder.config.is_file() and failure(folder) is None:
        with contextlib.suppress(OSError):
            write_json(folder.root / "failed.json", {"error": error})


def forget_failure(folder: RunFolder) -> None:
    (folder.root / "failed.json").unlink(missing_ok=True)


def failure(folder: RunFolder) -> str | None:
    """Why a run failed; None where it did not."""
    found = _read(folder, "failed.json")
    return None if found is None else str(found.get("error", "unknown"))


def started(folder: RunFolder) -> bool:
    """Whether the run ever began to train."""
    return (folder.root / "environment.json").is_file()


def progress(folder: RunFolder) -> Progress:
    """Read from the end of metrics.jsonl; the rate is that between its last two records of training."""
    plan = _read(folder, "plan.json") or {}
    total = plan.get("total_steps")
    rows = [row for row in _last_records(folder) if row.get("kind") == "train"][-2:]
    if not rows:
        return Progress(total=total)
    step = int(rows[-1]["step"])
    steps = step - int(rows[0]["step"])
    if total is None or steps <= 0:
        return Progress(step, total)
    return Progress(step, total, (rows[-1]["time"] - rows[0]["time"]) / steps * (total - step))


def log_tail(folder: RunFolder, lines: int = 12) -> list[str]:
    """The last lines of what a job of a sweep printed."""
    path = folder.root / "output.log"
    if not path.is_file():
        return []
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL))
        text = file.read().decode("utf-8", errors="replace")
    return [line for line in text.splitlines() if line.strip()][-lines:]


def _last_records(folder: RunFolder) -> list[dict[str, Any]]:
    try:
        with open(folder.metrics, "rb") as file:
            file.seek(max(0, folder.metrics.stat().st_size - _TAIL))
            rows = file.read().decode("utf-8", errors="replace").splitlines()
    except OSError:
        return []
    found = []
    for row in rows:
        try:
            record = json.loads(row)
        except json.JSONDecodeError:
            continue  # the part of a line that the tail begins with, or one being written
        if isinstance(record, dict) and "step" in record:
            found.append(record)
    return found


def _read(folder: RunFolder, name: str) -> dict[str, Any] | None:
    try:
        found = json.loads((folder.root / name).read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return None
    return found if isinstance(found, dict) else None
