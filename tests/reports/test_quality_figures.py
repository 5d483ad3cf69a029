"""What is drawn is what was given; files are the same bytes each time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure

from kdface.errors import UserError
from kdface.faces import Image
from kdface.reports.contact_sheet import quality_sheet
from kdface.reports.draw import draw_scores
from kdface.reports.figures import consistency_figure, edc_figure
from kdface.reports.plotting import BASELINE, PALETTE, save

D = np.array([0.0, 0.1, 0.2, 0.5])
RUNS = {"norm": (D, np.array([0.2, 0.18, 0.17, 0.1])), "AI-KD": (D, np.array([0.2, 0.1, 0.06, 0.0]))}
BANDS = {"AI-KD": (np.array([0.0, 0.1, 0.4]), np.array([0.15, 0.05, 0.0]), np.array([0.25, 0.15, 0.1]))}


def test_e0_is_told_where_all_runs_begin_there() -> None:
    """Recognised by one network; with several networks there is no one E(0)."""
    d = np.array([0.0, 0.1])
    one = edc_figure({"a": (d, np.array([0.25, 0.125])), "b": (d, np.array([0.25, 0.0]))})
    assert [text.get_text() for text in one.axes[0].texts if "E(0)" in text.get_text()] == ["E(0) = 0.25"]
    two = edc_figure({"a": (d, np.array([0.25, 0.125])), "b": (d, np.array([0.5, 0.0]))})
    assert not [text for text in two.axes[0].texts if "E(0)" in text.get_text()]


def _lines(figure: Figure) -> dict[str, Any]:
    return {str(line.get_label()): line for line in figure.axes[0].get_lines()}


def test_error_versus_discard_is_drawn_in_steps_up_to_the_limit() -> None:
    figure = edc_figure(RUNS, bands=BANDS, limit=0.3, baseline="norm")
    line = _lines(figure)["AI-KD"]
    assert line.get_xdata().tolist() == [0, 0.1, 0.2, 0.3]
    assert line.get_ydata().tolist() == [0.2, 0.1, 0.06, 0.06]
    assert line.get_drawstyle() == "steps-post"
    assert line.get_color() == PALETTE[0] and _lines(figure)["norm"].get_color() == BASELINE
    legend = figure.axes[0].get_legend()
    assert legend is not None and [text.get_text() for text in legend.get_texts()] == ["norm", "AI-KD"]
    (band,) = figure.axes[0].collections
    corners = np.asarray(band.get_paths()[0].vertices).tolist()
    assert {(0.0, 0.15), (0.0, 0.25), (0.1, 0.05), (0.1, 0.15)} <= {(x, y) for x, y in corners}
    assert max(x for x, _ in corners) <= 0.1  # its point beyond the limit is not drawn


def test_a_run_without_errors_can_be_drawn(tmp_path: Path) -> None:
    figure = edc_figure({"perfect": (np.array([0.0]), np.array([0.0]))})
    save(figure, tmp_path / "edc.png")
    assert _lines(figure)["perfect"].get_xdata().tolist() == [0, 0.3]
    assert figure.axes[0].get_ylim()[1] > 0


def test_consistency_draws_every_image_and_the_diagonal() -> None:
    aligned, perturbed = np.array([0.1, 0.5, 0.9]), np.array([0.2, 0.4, 0.7])
    figure = consistency_figure(aligned, perturbed, spearman=0.9876)
    axes = figure.axes[0]
    (points,) = (collection for collection in axes.collections if isinstance(collection, PathCollection))
    assert np.asarray(points.get_offsets()) == pytest.approx(np.stack([aligned, perturbed], axis=1))
    assert axes.get_xlim() == axes.get_ylim()
    (diagonal,) = axes.get_lines()
    assert np.array_equal(diagonal.get_xdata(), diagonal.get_ydata())
    assert axes.texts[0].get_text() == "Spearman 0.988\n3 images"
    assert axes.get_ylabel() == "Quality, misaligned"
    constant = consistency_figure(np.ones(3), np.ones(3), spearman=None)
    assert constant.axes[0].texts[0].get_text() == "3 images"


def _images(number: int) -> list[Image]:
    return [np.full((112, 112, 3), 8 * k, dtype=np.uint8) for k in range(number)]


def _shown(figure: Figure, path: Path) -> list[int]:
    """The grey values of the images of a sheet, row by row."""
    save(figure, path)
    sheet = np.asarray(cv2.imread(str(path)))[..., 0]
    windows = np.lib.stride_tricks.sliding_window_view(sheet, (112, 112))[:, :, ::37, ::37].reshape(
        sheet.shape[0] - 111, sheet.shape[1] - 111, -1
    )
    flat = (windows == windows[:, :, :1]).all(axis=2) & (windows[:, :, 0] != 255)
    return [int(sheet[y, x]) for y, x in np.argwhere(flat)]


def test_a_sheet_runs_from_the_lowest_quality_to_the_highest(tmp_path: Path) -> None:
    scores = np.array([0.3, 0.125, 0.9, 0.5, 0.7, 0.6, 0.2, 0.35, 0.45, 0.55, 0.65, 0.95])
    figure = quality_sheet(_images(12), scores)
    assert _shown(figure, tmp_path / "sheet.png") == [8 * int(k) for k in np.argsort(scores)]
    titles = [text.get_text() for text in figure.texts]
    assert "0.125 to 0.7" in titles and "0.9 to 0.95" in titles


def test_a_sheet_of_many_keeps_the_extremes(tmp_path: Path) -> None:
    shown = _shown(quality_sheet(_images(30), np.arange(30.0), most=5), tmp_path / "sheet.png")
    assert len(shown) == 5 and shown[0] == 0 and shown[-1] == 8 * 29
    assert shown == sorted(shown)


@pytest.mark.parametrize("suffix", [".png", ".pdf"])
def test_files_are_the_same_bytes_each_time(tmp_path: Path, suffix: str) -> None:
    rng = np.random.default_rng(0)
    aligned = rng.random(50)
    for name in ("a", "b"):
        save(edc_figure(RUNS, bands=BANDS), tmp_path / f"edc_{name}{suffix}")
        save(consistency_figure(aligned, aligned**2, spearman=1.0), tmp_path / f"scatter_{name}{suffix}")
    for kind in ("edc", "scatter"):
        assert (tmp_path / f"{kind}_a{suffix}").read_bytes() == (tmp_path / f"{kind}_b{suffix}").read_bytes()


def test_errors_that_are_not_rates_are_refused() -> None:
    with pytest.raises(UserError, match="not rates"):
        edc_figure({"percent": (D, 100 * D)})


def test_qualities_of_a_diverged_network_are_not_drawn(tmp_path: Path) -> None:
    (tmp_path / "scores").mkdir()
    np.savez(tmp_path / "scores" / "q.npz", quality=np.array([0.5, np.nan]), aligned_quality=np.array([0.5, 0.7]))
    np.savez(tmp_path / "scores" / "ytf.npz", cmc=np.array([0.5, 1.0]))
    draw_scores(tmp_path / "scores", tmp_path / "figures")
    assert {file.name for file in (tmp_path / "figures").iterdir()} == {"ytf_cmc.png", "ytf_cmc.pdf"}
