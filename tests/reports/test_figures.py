"""What is drawn is what was given; files are the same bytes each time; nothing global is touched."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch

from kdface.augmentations import Standard
from kdface.datasets import ToyFaces
from kdface.datasets.loading import TrainingSet
from kdface.errors import UserError
from kdface.reports.draw import draw_run
from kdface.reports.figures import det_figure, loss_figure, roc_figure, score_figure
from kdface.reports.plotting import BASELINE, DARK_PALETTE, PALETTE, look, save
from kdface.runs.folder import RunFolder
from kdface.runs.records import Records

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
    return loss_figure(np.array([0.0, 10.0]), np.array([0.7, 0.5]))


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


def test_the_loss_gaps_where_a_value_is_missing() -> None:
    (line,) = loss_figure(np.array([0.0, 10, 20]), np.array([0.5, np.nan, 0.7])).axes[0].get_lines()
    assert np.asarray(line.get_xdata()).tolist() == [0, 10, 20]
    assert np.isnan(np.asarray(line.get_ydata(), dtype=np.float64)).tolist() == [False, True, False]


def test_a_run_whose_loss_was_never_finite_gets_its_other_figures(tmp_path: Path) -> None:
    (tmp_path / "scores").mkdir()
    np.savez(tmp_path / "scores" / "ytf.npz", cmc=np.array([0.5, 1.0]))
    for step in (1, 2):
        Records(tmp_path / "metrics.jsonl").write("train", step, loss=float("nan"))
    faces = ToyFaces(2, 2, size=(32, 32))
    draw_run(RunFolder(tmp_path), TrainingSet(faces, Standard(), 0))
    assert {file.name for file in (tmp_path / "figures").iterdir()} == {"ytf_cmc.png", "ytf_cmc.pdf", "views.png"}


@pytest.mark.parametrize(
    ("kind", "suffix"),
    [("roc", ".png"), ("roc", ".pdf"), ("det", ".png"), ("scores", ".png"), ("loss", ".png")],
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
