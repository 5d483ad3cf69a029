"""Every fix that a message about a configuration suggests is applied to its own mistake, and the result tried."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.advice.counts import UNTRIED_AT_MOST, Counts, require_tried, rows, together
from tests.advice.row import Row

ROWS = rows("configurations")
counts = Counts()


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_a_suggested_fix_works(row: Row, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KDFACE_DATA", raising=False)
    counts.attempt(row, tmp_path)


def test_counts(tmp_path_factory: pytest.TempPathFactory) -> None:
    require_tried(together("configurations", counts, tmp_path_factory.getbasetemp()), UNTRIED_AT_MOST)
