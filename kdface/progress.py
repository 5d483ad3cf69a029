"""Progress with rate and time left: a bar on a terminal, a line every ten seconds in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")
_QUIET_SECONDS = 10.0  # minimum interval between lines in a log
_SHOWN_AFTER = 2.0  # show no bar for shorter tasks


def clock(seconds: float) -> str:
    """A human-readable duration: 48 s, 12:05, 3:04:09."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class Meter:
    """Counts items and reports rate and time left on standard error."""

    def __init__(self, what: str, total: int, done: int = 0) -> None:
        self.what = what
        self.total = total
        self.done = self.began_with = done
        self.note = ""  # shown after the rate
        self._start = self._said = time.monotonic()
        self._terminal = sys.stderr.isatty()
        self._shown = False

    def advance(self, items: int) -> None:
        """Count `items` more."""
        self.done = min(self.done + items, self.total)
        now = time.monotonic()
        wait = 0.2 if self._terminal else _QUIET_SECONDS
        if now - self._said >= wait and now - self._start >= _SHOWN_AFTER:
            self._said = now
            self._show()

    def close(self) -> None:
        """Clear the line."""
        if self._terminal and self._shown:
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()

    def _show(self) -> None:
        self._shown = True
        spent = time.monotonic() - self._start
        rate = (self.done - self.began_with) / spent if spent > 0 else 0.0
        left = (self.total - self.done) / rate if rate > 0 else 0.0
        text = f"{self.what}  {self.done}/{self.total}  {rate:.0f}/s  {clock(left)} left  {self.note}".rstrip()
        if self._terminal:
            width = 24
            filled = round(width * self.done / max(1, self.total))
            sys.stderr.write(f"\r\x1b[2K{'━' * filled}{'─' * (width - filled)} {text}")
        else:
            sys.stderr.write(text + "\n")
        sys.stderr.flush()


def track(items: Iterable[Item], what: str, *, total: int, unit: int = 1) -> Iterator[Item]:
    """Iterate with progress; each item counts as `unit` of `total`."""
    meter = Meter(what, total)
    try:
        for item in items:
            yield item
            meter.advance(unit)
    finally:
        meter.close()
