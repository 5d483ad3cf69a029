"""What is drawn is what was given; files are the same bytes each time; nothing global is touched."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch
from matplotlib.text import Annotation

from kdface.errors import UserError
from kdface.reports.figures import (
    BASELINE,
    DARK_PALETTE,
    PALETTE,
    det_figure,
    learning_figure,
    look,
    roc_figure,
    save,
    score_figure,
)

FAR = np.array([0, 0, 0.01, 0.01, 0.2, 1.0])
TAR = np.array([0, 0.5, 0.5, 0.8, 0.9, 1.0])
CURVES = {"student alone": (FAR, TAR), "student, taught": (FAR, TAR**0.5)}
ERRORS = {name: (far, 1 - tar) for name, (far, tar) in CURVES.items()}


def _draw(kind: str) -> Figure:
    if kind == "roc":
        return roc_figure(CURVES, baseline="student alone")
    if kind == "det":
        return det_figure(ERRORS, baseline="student alone")
    if kind == "scores":
        rng = np.random.default_rng(0)
        return score_figure(rng.normal(0.5, 0.2, 300), rng.normal(0, 0.1, 300))
    return learning_figure({"a": [(0, 0.5), (10, 0.7)]}, value="Accuracy")


def _lines(figure: Figure) -> dict[str, Any]:
    lines = {str(line.get_label()): line for line in figure.axes[0].get_lines()}
    return {label: line for label, line in lines.items() if label[0] != "_"}


def _legend(figure: Figure) -> list[str]:
    legend = figure.axes[0].get_legend()
    return [text.get_text() for text in legend.get_texts()] if legend else []


def test_roc_draws_the_vertices_from_the_first_impostor_on() -> None:
    lines = _lines(roc_figure(CURVES, baseline="student alone"))
    assert lines["student alone"].get_xdata().tolist() == [0.01, 0.01, 0.01, 0.2, 1.0]
    assert lines["student alone"].get_ydata().tolist() == [0.5, 0.5, 0.8, 0.9, 1.0]
    assert lines["student alone"].get_color() == BASELINE
    assert lines["student, taught"].get_color() == PALETTE[0]


def test_roc_lists_the_best_run_first() -> None:
    assert _legend(roc_figure(CURVES)) == ["student, taught", "student alone"]


def test_det_draws_normal_deviates_and_leaves_out_zeros() -> None:
    below, above = 0.15865525393145707, 0.8413447460685429  # the normal distribution at -1 and 1
    rates = (np.array([0.0, below, 0.5, 0.5, 1.0]), np.array([1.0, above, 0.5, below, 0.0]))
    line = _lines(det_figure({"run": rates}))["run"]
    assert line.get_xdata() == pytest.approx([-1, 0, 0])
    assert line.get_ydata() == pytest.approx([1, 0, -1])


def test_a_perfect_run_can_be_drawn(tmp_path: Path) -> None:
    far, tar = np.array([0, 0, 0.01, 1]), np.array([0, 1, 1, 1])
    save(roc_figure({"perfect": (far, tar)}), tmp_path / "roc.png")
    figure = det_figure({"perfect": (far, 1 - tar), "other": ERRORS["student alone"]})
    save(figure, tmp_path / "det.png")
    assert len(_lines(figure)["perfect"].get_xdata()) == 0
    assert "perfect" in _legend(figure)


def test_runs_keep_apart_when_there_are_many() -> None:
    many = {f"run {k}": (FAR, TAR ** (1 + k / 10)) for k in range(12)}
    lines = _lines(roc_figure(many)).values()
    assert len({(line.get_color(), str(line._dash_pattern)) for line in lines}) == 12


def test_eight_curves_have_eight_hues_and_then_other_line_styles() -> None:
    looks = [look(place) for place in range(32)]
    assert len({hue for hue, _ in looks[:8]}) == 8
    assert len({(hue, str(dash)) for hue, dash in looks}) == 32


# Linear RGB as protanopes, deuteranopes and tritanopes see it: Machado, Oliveira and Fernandes (2009), severity 1.
VISION = {
    "normal": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("palette", [PALETTE, DARK_PALETTE], ids=["light", "dark"])
def test_the_hues_keep_apart_for_all_kinds_of_colour_vision(palette: Sequence[str], vision: str) -> None:
    rgb = np.array([to_rgb(hue) for hue in palette])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.array(VISION[vision]).T, 0, 1)
    xyz = seen @ np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]).T
    ratio = xyz / [0.9505, 1, 1.089]
    f = np.where(ratio > 216 / 24389, np.cbrt(ratio), (24389 / 27 * ratio + 16) / 116)
    lab = np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)
    apart = np.linalg.norm(lab[:, None] - lab, axis=2)[np.triu_indices(len(palette), 1)]
    assert apart.min() > 16


def test_histograms_have_area_one_over_common_bins() -> None:
    rng = np.random.default_rng(0)
    figure = score_figure(rng.normal(size=200), rng.normal(size=5000) - 2)
    areas, edges = [], []
    for patch in figure.axes[0].patches:
        assert isinstance(patch, StepPatch)
        values, bins, _ = patch.get_data()
        areas.append(float((values * np.diff(bins)).sum()))
        edges.append(bins.tolist())
    assert areas == pytest.approx([1.0] * len(areas))
    assert all(edge == edges[0] for edge in edges)
    assert [text.get_text() for text in figure.axes[0].texts] == ["impostor", "genuine"]


def test_learning_curves_gap_where_a_value_is_missing() -> None:
    runs = {"a": [(0, 0.5), (10, float("nan")), (20, 0.7)]}
    line = _lines(learning_figure(runs, value="Accuracy"))["a"]
    assert line.get_xdata().tolist() == [0, 10, 20]
    assert np.isnan(line.get_ydata()).tolist() == [False, True, False]


def test_labels_at_line_ends_do_not_overlap(tmp_path: Path) -> None:
    runs = {f"run {k}": [(0, 0.5), (10, 0.7 + k / 1000)] for k in range(5)}
    figure = learning_figure(runs, value="Accuracy")
    save(figure, tmp_path / "curves.png")
    boxes = sorted((text.get_window_extent() for text in figure.axes[0].texts), key=lambda box: box.y0)
    assert len(boxes) == 5
    # The extents hold room for ascenders and descenders that the names lack: a tenth may be shared.
    assert all(low.y1 - high.y0 < 0.1 * low.height for low, high in pairwise(boxes))
    assert all(box.x1 <= figure.bbox.x1 for box in boxes)


def test_a_label_with_room_stays_at_the_end_of_its_line() -> None:
    runs = {name: [(0, 0.5), (10, end)] for name, end in [("a", 0.1), ("b", 0.69), ("c", 0.7), ("d", 0.71), ("e", 0.9)]}
    axes = learning_figure(runs, value="Accuracy").axes[0]
    places = {text.get_text(): text.xy[1] for text in axes.texts if isinstance(text, Annotation)}
    low, high = axes.get_ylim()
    moved = [low + places[name] * (high - low) - runs[name][1][1] for name in "abcde"]
    assert moved == pytest.approx([0, moved[1], 0, -moved[1], 0], abs=1e-12) and moved[1] < -0.01


@pytest.mark.parametrize(
    ("kind", "suffix"),
    [("roc", ".png"), ("roc", ".pdf"), ("det", ".png"), ("scores", ".png"), ("learning", ".png")],
)
def test_files_are_the_same_bytes_each_time(tmp_path: Path, kind: str, suffix: str) -> None:
    for name in ("first", "second"):
        save(_draw(kind), tmp_path / name / f"figure{suffix}")
    first = (tmp_path / "first" / f"figure{suffix}").read_bytes()
    assert first == (tmp_path / "second" / f"figure{suffix}").read_bytes()
    assert b"CreationDate" not in first
    assert b"atplotlib" not in first
    if suffix == ".png":
        assert int.from_bytes(first[16:20], "big") == 1020  # 3.4 inches of 300 dots


def test_other_kinds_of_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'\.svg'"):
        save(roc_figure(CURVES), tmp_path / "figure.svg")


def test_mistakes_are_told() -> None:
    with pytest.raises(UserError, match="no runs"):
        roc_figure({})
    with pytest.raises(UserError, match="student alone") as caught:
        roc_figure(CURVES, baseline="student alon")
    assert caught.value.nearest == "student alone"
    with pytest.raises(UserError, match="not rates"):
        roc_figure({"in percent": (FAR, 100 * TAR)})
    with pytest.raises(UserError, match="not rates"):
        det_figure({"broken": (FAR, TAR * np.nan)})
    with pytest.raises(UserError, match="does not reach"):
        roc_figure({"half": (FAR[:-1], TAR[:-1])})
    with pytest.raises(UserError, match="no finite Loss"):
        learning_figure({"a": [(0, float("nan"))]}, value="Loss")
    with pytest.raises(UserError, match="0 genuine and 3 impostor"):
        score_figure(np.zeros(0), np.zeros(3))


def test_names_are_no_markup(tmp_path: Path) -> None:
    save(roc_figure({"a$b_c^": (FAR, TAR)}), tmp_path / "roc.png")
    assert (tmp_path / "roc.png").stat().st_size > 1000


def test_the_settings_of_the_user_neither_matter_nor_change(tmp_path: Path) -> None:
    save(roc_figure(CURVES), tmp_path / "plain.png")
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red"}):
        before = dict(matplotlib.rcParams)
        save(roc_figure(CURVES), tmp_path / "custom.png")
        assert dict(matplotlib.rcParams) == before
    assert (tmp_path / "plain.png").read_bytes() == (tmp_path / "custom.png").read_bytes()


def test_pyplot_stays_out() -> None:
    code = "import sys, kdface.reports.figures; print('matplotlib.pyplot' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
