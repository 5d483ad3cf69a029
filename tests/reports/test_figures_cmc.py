"""What is drawn is what was given: identification rates over ranks, bands, and names of many curves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kdface.errors import UserError
from kdface.reports.draw import draw_scores
from kdface.reports.figures import cmc_figure, det_figure, roc_figure
from kdface.reports.plotting import BASELINE, PALETTE, save

A, B = np.array([0.5, 0.75, 0.75, 1.0]), np.array([0.625, 0.7])
FAR, TAR = np.array([0.01, 0.1, 1.0]), np.array([0.5, 0.75, 1.0])


def test_cmc_draws_the_rates_from_rank_one_on() -> None:
    figure = cmc_figure({"a": A, "b": B}, bands={"a": (A - 0.125, A)}, baseline="b")
    axes = figure.axes[0]
    lines = {str(line.get_label()): line for line in axes.get_lines()}
    assert np.asarray(lines["a"].get_xdata()).tolist() == [1, 2, 3, 4]
    assert np.asarray(lines["a"].get_ydata()).tolist() == A.tolist()
    assert (lines["a"].get_color(), lines["b"].get_color()) == (PALETTE[0], BASELINE)
    assert 1 in axes.get_xticks()
    legend = axes.get_legend()
    assert legend is not None and [text.get_text() for text in legend.get_texts()] == ["b", "a"]  # best at rank 1 first
    (band,) = axes.collections
    corners = {(x, y) for x, y in np.asarray(band.get_paths()[0].vertices).tolist()}
    assert {(1.0, 0.375), (1.0, 0.5), (4.0, 0.875), (4.0, 1.0)} <= corners


def test_one_rank_can_be_drawn(tmp_path: Path) -> None:
    figure = cmc_figure({"a": A[:1]})
    save(figure, tmp_path / "cmc.png")
    assert (tmp_path / "cmc.png").stat().st_size > 1000
    (line,) = figure.axes[0].get_lines()
    assert np.array_equal(line.get_xydata(), [[1, A[0]]])
    assert list(figure.axes[0].get_xticks()) == [1]


@pytest.mark.parametrize("rates", [[], [0.5, 0.4], [50.0, 60.0], [np.nan]])
def test_other_rates_than_those_of_ranks_are_refused(rates: list[float]) -> None:
    with pytest.raises(UserError, match="is not a CMC curve"):
        cmc_figure({"a": np.array(rates)})


def test_bands_of_a_det_are_normal_deviates_within_the_axes(tmp_path: Path) -> None:
    figure = det_figure({"a": (FAR, 1 - TAR)}, bands={"a": (FAR, 1 - TAR - 0.25, 1 - TAR)})
    (band,) = figure.axes[0].collections
    vertices = np.asarray(band.get_paths()[0].vertices)
    assert vertices[:, 0].max() == pytest.approx(-1.2815515655446004)  # FMR 0.1; 1 has no place
    assert vertices[:, 1].max() == pytest.approx(0)  # FNMR 0.5
    assert np.isfinite(vertices).all()
    save(figure, tmp_path / "det.pdf")


def test_a_roc_holds_its_band() -> None:
    figure = roc_figure({"a": (FAR, TAR)}, bands={"a": (FAR, TAR - 0.25, TAR)})
    (band,) = figure.axes[0].collections
    assert figure.axes[0].get_ylim()[0] <= np.asarray(band.get_paths()[0].vertices)[:, 1].min() == 0.25


def test_many_names_stand_above_the_axes_in_a_column_of_a_paper(tmp_path: Path) -> None:
    figure = cmc_figure({f"a configuration, number {k} of the ten rows": A - k / 100 for k in range(10)})
    save(figure, tmp_path / "cmc.png")
    assert figure.axes[0].get_legend() is None
    (legend,) = figure.legends
    box, axes = legend.get_window_extent(), figure.axes[0].get_window_extent()
    assert len(legend.get_texts()) == 10
    assert box.y0 >= axes.y1 and box.y1 <= figure.bbox.y1
    assert box.x0 >= 0 and box.x1 <= figure.bbox.x1
    assert figure.get_figwidth() == 3.4
    assert axes.height > 2 * figure.dpi  # the names do not take the curves' room


def test_a_run_with_ranks_gets_its_cmc(tmp_path: Path) -> None:
    (tmp_path / "scores").mkdir()
    np.savez(tmp_path / "scores" / "ytf.npz", cmc=A)
    draw_scores(tmp_path / "scores", tmp_path / "figures")
    assert {file.name for file in (tmp_path / "figures").iterdir()} == {"ytf_cmc.png", "ytf_cmc.pdf"}
