"""metrics.jsonl: append-only, one JSON object per line; the source of reports and of `kdface sync`."""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from kdface.atomic import write_text
from kdface.errors import UserError
from kdface.metric_names import with_current_names
from kdface.runs.folder import open_own
from kdface.runs.schemas import Record
from kdface.stored import parse_json, read_bytes

log = logging.getLogger("kdface")


class Records:
    """Appends records to metrics.jsonl."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, kind: str, step: int, **values: Any) -> None:
        """Append {"kind", "step", "time", ...}. Non-finite numbers are written as null, since JSON lacks them."""
        record = {"kind": kind, "step": step, **_plain(values), "time": round(time.time(), 3)}
        with open_own(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT) as file:
            file.write(json.dumps(record, sort_keys=False, allow_nan=False) + "\n")

    def rewind(self, step: int, total: int | None = None, again: Collection[str] = ()) -> None:
        """Drop records after a checkpoint's step, those of the tests `again` after the last of `total` steps, and a
        partial last line, since the resumed run writes them again."""
        if not self.path.is_file():
            if step >= 0:  # the file was lost: start over here
                write_text(self.path, "")
            return
        kept = [
            record
            for record in read(self.path)
            if int(record["step"]) <= step
            and not (record["kind"] == "evaluation" and record["step"] == total and record.get("test") in again)
        ]
        write_text(self.path, "".join(json.dumps(record) + "\n" for record in kept))


def read(path: Path, tell: Callable[[str], object] = log.warning) -> Iterator[dict[str, Any]]:
    """The records of a metrics.jsonl, without a partial last line.

    Args:
        path: path of the file.
        tell: called for every other broken line, which is skipped too.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        lines = read_bytes(path).split(b"\n")
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}.") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = parse_json(line.decode(), Record)
        except ValueError as error:
            if number < len(lines):
                tell(f"{path}: line {number} is broken and skipped: {error}")
            continue
        yield with_current_names(record) if record["kind"] == "evaluation" else record


def scalars(record: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a record under their logged names."""
    if record["kind"] == "evaluation":
        return {name: metric["value"] for name, metric in record["metrics"].items() if metric["value"] is not None}
    found: dict[str, Any] = {key: value for key, value in record.items() if key not in ("kind", "step", "time")}
    for name, term in found.pop("terms", {}).items():
        found |= {name: term["raw"], f"{name}_weight": term["weighted"] / term["raw"] if term["raw"] else 1.0}
    prefix = "" if record["kind"] == "validation" else f"{record['kind']}/"
    numbers = {key: float(value) for key, value in found.items() if type(value) in (int, float) and key != "epoch"}
    return {f"{prefix}{key}": value for key, value in numbers.items()} | (
        {"epoch": float(found["epoch"])} if "epoch" in found else {}
    )


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
