"""metrics.jsonl: one JSON object a line, append-only, the truth that every logger is fed from."""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from kdface.errors import UserError
from kdface.metric_names import with_current_names
from kdface.runs.folder import open_own, write_text
from kdface.runs.schemas import Record
from kdface.stored import parse_json, read_bytes

log = logging.getLogger("kdface")


class Logger(Protocol):
    """Where records go besides metrics.jsonl."""

    def write(self, record: dict[str, Any]) -> None: ...

    def close(self) -> None: ...


class Records:
    """Appends records to metrics.jsonl and hands them on. A logger that fails is told of once and then left alone.

    Args:
        path: metrics.jsonl.
        logger: where records go besides.
        warn: how to tell that the logger failed.
    """

    def __init__(self, path: Path, logger: Logger | None = None, warn: Any = print) -> None:
        self.path = path
        self.logger = logger
        self.warn = warn

    def write(self, kind: str, step: int, **values: Any) -> None:
        """Append {"kind", "step", "time", ...}. Numbers that are not finite are written as null: JSON has none."""
        record = {"kind": kind, "step": step, **_plain(values), "time": round(time.time(), 3)}
        with open_own(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT) as file:
            file.write(json.dumps(record, sort_keys=False, allow_nan=False) + "\n")
        self._hand_on(record)

    def rewind(self, step: int, total: int | None = None) -> None:
        """Drop what lies after a checkpoint's step, the evaluation after the last of `total` steps, and a half-written
        last line: the resumed run writes them again."""
        if not self.path.is_file():
            return
        kept = [
            record
            for record in read(self.path)
            if int(record["step"]) <= step and not (record["kind"] == "evaluation" and record["step"] == total)
        ]
        write_text(self.path, "".join(json.dumps(record) + "\n" for record in kept))

    def close(self) -> None:
        if self.logger is not None:
            try:
                self.logger.close()
            except Exception as error:
                self.warn(f"the logger did not close: {error}")

    def _hand_on(self, record: dict[str, Any]) -> None:
        if self.logger is None:
            return
        try:
            self.logger.write(record)
        except Exception as error:  # a logger must never stop training, whatever it raises
            self.warn(f"the logger failed and is left out from here on ({error}); metrics.jsonl goes on")
            self.logger = None


def read(path: Path, tell: Callable[[str], object] = log.warning) -> Iterator[dict[str, Any]]:
    """The records of a metrics.jsonl; a last line that a kill cut off is left out.

    Args:
        path: of the file.
        tell: is told of each other line that is broken; it is left out too.

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
                tell(f"{path}: line {number} is broken and left out: {error}")
            continue
        yield with_current_names(record) if record["kind"] == "evaluation" else record


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
