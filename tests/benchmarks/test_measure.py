"""What the benchmarks measure with: the lines of the table, and peers' modules that share names."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from benchmarks.measure import Bound, LeftOut, Row, importable, ratios, table


def test_each_kind_of_line() -> None:
    assert ratios([1.0, 2.0, 4.0], [2.0, 6.0, 16.0]) == [2.0, 3.0, 4.0]
    lines = table(
        [
            Row("a", "peer", 2.0, 6.0, "s", [2.0, 3.0, 4.0], 2.5, "1 MiB", "half"),
            Bound("b", [0.5, 0.25, 1.0], "s", 2.0, "said"),
            LeftOut("c", "not installed"),
        ]
    ).splitlines()
    assert lines[2] == "| a | peer | 2 s | 6 s | 3 x (2 to 4) | 2.5 x | 1 MiB | half |"
    assert lines[3] == "| b | | 0.5 s (0.25 to 1) | | | at most 2 s | | said |"
    assert lines[4] == "| c | left out: not installed | | | | | | |"
    assert {line.count("|") for line in lines} == {9}


def test_two_peers_may_have_a_module_of_one_name(tmp_path: Path) -> None:
    path = list(sys.path)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "their_utils.py").write_text(f"import beside\nNAME = {name!r}, beside.NAME")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "beside.py").write_text("NAME = 'beside'")
    for name in ("one", "two"):
        with importable(tmp_path / name):
            found = importlib.import_module("their_utils").NAME
        assert found == (name, "beside")
        assert "their_utils" not in sys.modules and sys.path == path
    del sys.modules["beside"]
