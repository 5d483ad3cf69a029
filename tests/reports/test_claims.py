from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from scipy import stats

from kdface.cli import main
from kdface.reports.claims import findings, markdown, verdict
from kdface.reports.tables.render_csv import read_values

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
FIELDS = ("group", "row", "column", "seeds", "values")
CLAIM = {"paper": "P", "claim": "a beats b", "results": "t.csv", "row": "a", "less": "b", "column": "x"}


def _write(folder: Path, cells: Sequence[Sequence[str]], claims: list[dict[str, Any]]) -> Path:
    with (folder / "t.csv").open("w", newline="") as file:
        csv.writer(file).writerows([FIELDS, *cells])
    (folder / "claims.yaml").write_text(yaml.safe_dump(claims))
    return folder / "claims.yaml"


@pytest.mark.parametrize(
    ("low", "high", "states", "margin", "expected"),
    [
        (0.1, 2.0, "gain", 0, "holds"),
        (-0.1, 2.0, "gain", 0, "not decided"),
        (-2.0, -0.1, "gain", 0, "does not hold"),
        (None, None, "gain", 0, "not decided"),
        (-0.9, 5.0, "no loss", 1, "holds"),
        (-1.1, 0.5, "no loss", 1, "not decided"),
        (-3.0, -1.1, "no loss", 1, "does not hold"),
        (-0.9, 0.9, "no difference", 1, "holds"),
        (-0.9, 1.1, "no difference", 1, "not decided"),
        (1.1, 2.0, "no difference", 1, "does not hold"),
    ],
)
def test_a_verdict_follows_from_the_interval(low: Any, high: Any, states: Any, margin: float, expected: str) -> None:
    assert verdict(low, high, states, margin) == expected


def test_an_effect_is_the_paired_t_interval_in_points(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = np.array([0.5, 0.6, 0.8]), np.array([0.4, 0.45, 0.6])
    cells = [("g", "a", "x", "0 2 1", "0.5 0.8 0.6"), ("", "b", "x", "0 1 2", "0.4 0.45 0.6")]
    claims = [
        {**CLAIM, "row": "g a"},
        {**CLAIM, "row": "g a", "claim": "errors fall", "better": "lower"},
        {"paper": "Q", "claim": "more data", "not_testable": "no data"},
    ]
    path = _write(tmp_path, cells, claims)
    up, down, untested = findings(path)
    expected = stats.ttest_rel(a, b).confidence_interval(0.95)
    assert up.effect is not None and down.effect is not None and up.effect.high is not None
    assert up.effect.low == pytest.approx(100 * expected.low, abs=1e-9)
    assert up.effect.high == pytest.approx(100 * expected.high, abs=1e-9)
    assert down.effect.low == pytest.approx(-up.effect.high, abs=1e-9)
    assert (up.verdict, down.verdict, untested.verdict) == ("holds", "does not hold", "not testable here")
    assert main(["claims", str(path)]) == 0
    assert capsys.readouterr().out.startswith((tmp_path / "claims.md").read_text())
    assert (tmp_path / "claims.png").read_bytes().startswith(b"\x89PNG")


def test_text_of_a_claim_stays_in_its_cell(tmp_path: Path) -> None:
    cells = [("", "a|1", "x|*y*", "0 1", "0.5 0.6"), ("", "b", "x|*y*", "0 1", "0.4 0.4")]
    claims = [{**CLAIM, "paper": "P|Q", "claim": "|a| > b", "row": "a|1", "column": "x|*y*"}]
    path = _write(tmp_path, cells, claims)
    page = markdown(findings(path), str(path), "claims.png")
    line = next(line for line in page.splitlines() if "P\\|Q" in line)
    assert len(re.findall(r"(?<!\\)\|", line)) == 6 and "x\\|\\*y\\* (t), a\\|1 minus b" in line


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"row": "aa"}, "has no row 'aa'"),
        ({"column": "xx"}, "has no column 'xx'"),
        ({"rows": "a"}, "claim 1: unknown key 'rows'"),
        ({"states": "no loss"}, "a margin above 0"),
        ({"not_testable": "why"}, "a claim has results"),
        ({"results": "none.csv"}, "none.csv"),
    ],
)
def test_a_claim_that_cannot_be_read_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], told: str
) -> None:
    cells = [("", "a", "x", "0 1", "0.5 0.6"), ("", "b", "x", "0 1", "0.4 0.4")]
    path = _write(tmp_path, cells, [{**CLAIM, **change}])
    assert main(["claims", str(path)]) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "claims.md").exists()


def test_a_file_that_is_no_table_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = _write(tmp_path, [("", "a", "x", "0 1", "0.5")], [CLAIM])
    assert main(["claims", str(path)]) == 2
    assert "not a CSV that kdface table has written" in capsys.readouterr().err


def test_the_committed_page_is_what_the_tables_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in {"claims.yaml", *(str(found.claim.results) for found in findings(EXPERIMENTS / "claims.yaml"))} - {
        "None"
    }:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((EXPERIMENTS / name).read_bytes())
    assert main(["claims", str(tmp_path / "claims.yaml")]) == 0
    written = (tmp_path / "claims.md").read_text().replace(str(tmp_path), "experiments")
    assert written == (EXPERIMENTS / "claims.md").read_text()


_NUMBER = r"[-+]?\d+\.\d+"
_EFFECT = re.compile(rf"({_NUMBER})[ ,]+[(\[]({_NUMBER}) to ({_NUMBER})[)\]]|({_NUMBER}) \[({_NUMBER}), ({_NUMBER})\]")


@pytest.mark.parametrize("page", sorted(EXPERIMENTS.glob("*/README.md")), ids=lambda page: page.parent.name)
def test_every_effect_with_an_interval_on_a_page_is_in_its_tables(page: Path) -> None:
    """Each "+1.39 (0.77 to 2.01)" is the paired difference of two rows of one column of some table in the folder."""
    found = {tuple(filter(None, match)) for match in _EFFECT.findall(page.read_text())}
    known = np.array([effect for path in sorted(page.parent.glob("*.csv")) for effect in _effects(path)])
    missing = []
    for effect in sorted(found):
        half = 0.5001 * 10.0 ** -min(len(number.partition(".")[2]) for number in effect)
        near = np.abs(known - np.array([float(number) for number in effect])) < half
        if not near.all(1).any():
            missing.append(effect)
    assert not missing


def _effects(path: Path) -> list[tuple[float, float, float]]:
    """(difference, low, high) of any two rows in a column, as fractions and in points."""
    if path.name == "published.csv":
        return []
    values, effects = read_values(path), []
    for (row, column), (less, other) in itertools.permutations(values, 2):
        seeds = sorted(set(values[row, column]) & set(values[less, other]))
        if column == other and len(seeds) > 1:
            difference = np.array([values[row, column][seed] - values[less, other][seed] for seed in seeds])
            half = stats.t.ppf(0.975, len(seeds) - 1) * difference.std(ddof=1) / np.sqrt(len(seeds))
            mean = difference.mean()
            effects += [(scale * mean, scale * (mean - half), scale * (mean + half)) for scale in (1, 100)]
    return effects
