"""The rows in two files of equal cost, which two workers of the tests share, and the counts of them all."""

from __future__ import annotations

import importlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pytest

from tests.advice.attempt import attempt
from tests.advice.calls import raised_at
from tests.advice.row import Row
from tests.advice.sites import sites

# No more places than this may make a message whose fix a machine can apply and no row tries: a new message comes with
# its row.
UNTRIED_AT_MOST = 0
# The modules of rows of each file of tests.
PARTS = {
    "configurations": ("rows_config", "rows_methods", "rows_parts", "rows_machines"),
    "commands": ("rows_augmentations", "rows_commands", "rows_runs", "rows_sweeps", "rows_teachers", "rows_use"),
}


def rows(part: str) -> list[Row]:
    """The mistakes of a file of tests."""
    return [row for name in PARTS[part] for row in importlib.import_module(f"tests.advice.{name}").ROWS]


@dataclass
class Counts:
    """What a file of tests has tried.

    Attributes:
        mistakes, works, wrong, in_words: how many of each.
        reached: (file in the package, line) of the messages that were made.
    """

    mistakes: int = 0
    works: int = 0
    wrong: int = 0
    in_words: int = 0
    reached: list[tuple[str, int]] = field(default_factory=list)

    def attempt(self, row: Row, folder: Path) -> None:
        """Make a mistake and try its suggestions: none may be wrong."""
        tried = attempt(row, folder)
        self.mistakes += 1
        self.works += len(tried.works)
        self.wrong += len(tried.wrong)
        self.in_words += len(tried.in_words)
        assert not tried.wrong, "\n\n".join(tried.wrong)


def together(part: str, counts: Counts, session: Path) -> Counts:
    """The counts of all files of tests, written by each as it ends and put together by the last one.

    Args:
        part: this file's.
        counts: its own.
        session: the tests' temporary folder of this process.
    """
    if counts.mistakes < len(rows(part)):
        pytest.skip("counts are of all rows")
    counts.reached = sorted(raised_at)
    shared = session.parent if "PYTEST_XDIST_WORKER" in os.environ else session
    own = shared / f"advice-{part}.json"
    own.with_suffix(".tmp").write_text(json.dumps(asdict(counts)), encoding="utf-8")
    own.with_suffix(".tmp").rename(own)
    files = [shared / f"advice-{name}.json" for name in PARTS]
    if not all(file.is_file() for file in files):
        pytest.skip("the last file of rows counts")
    found = [Counts(**json.loads(file.read_text(encoding="utf-8"))) for file in files]
    names = ("mistakes", "works", "wrong", "in_words")
    sums = {name: sum(getattr(other, name) for other in found) for name in names}
    return Counts(**sums, reached=[(file, line) for other in found for file, line in other.reached])


def require_tried(counts: Counts, at_most: int) -> None:
    """Print the counts; fail where more places than that suggest what a machine can apply and no row tries."""
    places = [site for site in sites() if site.applicable]
    untried = [site for site in places if not site.reached(counts.reached)]
    tried = counts.works + counts.wrong
    print(f"\n{counts.mistakes} mistakes, {tried} suggestions applied, {counts.works} work,", end=" ")
    print(f"{counts.in_words} more in words alone")
    print(f"{len(sites())} places suggest a fix, {len(places)} of them one that a machine can apply;")
    print(f"{len(places) - len(untried)} of these have a row; without one:")
    print("\n".join(f"  kdface/{place}" for place in untried))
    assert len(untried) <= at_most
