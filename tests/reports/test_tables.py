"""A table holds what the run folders hold, refuses what does not belong together, and says what is missing."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kdface.errors import UserError
from kdface.reports.tables import Definition, Table, collect, read_definition, tabulate
from kdface.reports.tables.figures import curve_figures
from kdface.reports.tables.render_csv import csv_text
from kdface.reports.tables.render_html import html
from kdface.reports.tables.render_latex import latex
from kdface.reports.tables.render_markdown import markdown
from kdface.runs.folder import RunFolder
from tests.reports.folders import config, make_run

ACCURACY = "lfw/accuracy"
# Seed -> accuracy. B is better than A by 0.02, 0.021, 0.019, ...; C is worse and noisy.
VALUES = {
    "arcface": {0: 0.90, 1: 0.91, 2: 0.92},
    "cosface": {0: 0.92, 1: 0.931, 2: 0.939},
    "normface": {0: 0.91, 1: 0.88, 2: 0.90},
}
PUBLISHED = """paper,table,method,dataset,value,spread,unit,provenance
A paper,1,ArcFace,LFW,99.5,0.1,percent,paper
A paper,1,CosFace,LFW,98.0,,percent,"secondary: printed elsewhere"
A paper,1,NormFace,LFW,,,percent,paper
A paper,1,Twice,LFW,1.0,,percent,paper
A paper,1,Twice,LFW,2.0,,percent,paper
"""


def _tree(runs: Path, head: str, seed: int, **changes: Any) -> dict[str, Any]:
    return config(runs, seed=seed, head___target_=f"kdface.heads.{head}", **changes)


def _locate(runs: Path) -> Any:
    def locate(overrides: Sequence[str]) -> RunFolder:
        given = dict(override.split("=") for override in overrides)
        tree = _tree(runs, given["head"], int(given["seed"]))
        from kdface.config.fingerprint import fingerprint

        return RunFolder(runs / "demo" / f"seed{given['seed']}-{fingerprint(tree)[:8]}")

    return locate


def _fill(runs: Path, heads: Sequence[str] = tuple(VALUES)) -> None:
    for head in heads:
        for seed, value in VALUES[head].items():
            make_run(runs, _tree(runs, head, seed), {ACCURACY: value, "lfw/tar@far=1e-6": None})


def _definition(folder: Path, text: str = "") -> Definition:
    (folder / "published.csv").write_text(PUBLISHED)
    path = folder / "table.yaml"
    path.write_text(
        text
        or """
title: Heads & margins_of 100 %
baseline: Arc|Face
rows:
  - {label: Arc|Face, overrides: [head=arcface], published: {method: ArcFace}}
  - {label: CosFace, overrides: [head=cosface], published: {method: CosFace}}
  - {label: NormFace, overrides: [head=normface], published: {method: NormFace}}
  - {label: Nobody's, published: {method: ArcFace}}
columns:
  - {label: LFW, metric: lfw/accuracy, published: {dataset: LFW}}
published: {where: {table: 1}}
"""
    )
    return read_definition(path)


def _table(folder: Path, runs: Path, definition: Definition | None = None) -> Table:
    definition = definition or _definition(folder)
    return tabulate(definition, collect(definition, _locate(runs)), folder)


def test_cells_are_means_over_seeds_beside_the_published_number(tmp_path: Path) -> None:
    _fill(tmp_path / "runs")
    table = _table(tmp_path, tmp_path / "runs")
    cells = [row[0] for row in table.cells]
    assert cells[0].summary is not None
    assert cells[0].summary.mean == pytest.approx(0.91)
    assert cells[0].summary.spread == pytest.approx(0.01)
    assert cells[0].gap == pytest.approx(0.91 - 0.995)
    assert cells[2].published is None  # an empty value is unknown
    assert (cells[3].expected, cells[3].summary) == (False, None)
    assert not table.missing


def test_only_a_significant_gain_wins(tmp_path: Path) -> None:
    _fill(tmp_path / "runs")
    table = _table(tmp_path, tmp_path / "runs")
    arc, cos, norm, _ = (row[0] for row in table.cells)
    assert arc.comparison is None and not arc.wins
    assert cos.comparison is not None and cos.comparison.adjusted is not None
    # Differences 0.02, 0.021, 0.019: t = 0.02 / (0.001 / sqrt 3) = 34.64 with 2 degrees of freedom,
    # p = 1 - t / sqrt(t^2 + 2) = 0.000832; two rows are tested, so twice that.
    assert cos.comparison.p == pytest.approx(8.32e-4, rel=1e-2)
    assert cos.comparison.adjusted == pytest.approx(2 * 8.32e-4, rel=1e-2)
    assert cos.wins and not norm.wins
    text = markdown(table)
    assert "**93.00 ± 0.95**" in text
    assert text.count("**") == 2


def test_a_lower_value_wins_where_lower_is_better(tmp_path: Path) -> None:
    _fill(tmp_path / "runs")
    text = """
title: t
baseline: cosface
rows: [{label: cosface, overrides: [head=cosface]}, {label: arcface, overrides: [head=arcface]}]
columns: [{label: a, metric: lfw/accuracy, better: lower}]
"""
    table = _table(tmp_path, tmp_path / "runs", _definition(tmp_path, text))
    assert table.cells[1][0].wins


def test_a_row_may_stand_untested_and_rows_may_be_contrasted(tmp_path: Path) -> None:
    _fill(tmp_path / "runs")
    text = """
title: t
baseline: arc
rows:
  - {label: arc, overrides: [head=arcface]}
  - {label: cos, overrides: [head=cosface], tested: false}
  - {label: norm, overrides: [head=normface]}
columns: [{label: LFW, metric: lfw/accuracy}]
contrasts: [[cos, arc]]
"""
    table = _table(tmp_path, tmp_path / "runs", _definition(tmp_path, text))
    arc, cos, norm = (row[0] for row in table.cells)
    assert arc.comparison is None and cos.comparison is None and not cos.wins
    assert norm.comparison is not None
    assert norm.comparison.difference == pytest.approx(((0.91 - 0.90) + (0.88 - 0.91) + (0.90 - 0.92)) / 3)
    assert norm.comparison.adjusted == norm.comparison.p  # the only one that is tested
    (contrast,) = table.contrasts
    # t = 34.64 as above; 0.02 and the half width t(2, 0.975) 0.001 / sqrt 3 = 4.3027 * 0.00057735 = 0.0025.
    assert (contrast.comparison.low, contrast.comparison.high) == pytest.approx((0.0175, 0.0225), abs=1e-4)
    said = "cos minus arc, LFW: +2.00 \\[+1.75, +2.25\\], p=0.000832, n=3"
    assert said in markdown(table) and said.replace("\\", "") in html(table)


MEAN = """
title: t
seeds: [0, 1]
rows: [{label: arc, overrides: [head=arcface]}]
columns:
  - {label: LFW, metric: lfw/accuracy}
  - {label: mean, metric: [lfw/accuracy, ytf/accuracy]}
"""


def _two_sets(runs: Path, seed: int, **changes: Any) -> dict[str, Any]:
    tests = {"lfw": {"_target_": "a", "pairs": "p"}, "ytf": {"_target_": "b", "pairs": "q"}}
    return _tree(runs, "arcface", seed, evaluation={**tests, **changes})


def _found(folders: dict[int, Path]) -> Any:
    return lambda overrides: RunFolder(folders[int(overrides[-1].removeprefix("seed="))])


def test_a_column_of_several_metrics_is_their_mean_within_each_run(tmp_path: Path) -> None:
    runs, other = tmp_path / "runs", "ytf/accuracy"
    values = {0: (0.9, 0.5), 1: (0.8, 0.7)}
    folders = {s: make_run(runs, _two_sets(runs, s), {ACCURACY: a, other: b}) for s, (a, b) in values.items()}
    definition = _definition(tmp_path, MEAN)
    table = tabulate(definition, collect(definition, _found(folders)), tmp_path)
    lfw, mean = table.cells[0]
    assert lfw.values == {0: 0.9, 1: 0.8}
    assert mean.values == pytest.approx({0: 0.7, 1: 0.75})
    assert mean.summary is not None
    # the spread is that of the two means: |.75 - .7| / sqrt 2
    assert (mean.summary.mean, mean.summary.spread) == pytest.approx((0.725, 0.05 / 2**0.5))
    (row,) = [row for row in csv.DictReader(io.StringIO(csv_text(table))) if row["column"] == "mean"]
    assert row["metric"] == "lfw/accuracy ytf/accuracy"


def test_a_mean_that_lacks_a_part_has_no_value(tmp_path: Path) -> None:
    runs, other = tmp_path / "runs", "ytf/accuracy"
    folders = {0: make_run(runs, _two_sets(runs, 0), {ACCURACY: 0.9, other: None})}
    folders[1] = make_run(runs, _two_sets(runs, 1), {ACCURACY: 0.8, other: 0.6})
    definition = _definition(tmp_path, MEAN)
    mean = tabulate(definition, collect(definition, _found(folders)), tmp_path).cells[0][1]
    assert mean.unresolved and mean.values == pytest.approx({1: 0.7})


def test_a_mean_of_a_metric_that_no_run_has_is_told(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    folders = {s: make_run(runs, _two_sets(runs, s), {ACCURACY: 0.9}) for s in (0, 1)}
    with pytest.raises(UserError, match=r"no metric 'ytf/accuracy'"):
        collect(_definition(tmp_path, MEAN), _found(folders))


def test_means_over_other_protocols_refuse_to_share_a_column(tmp_path: Path) -> None:
    runs, values = tmp_path / "runs", {ACCURACY: 0.9, "ytf/accuracy": 0.6}
    folders = {0: make_run(runs, _two_sets(runs, 0), values)}
    folders[1] = make_run(runs, _two_sets(runs, 1, ytf={"_target_": "b", "pairs": "r"}), values)
    with pytest.raises(UserError, match=r"column 'mean': .* different protocols \(ytf\.pairs: 'q' and 'r'\)"):
        collect(_definition(tmp_path, MEAN), _found(folders))


def test_missing_cells_say_the_command(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    _fill(runs, ["arcface", "cosface"])
    make_run(runs, _tree(runs, "normface", 1), None)
    table = _table(tmp_path, runs)
    text = markdown(table)
    assert "| NormFace | — |" in text
    assert "kdface train head=normface seed=0   # NormFace, seed 0: not run" in text
    assert "kdface train head=normface seed=1   # NormFace, seed 1: not finished" in text
    assert [cell.what for cell in table.missing] == [f"NormFace, seed {seed}" for seed in range(3)]


def test_fewer_seeds_are_told(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    _fill(runs, ["arcface", "cosface"])
    make_run(runs, _tree(runs, "normface", 1), {ACCURACY: 0.9})
    assert "90.00 (n=1)" in markdown(_table(tmp_path, runs))


def test_a_deleted_run_comes_back_with_the_same_bytes(tmp_path: Path) -> None:
    import shutil

    runs = tmp_path / "runs"
    _fill(runs)
    before = {form.__name__: form(_table(tmp_path, runs)) for form in (markdown, latex, csv_text)}
    root = _locate(runs)(["head=cosface", "seed=1"]).root
    shutil.rmtree(root)
    assert len(_table(tmp_path, runs).missing) == 1
    make_run(runs, _tree(runs, "cosface", 1), {ACCURACY: VALUES["cosface"][1]})
    assert {form.__name__: form(_table(tmp_path, runs)) for form in (markdown, latex, csv_text)} == before


def test_a_value_that_the_data_cannot_resolve_is_not_available(tmp_path: Path) -> None:
    _fill(tmp_path / "runs")
    text = "title: t\nrows: [{label: a, overrides: [head=arcface]}]\ncolumns: [{label: b, metric: lfw/tar@far=1e-6}]"
    assert "| a | n/a |" in markdown(_table(tmp_path, tmp_path / "runs", _definition(tmp_path, text)))


def test_a_metric_that_no_run_has_is_told(tmp_path: Path) -> None:
    _fill(tmp_path / "runs")
    text = "title: t\nrows: [{label: a, overrides: [head=arcface]}]\ncolumns: [{label: b, metric: lfw/acuracy}]"
    with pytest.raises(UserError, match="no metric") as caught:
        _table(tmp_path, tmp_path / "runs", _definition(tmp_path, text))
    assert caught.value.nearest == ACCURACY


def test_a_later_evaluation_fills_a_column_and_its_command_is_told(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    root = make_run(runs, _tree(runs, "arcface", 0), {ACCURACY: 0.9})
    text = (
        "title: t\nseeds: [0]\nrows: [{label: a, overrides: [head=arcface]}]\n"
        "columns: [{label: b, metric: cfp/accuracy, evaluation: cfp}]"
    )
    definition = _definition(tmp_path, text)
    assert "evaluation=cfp" in markdown(_table(tmp_path, runs, definition))
    found, given = _found({0: root}), ["paths.data=/d", "paths.runs=/r", "hydra.searchpath=[file:///c]", "head=x"]
    (missing,) = collect(definition, found, given).missing
    assert missing.words[1:] == ("evaluation=cfp", *given[:3])
    results = {
        "metrics": {"cfp/accuracy": {"value": 0.75}},
        "evaluation": {"cfp": {"_target_": "x"}},
        "data": {"cfp": {"fingerprint": "c0"}},
        "paths": {"data": "/data"},
        "checkpoint": str(root / "checkpoints" / "step30.ckpt"),
        "step": 30,
    }
    (root / "evaluations" / "cfp").mkdir(parents=True)
    (root / "evaluations" / "cfp" / "results.json").write_text(json.dumps(results))
    assert "evaluation=cfp" in markdown(_table(tmp_path, runs, definition))  # that was a network on the way there
    results |= {"checkpoint": str(root / "checkpoints" / "last.ckpt"), "step": 20}
    (root / "evaluations" / "cfp" / "results.json").write_text(json.dumps(results))
    assert "evaluation=cfp" in markdown(_table(tmp_path, runs, definition))  # and that the last one before it went on
    results["step"] = 30
    (root / "evaluations" / "cfp" / "results.json").write_text(json.dumps(results))
    assert "| a | 75.00 |" in markdown(_table(tmp_path, runs, definition))


def test_evaluations_made_from_other_folders_share_a_column(tmp_path: Path) -> None:
    """The network that recognises lies in the folder of runs, which each machine calls what it likes."""
    runs, folders = tmp_path / "runs", {}
    for seed, place in enumerate(("/here/runs", "/there")):
        folders[seed] = make_run(runs, _tree(runs, "arcface", seed), {ACCURACY: 0.9})
        results = {
            "metrics": {"cfp/accuracy": {"value": 0.75}},
            "evaluation": {"cfp": {"_target_": "x", "recognition": {"run": f"{place}/teacher/seed0"}}},
            "data": {"cfp": {"fingerprint": "c0"}},
            "paths": {"data": "/data", "runs": place},
            "checkpoint": str(folders[seed] / "checkpoints" / "last.ckpt"),
            "step": 30,
        }
        (folders[seed] / "evaluations" / "cfp").mkdir(parents=True)
        (folders[seed] / "evaluations" / "cfp" / "results.json").write_text(json.dumps(results))
    text = (
        "title: t\nseeds: [0, 1]\nrows: [{label: a, overrides: [head=arcface]}]\n"
        "columns: [{label: b, metric: cfp/accuracy, evaluation: cfp}]"
    )
    (values,) = collect(_definition(tmp_path, text), _found(folders)).values.values()
    assert {seed: value.value for seed, value in values.items()} == {0: 0.75, 1: 0.75}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"data": "d1"}, r"different data \(lfw: fingerprint d0 and d1\)"),
        ({"train_data": "t1"}, r"different data \(training set: fingerprint t0 and t1\)"),
    ],
)
def test_other_data_refuse_to_share_a_column(tmp_path: Path, change: dict[str, str], told: str) -> None:
    runs = tmp_path / "runs"
    _fill(runs, ["arcface"])
    root = make_run(runs, _tree(runs, "cosface", 0), {ACCURACY: 0.9}, **change)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=told) as caught:
        _table(tmp_path, runs)
    assert root.name in str(caught.value)


def test_other_protocols_refuse_to_share_a_column(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    _fill(runs, ["arcface", "cosface"])
    locate = _locate(runs)
    other = make_run(runs, _tree(runs, "normface", 0, evaluation__lfw__pairs="/nowhere/data/view1.txt"), {ACCURACY: 1})
    definition = _definition(tmp_path)

    def found(overrides: Sequence[str]) -> RunFolder:
        return RunFolder(other) if "head=normface" in overrides else locate(overrides)

    with pytest.raises(UserError, match=r"lfw\.pairs: '<data>/pairs.txt' and '<data>/view1.txt'"):
        collect(definition, found)


def test_runs_in_two_folders_with_their_recognition_networks_share_a_column(tmp_path: Path) -> None:
    folders = {}
    for seed in (0, 1):
        runs = tmp_path / f"clone{seed}" / "runs"
        tree = _tree(runs, "arcface", seed, evaluation__lfw__recognition={"run": f"{runs}/teacher/seed0"})
        folders[f"seed={seed}"] = make_run(runs, tree, {ACCURACY: 0.9})
    text = (
        "title: t\nseeds: [0, 1]\nrows: [{label: a, overrides: [head=arcface]}]\n"
        "columns: [{label: LFW, metric: lfw/accuracy}]"
    )
    found = collect(_definition(tmp_path, text), lambda overrides: RunFolder(folders[overrides[-1]]))
    assert {seed: cell.value for seed, cell in found.values[0, 0].items()} == {0: 0.9, 1: 0.9}
    for seed, weights in ((0, "aa"), (1, "bb")):  # the same run by name, trained anew in between
        results = folders[f"seed={seed}"] / "results.json"
        choices = {"lfw": {"recognition": f"weights {weights}"}}
        results.write_text(json.dumps({**json.loads(results.read_text()), "choices": choices}))
    with pytest.raises(UserError, match="different weights in the network that recognises"):
        collect(_definition(tmp_path, text), lambda overrides: RunFolder(folders[overrides[-1]]))


def test_runs_may_train_on_other_sets_and_image_sizes(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    _fill(runs, ["arcface"])
    locate = _locate(runs)
    changes = {"dataset__people": 99, "evaluation__lfw__dataset": {"size": [96, 96]}}
    other = make_run(runs, _tree(runs, "cosface", 0, **changes), {ACCURACY: 0.9}, train_data="t9")
    plain = {"evaluation__lfw__dataset": {"size": [112, 112]}}
    one = make_run(runs, _tree(runs, "arcface", 0, **plain), {ACCURACY: 0.9})
    folders = {"head=arcface": one, "head=cosface": other}
    text = (
        "title: t\nseeds: [0]\nrows: [{label: a, overrides: [head=arcface]}, {label: b, overrides: [head=cosface]}]\n"
        "columns: [{label: LFW, metric: lfw/accuracy}]"
    )
    found = collect(_definition(tmp_path, text), lambda overrides: RunFolder(folders[overrides[0]]))
    assert len(found.values) == 2
    assert locate(["head=arcface", "seed=1"]).done


def test_error_versus_discard_is_the_mean_of_the_seeds_steps(tmp_path: Path) -> None:
    runs, folders = tmp_path / "runs", {}
    for seed, errors in {0: [0.4, 0.2], 1: [0.2, 0.1]}.items():
        curve = {"discarded": np.array([0.0, 0.1 * (seed + 1)]), "errors": np.array(errors)}
        folders[seed] = make_run(runs, _tree(runs, "arcface", seed), {ACCURACY: 0.9}, arrays={"lfw": curve})
    plain = {seed: make_run(runs, _tree(runs, "cosface", seed), {ACCURACY: 0.9}) for seed in (0, 1)}
    text = (
        "title: t\nseeds: [0, 1]\ncolumns: [{label: LFW, metric: lfw/accuracy}]\n"
        "rows: [{label: a, group: g, overrides: [head=arcface]}, {label: b, overrides: [head=cosface]}]"
    )

    def found(overrides: Sequence[str]) -> RunFolder:
        return RunFolder((folders if "head=arcface" in overrides else plain)[int(overrides[-1][-1])])

    definition = _definition(tmp_path, text)
    (figure,) = curve_figures(tabulate(definition, collect(definition, found), tmp_path)).values()
    (line,) = (line for line in figure.axes[0].get_lines() if line.get_label() == "a, g")  # beside it, E(0)
    x, y = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
    for fraction, error in {0.0: 0.3, 0.05: 0.3, 0.15: 0.2, 0.25: 0.15}.items():
        assert y[np.argmin(np.abs(x - fraction))] == pytest.approx(error)


def test_a_run_that_cannot_be_read_is_one_line_and_the_others_make_the_table(tmp_path: Path) -> None:
    _fill(tmp_path / "runs")
    definition = _definition(tmp_path)
    locate = _locate(tmp_path / "runs")
    runs = [locate([f"head={head}", "seed=0"]) for head in ("arcface", "cosface", "normface")]
    runs[0].results.write_text('{"metrics": {"lfw/accuracy": {"value": NaN}}}')
    (runs[1].root / "data.json").write_text("[" * 100_000)
    later = runs[2].evaluations / "again" / "results.json"  # its own numbers are there all the same
    later.parent.mkdir(parents=True)
    later.write_text("{")
    table = tabulate(definition, collect(definition, locate), tmp_path)
    told = {missing.what: missing.why for missing in table.missing}
    assert set(told) == {"Arc|Face, seed 0", "CosFace, seed 0"}
    assert "NaN is no JSON" in told["Arc|Face, seed 0"] and "nested" in told["CosFace, seed 0"]
    assert [len(row[0].values) for row in table.cells] == [2, 2, 3, 0]
    assert "results.json cannot be read: NaN is no JSON" in markdown(table)
