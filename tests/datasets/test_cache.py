"""Rows are drawn once, on several processes, and read from a file afterwards."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from kdface.datasets.cache import drawn_once

_ROW = np.dtype([("number", np.int64), ("square", np.float64, (2,))])


@pytest.mark.parametrize("rows", [5, 1000])
def test_rows_are_right_kept_and_read_again(rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KDFACE_CACHE", str(tmp_path / "cache"))
    calls: list[int] = []

    def draw(row: int) -> NDArray[Any]:
        calls.append(row)
        return np.array((row, [row**2, row / 2]), dtype=_ROW)

    code = [sys.modules[__name__]]
    first = drawn_once(("squares", 1), rows, _ROW, draw, code)
    assert first["number"].tolist() == list(range(rows))
    assert first["square"][:, 0].tolist() == [row**2 for row in range(rows)]
    drawn = len(calls)
    again = drawn_once(("squares", 1), rows, _ROW, draw, code)
    assert len(calls) == drawn and np.array_equal(first, again)
    drawn_once(("squares", 2), rows, _ROW, draw, code)
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_a_file_that_was_cut_off_is_drawn_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KDFACE_CACHE", str(tmp_path))

    def draw(row: int) -> NDArray[Any]:
        return np.array((row, [0, 0]), dtype=_ROW)

    drawn_once(("cut",), 50, _ROW, draw, [])
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:300])
    assert drawn_once(("cut",), 50, _ROW, draw, [])["number"].tolist() == list(range(50))
    assert file.stat().st_size > 50 * _ROW.itemsize


def test_a_folder_that_cannot_be_written_costs_only_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KDFACE_CACHE", str(tmp_path / "file" / "below"))
    found = drawn_once(("readonly",), 3, _ROW, lambda row: np.array((row, [0, 0]), dtype=_ROW), [])
    assert found["number"].tolist() == [0, 1, 2]
