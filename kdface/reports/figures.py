"""Figures for a paper column: ROC, DET, score histogram and learning curves.

Each function returns a new matplotlib `Figure`, drawn without pyplot and the user's matplotlib settings; `save` writes
it as PNG or PDF. Equal data give identical bytes. Runs differ in colour, line style and label; the baseline is grey.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from kdface.errors import UserError, nearest
from kdface.reports.curves import probit

Rates = NDArray[np.floating[Any]]
Place = Literal["best", "upper left", "upper right", "lower left", "lower right"]

COLUMN = 3.4  # inches: one column of a two-column paper
# Okabe and Ito (2008), distinguishable with all common kinds of colour vision; their yellow is too pale on white.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DASHES: tuple[Any, ...] = ("solid", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.5, 1.2, 1.5)))
BASELINE = "#8C8C8C"
INK = "#333333"
_STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 7.5,
    "axes.labelsize": 7.5,
    "axes.linewidth": 0.6,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#E2E2E2",
    "grid.linewidth": 0.4,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.2,
    "legend.edgecolor": "none",
    "legend.fancybox": False,
    "legend.labelcolor": "linecolor",
    "legend.fontsize": 7,
    "legend.handlelength": 2.4,
    "legend.labelspacing": 0.3,
    "text.parse_math": False,  # run names may contain dollar signs
    "pdf.fonttype": 42,  # TrueType: publishers reject type 3
}
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_DET_TICKS = (1e-6, 1e-5, 1e-4, 0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.95)
_ROUND = [1, 2, 5, 10]  # steps between ticks
_INNER = (1e-9, 1 - 1e-9)  # rates of 0 and 1 are beyond the axes of a DET plot
_INSIDE = 3  # number of names that fit between the curves
_NAME = 25  # letters of a name next to another
_LEGEND_LINE = 0.135  # inches


def roc_figure(
    runs: Mapping[str, tuple[Rates, Rates]],
    *,
    bands: Mapping[str, tuple[Rates, Rates, Rates]] | None = None,
    baseline: str | None = None,
) -> Figure:
    """Receiver operating characteristic: true accept rate over false accept rate, the latter logarithmic.

    Each curve starts at the smallest FAR above 0 that its impostor pairs can resolve. Runs are listed by their curves
    at the left, best first.

    Args:
        runs: run -> (FAR, TAR): fractions with increasing FAR, as in `RocCurve`.
        bands: run -> (FAR, lowest TAR, highest TAR) for some runs, drawn pale; FAR above 0.
        baseline: the run to draw in grey.
    """
    check_runs(runs, baseline)
    check_bands(runs, bands or {})
    shown = {}
    for name, (far, tar) in runs.items():
        check_rates(name, far, tar)
        first = int(np.argmax(far > 0))
        start = max(first - 1, 0)  # the last vertex without an impostor: its TAR applies up to the first one
        shown[name] = (np.maximum(far[start:], far[first]), tar[start:])
    with style():
        figure, axes = new_axes(2.6)
        starts = [float(tar[0]) for _, tar in shown.values()] + [float(low[0]) for _, low, _ in (bands or {}).values()]
        bottom = min(np.floor(min(starts) * 10) / 10, 0.9)
        common = max(float(far[0]) for far, _ in shown.values())
        lines = draw_lines(axes, shown, baseline, rank=lambda far, tar: -float(tar[far <= common][-1]))
        draw_bands(axes, lines, bands or {})
        axes.set_xscale("log")
        axes.set(xlim=(0.85 * min(float(far[0]) for far, _ in shown.values()), 1), xlabel="False accept rate")
        axes.set(ylim=(bottom, 1 + 0.02 * (1 - bottom)), ylabel="True accept rate")
        axes.xaxis.set_major_locator(LogLocator(numticks=12))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda far, _: _power_of_ten(far)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_locator(MaxNLocator(6, steps=_ROUND))
        weak = min(float(np.interp(0.1, far, tar)) for far, tar in shown.values()) < 0.4
        add_legend(axes, "upper left" if weak else "lower right")
    return figure


def det_figure(
    runs: Mapping[str, tuple[Rates, Rates]],
    *,
    bands: Mapping[str, tuple[Rates, Rates, Rates]] | None = None,
    baseline: str | None = None,
) -> Figure:
    """Detection error tradeoff: false non-match rate over false match rate, both as normal deviates.

    Rates of 0 cannot be shown on these axes and are left out; a run without errors is named but not drawn. The dotted
    diagonal marks the equal error rates. Runs are listed by decreasing EER.

    Args:
        runs: run -> (FMR, FNMR): fractions with increasing FMR, as in `RocCurve`.
        bands: run -> (FMR, lowest FNMR, highest FNMR) for some runs, drawn pale.
        baseline: the run to draw in grey.
    """
    check_runs(runs, baseline)
    check_bands(runs, bands or {})
    shown = {}
    for name, (fmr, fnmr) in runs.items():
        check_rates(name, fmr, fnmr)
        inside = (fmr > 0) & (fmr < 1) & (fnmr > 0) & (fnmr < 1)
        shown[name] = (fmr[inside], fnmr[inside])
    worst = max((float(np.maximum(fmr, fnmr).min()) for fmr, fnmr in shown.values() if len(fmr)), default=0.0)
    most = 0.5 if worst < 0.1 else 0.8 if worst < 0.3 else 0.98  # weak runs need room
    within = [rates[:, (rates <= most).all(axis=0)] for rates in map(np.array, shown.values())]
    least = min((float(rates.min()) for rates in within if rates.size), default=0.001)
    low, high = float(probit(min(least, 0.05))) - 0.05, float(probit(most))
    ticks: list[float] = []
    for tick in _DET_TICKS:
        if least <= tick < most and (not ticks or probit(tick) - probit(ticks[-1]) > 0.11 * (high - low)):
            ticks.append(tick)
    with style():
        figure, axes = new_axes(3.2)
        axes.plot([low, high], [low, high], color=BASELINE, linewidth=0.6, linestyle=(0, (1, 2)))
        drawn = {name: (probit(fmr), probit(fnmr)) for name, (fmr, fnmr) in shown.items()}
        lines = draw_lines(axes, drawn, baseline, rank=lambda x, y: -(x + y)[abs(x - y).argmin()] if len(x) else np.inf)
        areas = {}
        for name, band in (bands or {}).items():
            inside = (band[0] > 0) & (band[0] < 1)
            fmr, lowest, highest = (probit(np.clip(rates[inside], *_INNER)) for rates in band)
            areas[name] = (fmr, lowest, highest)
        draw_bands(axes, lines, areas)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(FixedLocator(probit(ticks).tolist()))
            axis.set_major_formatter(FuncFormatter(lambda _, place: _rate(ticks[place or 0])))
        axes.set(xlim=(low, high), xlabel="False match rate", ylim=(low, high), ylabel="False non-match rate")
        axes.set_aspect("equal")
        add_legend(axes, "upper right" if most == 0.5 else "lower left")
    return figure


def score_figure(genuine: Rates, impostor: Rates, *, score: str = "Cosine similarity") -> Figure:
    """Histograms of genuine and impostor scores over common bins, each with area 1.

    Args:
        genuine, impostor: (pairs,) finite scores.
        score: label of the axis.
    """
    both = np.concatenate([genuine, impostor])
    if not len(genuine) or not len(impostor) or not np.isfinite(both).all():
        raise UserError(f"{len(genuine)} genuine and {len(impostor)} impostor scores: need some, all finite.")
    edges = np.histogram_bin_edges(both, bins=60)
    with style():
        figure, axes = new_axes(2.2)
        kinds = ((impostor, "impostor", PALETTE[1], "right"), (genuine, "genuine", PALETTE[0], "left"))
        for values, label, color, side in kinds:
            height, _ = np.histogram(values, edges, density=True)
            axes.stairs(height, edges, fill=True, color=color, alpha=0.3)
            axes.stairs(height, edges, color=color, linewidth=0.9)
            axes.annotate(
                label,
                (float(edges[np.argmax(height)] + edges[np.argmax(height) + 1]) / 2, float(height.max())),
                xytext=(-2 if side == "right" else 2, 2),
                textcoords="offset points",
                ha=side,
                color=color,
            )
        axes.margins(x=0)
        axes.set_ylim(0, axes.get_ylim()[1] * 1.06)
        axes.set(xlabel=score, ylabel="Density")
        axes.grid(axis="x", visible=False)
    return figure


def learning_figure(
    runs: Mapping[str, Sequence[tuple[float, float]]],
    *,
    value: str,
    step: str = "Step",
    baseline: str | None = None,
) -> Figure:
    """A value over training steps, each run labelled at its end.

    Args:
        runs: run -> (step, value) with increasing steps; non-finite values leave a gap.
        value, step: labels of the axes.
        baseline: the run to draw in grey.
    """
    check_runs(runs, baseline)
    shown = {}
    for name, points in runs.items():
        x, y = np.array(points, dtype=np.float64).reshape(-1, 2).T
        if not np.isfinite(y).any():
            raise UserError(f"The run {name!r} has no finite {value} to plot.")
        shown[name] = (x, np.where(np.isfinite(y), y, np.nan))
    with style():
        figure, axes = new_axes(2.2)
        lines = draw_lines(axes, shown, baseline, rank=lambda x, y: 0)
        for name, line in lines.items():
            line.set_marker("." if len(shown[name][0]) < 20 else "")  # mark the points if there are few
        axes.margins(x=0)
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=_ROUND, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(6, steps=_ROUND))
        if max(x[-1] for x, _ in shown.values()) >= 10_000:
            axes.xaxis.set_major_formatter(FuncFormatter(lambda at, _: f"{at / 1000:g}k" if at else "0"))
        axes.set(xlabel=step, ylabel=value)
        _label_ends(axes, {name: (shown[name][1], line.get_color()) for name, line in lines.items()})
    return figure


def save(figure: Figure, path: str | Path) -> None:
    """Write a `.png` or `.pdf` file without date and software, so that equal data give identical bytes."""
    path = Path(path)
    without: dict[str, dict[str, Any]] = {
        ".png": {"Software": None},
        ".pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    }
    if path.suffix not in without:
        raise UserError(f"{path}: unsupported figure format {path.suffix!r}", expected=", ".join(without))
    path.parent.mkdir(parents=True, exist_ok=True)
    with style():
        figure.savefig(path, dpi="figure", metadata=without[path.suffix])


def style() -> AbstractContextManager[None]:
    """A context in which matplotlib uses this project's style instead of the user's settings."""
    return matplotlib.style.context(["default", _STYLE])


def new_axes(height: float) -> tuple[Figure, Axes]:
    """A figure of column width and a height in inches, and its axes, without opening a window."""
    figure = Figure(figsize=(COLUMN, height), dpi=300, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def check_runs(runs: Mapping[str, Any], baseline: str | None) -> None:
    """Raise `UserError` if there are no runs, or the baseline is not one of them."""
    if not runs:
        raise UserError("There are no runs to plot.")
    if baseline is not None and baseline not in runs:
        raise UserError(
            f"The baseline {baseline!r} is not among the runs.",
            expected=", ".join(runs),
            nearest=nearest(baseline, runs),
        )


def check_rates(name: str, x: Rates, y: Rates) -> None:
    """Raise `UserError` unless a curve consists of rates up to a false accept rate of 1."""
    values = np.concatenate([x, y])
    if len(x) != len(y) or not len(x) or not ((values >= 0) & (values <= 1)).all():
        raise UserError(f"The curve of {name!r} contains values that are not rates.", expected="fractions, 0 to 1")
    if (np.diff(x) < 0).any() or x[-1] != 1:
        raise UserError(f"The curve of {name!r} does not reach a false accept rate of 1.")


def draw_lines(
    axes: Axes,
    curves: Mapping[str, tuple[Rates, Rates]],
    baseline: str | None,
    rank: Callable[[Rates, Rates], float],
) -> dict[str, Line2D]:
    """Draw the curves, styled by their position in the mapping and ordered in the legend by `rank`."""
    looks = {}
    for place, name in enumerate(name for name in curves if name != baseline):
        looks[name] = (PALETTE[place % len(PALETTE)], DASHES[place % len(DASHES)], 3)
    if baseline is not None:
        looks[baseline] = (BASELINE, "solid", 2)
    lines = {}
    for name in sorted(curves, key=lambda name: rank(*curves[name])):
        color, dash, depth = looks[name]
        x, y = curves[name]
        (lines[name],) = axes.plot(x, y, color=color, linestyle=dash, zorder=depth, label=name)
    return lines


def check_bands(runs: Mapping[str, Any], bands: Mapping[str, Any]) -> None:
    """Raise `UserError` for a band without a run."""
    for name in bands:
        if name not in runs:
            raise UserError(f"There is a band for {name!r}, but no such run.", expected=", ".join(runs))


def draw_bands(axes: Axes, lines: Mapping[str, Line2D], bands: Mapping[str, tuple[Rates, Rates, Rates]]) -> None:
    """Draw pale areas (x, lower bound, upper bound) in their lines' colours, with gaps at non-finite bounds."""
    for name, (x, low, high) in bands.items():
        shown = np.isfinite(low) & np.isfinite(high)
        color = lines[name].get_color()
        axes.fill_between(x, low, high, where=shown.tolist(), color=color, alpha=0.15, linewidth=0, zorder=1.5)


def add_legend(axes: Axes, place: Place) -> None:
    """Add a legend at a place in the axes, or for many curves in two columns above, enlarging the figure."""
    handles, names = axes.get_legend_handles_labels()
    if len(names) <= _INSIDE:
        axes.legend(loc=place)
        return
    figure = axes.figure.get_figure(root=True)
    labels = [textwrap.fill(name, _NAME, break_on_hyphens=False) for name in names]
    half = (len(labels) + 1) // 2
    lines = max(sum(1 + label.count("\n") for label in column) for column in (labels[:half], labels[half:]))
    figure.set_figheight(figure.get_figheight() + _LEGEND_LINE * (lines + 1))
    figure.legend(handles, labels, loc="outside upper left", ncols=2, columnspacing=1.0)


def _label_ends(axes: Axes, ends: Mapping[str, tuple[Rates, Any]]) -> None:
    """Label each line at its last point, shifting labels that would overlap."""
    low, high = axes.get_ylim()
    row = 8.5 / (72 * 0.8 * float(axes.figure.get_figure(root=True).get_size_inches()[1]))  # of a line, in heights
    last = {name: float(y[np.isfinite(y)][-1] - low) / (high - low) for name, (y, _) in ends.items()}
    names = sorted(last, key=lambda name: last[name])
    texts = [textwrap.fill(name, 16) for name in names]
    rows = [text.count("\n") + 1 for text in texts]
    places = [last[name] for name in names]
    for _ in range(4 * len(names)):
        for k in range(len(names) - 1):
            lacking = row * (rows[k] + rows[k + 1]) / 2 - (places[k + 1] - places[k])
            if lacking > 0:
                places[k] -= lacking / 2
                places[k + 1] += lacking / 2
    for name, text, place in zip(names, texts, places, strict=True):
        axes.annotate(
            text,
            (1, place),
            xycoords="axes fraction",
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            color=ends[name][1],
            fontsize=7,
            linespacing=1.05,
        )


def _power_of_ten(value: float) -> str:
    return "1" if value == 1 else "10" + str(round(np.log10(value))).translate(_SUPERSCRIPT)


def _rate(value: float) -> str:
    return f"{value:g}" if value >= 0.001 else _power_of_ten(value)
