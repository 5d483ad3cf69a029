"""A row's curve is the mean over its seeds of what their scores say, in a band from the lowest to the highest."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.typing import NDArray

from kdface.reports.plotting import BASELINE
from kdface.reports.tables import Table, collect, tabulate
from kdface.reports.tables.definition import Definition
from kdface.reports.tables.figures import curve_figures
from kdface.runs.folder import RunFolder
from tests.reports.folders import config, make_run

Arrays = Mapping[str, Mapping[str, NDArray[Any]]]

IMPOSTORS = [0.75, *np.arange(0.1, 0.19, 0.01)]  # ten: the least FAR is 0.1, where 0.75 alone is accepted
# Of the genuine pairs three and one score more than the second impostor; the others less than all impostors.
STRONG, WEAK = [0.9, 0.8, 0.7, 0.05], [0.9, 0.08, 0.07, 0.05]
QUARTILE = 0.6744897501960817  # of the normal distribution


def _pairs(genuine: Sequence[float]) -> dict[str, NDArray[Any]]:
    return {"scores": np.array([*genuine, *IMPOSTORS]), "same": np.arange(len(genuine) + 10) < len(genuine)}


def _table(folder: Path, rows: Mapping[str, Sequence[Arrays]], tests: Mapping[str, str] | None = None) -> Table:
    """A row for each label, with the arrays of its seeds; `tests`: what stands for {test} in its metric."""
    folders = {}
    for number, (label, seeds) in enumerate(rows.items()):
        for seed, arrays in enumerate(seeds):
            test = f"lfw_{tests[label]}" if tests else "lfw"
            tree = config(folder, seed=seed, head___target_=f"head {number}", evaluation={test: {}})
            made = make_run(folder, tree, {f"{test}/accuracy": 0.9, f"{test}/eer": 0.1}, arrays=arrays)
            folders[label, seed] = RunFolder(made)
    prefix = "lfw_{test}" if tests else "lfw"
    definition = Definition.model_validate(
        {
            "title": "t",
            "baseline": next(iter(rows)),
            "rows": [{"label": label, "overrides": [label], "test": (tests or {}).get(label, "")} for label in rows],
            "seeds": list(range(max(map(len, rows.values())))),
            "columns": [
                {"label": "accuracy", "metric": f"{prefix}/accuracy"},
                {"label": "EER", "metric": f"{prefix}/eer"},
            ],
        }
    )

    def locate(overrides: Sequence[str]) -> RunFolder:
        label, seed = overrides
        return folders.get((label, int(seed.removeprefix("seed="))), RunFolder(folder / "not there"))

    return tabulate(definition, collect(definition, locate), folder)


def _line(figure: Figure, label: str) -> tuple[NDArray[Any], NDArray[Any]]:
    (line,) = (line for line in figure.axes[0].get_lines() if line.get_label() == label)
    return np.asarray(line.get_xdata()), np.asarray(line.get_ydata())


def _band(figure: Figure) -> tuple[float, float]:
    """The lowest and the highest place of the one band of a figure."""
    (area,) = figure.axes[0].collections
    heights = np.asarray(area.get_paths()[0].vertices)[:, 1]
    return float(heights.min()), float(heights.max())


def test_roc_and_det_are_the_mean_of_seeds_from_the_least_far_that_the_pairs_show(tmp_path: Path) -> None:
    other = {"other": _pairs(STRONG)}  # no column reads it
    table = _table(
        tmp_path, {"a": [{"lfw": _pairs(STRONG), **other}, {"lfw": _pairs(WEAK)}], "b": [{"lfw": _pairs(WEAK)}]}
    )
    figures = curve_figures(table)
    assert list(figures) == ["lfw_roc", "lfw_det"]
    far, tar = _line(figures["lfw_roc"], "a")
    assert far == pytest.approx(10 ** (np.arange(-16, 1) / 16))  # sixteen points a decade
    assert tar == pytest.approx([0.5] * 16 + [1.0])
    assert _band(figures["lfw_roc"]) == pytest.approx((0.25, 1.0))
    assert figures["lfw_roc"].axes[0].get_xlim()[0] == pytest.approx(0.085)
    assert _line(figures["lfw_roc"], "b")[1] == pytest.approx([0.25] * 16 + [1.0])
    fmr, fnmr = _line(figures["lfw_det"], "a")
    assert fmr[0] == pytest.approx(-1.2815515655446004)  # the normal deviate of 0.1
    assert fnmr == pytest.approx([0.0] * 16, abs=1e-9)  # and of 0.5
    assert _band(figures["lfw_det"]) == pytest.approx((-QUARTILE, QUARTILE))
    assert _line(figures["lfw_det"], "b")[1] == pytest.approx([QUARTILE] * 16)


def test_cmc_is_the_mean_of_seeds_up_to_the_shortest(tmp_path: Path) -> None:
    seeds = [{"lfw": {"cmc": np.array([0.5, 0.75, 1.0])}}, {"lfw": {"cmc": np.array([0.25, 0.75])}}]
    figures = curve_figures(_table(tmp_path, {"a": seeds}))
    assert list(figures) == ["lfw_cmc"]
    ranks, rates = _line(figures["lfw_cmc"], "a")
    assert ranks.tolist() == [1, 2] and rates.tolist() == [0.375, 0.75]
    assert _band(figures["lfw_cmc"]) == (0.25, 0.75)


def test_error_versus_discard_has_a_band_and_leaves_out_runs_without_errors(tmp_path: Path) -> None:
    steps = np.array([0.0, 0.1])
    curves = [np.array([0.4, 0.2]), np.array([0.2, 0.2]), np.array([np.nan, np.nan])]
    seeds = [{"lfw": {"discarded": steps, "errors": errors}} for errors in curves]
    figure = curve_figures(_table(tmp_path, {"a": seeds}))["lfw_edc"]
    fractions, errors = _line(figure, "a")
    assert errors[fractions < 0.0999] == pytest.approx(0.3) and errors[fractions >= 0.1] == pytest.approx(0.2)
    assert _band(figure) == pytest.approx((0.2, 0.4))


def test_rows_of_tests_of_their_own_share_a_figure_and_the_baseline_is_grey(tmp_path: Path) -> None:
    rows = {"faces": [{"lfw_faces": _pairs(STRONG)}], "eyes": [{"lfw_eyes": _pairs(WEAK)}]}
    figures = curve_figures(_table(tmp_path, rows, {"faces": "faces", "eyes": "eyes"}))
    assert list(figures) == ["lfw_each_roc", "lfw_each_det"]
    assert _line(figures["lfw_each_roc"], "faces")[1][0] == 0.75
    assert _line(figures["lfw_each_roc"], "eyes")[1][0] == 0.25
    lines = {str(line.get_label()): line.get_color() for line in figures["lfw_each_roc"].axes[0].get_lines()}
    assert lines["faces"] == BASELINE != lines["eyes"]


def test_runs_without_arrays_have_no_figures(tmp_path: Path) -> None:
    assert curve_figures(_table(tmp_path, {"a": [{}]})) == {}


def test_a_later_evaluation_is_drawn_where_it_is_of_the_network_that_training_ended_with(tmp_path: Path) -> None:
    root = make_run(tmp_path, config(tmp_path), {"toy/accuracy": 0.9})
    (root / "evaluations" / "lfw" / "scores").mkdir(parents=True)
    pairs = _pairs(STRONG)
    np.savez(root / "evaluations" / "lfw" / "scores" / "lfw.npz", scores=pairs["scores"], same=pairs["same"])
    results = {
        "metrics": {"lfw/eer": {"value": 0.1}},
        "evaluation": {"lfw": {"_target_": "x"}},
        "data": {"lfw": {"fingerprint": "c0"}},
        "paths": {"data": "/data", "runs": str(tmp_path)},
        "checkpoint": str(root / "checkpoints" / "last.ckpt"),
    }
    definition = Definition.model_validate(
        {
            "title": "t",
            "seeds": [0],
            "rows": [{"label": "a", "overrides": []}],
            "columns": [{"label": "EER", "metric": "lfw/eer", "evaluation": "lfw"}],
        }
    )
    for step, drawn in ((20, []), (30, ["lfw_roc", "lfw_det"])):  # training ended with step 30
        text = json.dumps({**results, "step": step})
        (root / "evaluations" / "lfw" / "results.json").write_text(text, encoding="utf-8")
        table = tabulate(definition, collect(definition, lambda _: RunFolder(root)), tmp_path)
        assert list(curve_figures(table)) == drawn


def test_scores_that_cannot_be_read_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    table = _table(tmp_path, {"a": [{"lfw": _pairs(STRONG)}], "b": [{"lfw": _pairs(WEAK)}]})
    runs = [cells[0].runs[0] for cells in table.cells]
    file = runs[0].scores / "lfw.npz"
    file.write_bytes(file.read_bytes()[:-30])
    with caplog.at_level("WARNING"):
        figures = curve_figures(table)
    assert {line.get_label() for line in figures["lfw_roc"].axes[0].get_lines()} >= {"b"}
    assert "a" not in {line.get_label() for line in figures["lfw_roc"].axes[0].get_lines()}
    assert "left out of the figures" in caplog.text and str(file) in caplog.text
