"""Figures for a paper column: ROC, DET, CMC, error versus discard, histograms of scores, and loss.

Each function returns a new matplotlib `Figure`. Runs differ in colour, line style and label; the baseline is grey.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from kdface.errors import UserError
from kdface.reports.curves import probit
from kdface.reports.plotting import (
    ALIKE,
    DOTTED,
    INK,
    PALETTE,
    Values,
    draw_curves,
    figure_of,
    new_axes,
    round_ticks,
    style,
    with_legend,
)

_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_DET_TICKS = (1e-6, 1e-5, 1e-4, 0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.95)
_INNER = (1e-9, 1 - 1e-9)  # rates of 0 and 1 are beyond the axes of a DET plot


@style()
def roc_figure(
    runs: Mapping[str, tuple[Values, Values]],
    *,
    bands: Mapping[str, tuple[Values, Values, Values]] | None = None,
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
    shown = {}
    for name, (far, tar) in runs.items():
        first = int(np.argmax(far > 0))
        start = max(first - 1, 0)  # the last vertex without an impostor: its TAR applies up to the first one
        shown[name] = (np.maximum(far[start:], far[first]), tar[start:])
    common = max((float(far[0]) for far, _ in shown.values()), default=1)
    axes = new_axes(2.6)
    draw_curves(axes, shown, bands, baseline, rank=lambda far, tar: -float(tar[far <= common][-1]))
    starts = [float(tar[0]) for _, tar in shown.values()] + [float(low[0]) for _, low, _ in (bands or {}).values()]
    bottom = min(np.floor(min(starts) * 10) / 10, 0.9)
    axes.set_xscale("log")
    axes.set(xlim=(0.85 * min(float(far[0]) for far, _ in shown.values()), 1), xlabel="False accept rate")
    axes.set(ylim=(bottom, 1 + 0.02 * (1 - bottom)), ylabel="True accept rate")
    axes.xaxis.set_major_locator(LogLocator(numticks=12))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda far, _: _power_of_ten(far)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(round_ticks())
    weak = min(float(np.interp(0.1, far, tar)) for far, tar in shown.values()) < 0.4
    return with_legend(axes, "upper left" if weak else "lower right")


@style()
def det_figure(
    runs: Mapping[str, tuple[Values, Values]],
    *,
    bands: Mapping[str, tuple[Values, Values, Values]] | None = None,
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
    shown, areas = {}, {}
    for name, (fmr, fnmr) in runs.items():
        inside = (fmr > 0) & (fmr < 1) & (fnmr > 0) & (fnmr < 1)
        shown[name] = (fmr[inside], fnmr[inside])
    for name, band in (bands or {}).items():
        inside = (band[0] > 0) & (band[0] < 1)
        fmr, lowest, highest = (probit(np.clip(rates[inside], *_INNER)) for rates in band)
        areas[name] = (fmr, lowest, highest)
    worst = max((float(np.maximum(fmr, fnmr).min()) for fmr, fnmr in shown.values() if len(fmr)), default=0.0)
    most = 0.5 if worst < 0.1 else 0.8 if worst < 0.3 else 0.98  # weak runs need room
    within = [rates[:, (rates <= most).all(axis=0)] for rates in map(np.array, shown.values())]
    least = min((float(rates.min()) for rates in within if rates.size), default=0.001)
    low, high = float(probit(min(least, 0.05))) - 0.05, float(probit(most))
    ticks: list[float] = []
    for tick in _DET_TICKS:
        if least <= tick < most and (not ticks or probit(tick) - probit(ticks[-1]) > 0.11 * (high - low)):
            ticks.append(tick)
    axes = new_axes(3.2)
    axes.plot([low, high], [low, high], **DOTTED)
    drawn = {name: (probit(fmr), probit(fnmr)) for name, (fmr, fnmr) in shown.items()}
    draw_curves(axes, drawn, areas, baseline, rank=lambda x, y: -(x + y)[abs(x - y).argmin()] if len(x) else np.inf)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(FixedLocator(probit(ticks).tolist()))
        axis.set_major_formatter(FuncFormatter(lambda _, place: _rate(ticks[place or 0])))
    axes.set(xlim=(low, high), xlabel="False match rate", ylim=(low, high), ylabel="False non-match rate")
    axes.set_aspect("equal")
    return with_legend(axes, "upper right" if most == 0.5 else "lower left")


@style()
def cmc_figure(
    runs: Mapping[str, Values],
    *,
    bands: Mapping[str, tuple[Values, Values]] | None = None,
    baseline: str | None = None,
) -> Figure:
    """Cumulative match characteristic: identification rate over rank. Runs are listed by their rank-1 rate.

    Args:
        runs: run -> rates at rank 1, 2, ...: non-decreasing fractions.
        bands: run -> (lowest, highest) at each rank for some runs, drawn pale.
        baseline: the run to draw in grey.
    """
    for name, rates in runs.items():
        if not len(rates) or not ((rates >= 0) & (rates <= 1)).all() or (np.diff(rates) < 0).any():
            raise UserError(f"{name!r} is not a CMC curve.", expected="non-decreasing fractions, 0 to 1")
    axes = new_axes(2.6)
    shown = {name: (np.arange(1.0, len(rates) + 1), rates) for name, rates in runs.items()}
    areas = {name: (np.arange(1.0, len(low) + 1), low, high) for name, (low, high) in (bands or {}).items()}
    draw_curves(axes, shown, areas, baseline, rank=lambda _, rates: -float(rates[0]))
    last = max(map(len, runs.values()))
    axes.set(xlim=(0.85, max(last, 1.15)), xlabel="Rank", ylabel="Identification rate")
    axes.set_ylim(top=min(1.01, axes.get_ylim()[1]))
    ticks = round_ticks(5, integer=True).tick_values(1, last)
    axes.set_xticks([1, *(tick for tick in ticks if 1 < tick <= last)])
    axes.yaxis.set_major_locator(round_ticks())
    return with_legend(axes, "lower right")


@style()
def edc_figure(
    runs: Mapping[str, tuple[Values, Values]],
    *,
    bands: Mapping[str, tuple[Values, Values, Values]] | None = None,
    limit: float = 0.3,
    baseline: str | None = None,
) -> Figure:
    """Error versus discard: FNMR of the remaining pairs over the fraction of discarded pairs, lowest quality first.

    Curves are steps, as in `kdface.evaluation.edc.EDC`, without interpolation. Runs are listed from the highest curve
    down, by their areas up to the limit. The axis starts at zero unless all errors are close together. If all curves
    start at the same error, E(0), a dotted line shows it: the result of an uninformative quality.

    Args:
        runs: run -> (discard fraction from 0 up, FNMR).
        bands: run -> (discard fraction, lower bound, upper bound) of a bootstrap interval for some runs, drawn pale.
        limit: largest discard fraction to plot.
        baseline: the run to draw in grey.
    """
    shown: dict[str, tuple[Values, Values]] = {}
    for name, (fractions, errors) in runs.items():
        if not ((errors >= 0) & (errors <= 1)).all():
            raise UserError(f"The curve of {name!r} contains errors that are not rates.", expected="fractions, 0 to 1")
        x, y = fractions[fractions <= limit], errors[fractions <= limit]
        shown[name] = (np.append(x, limit), np.append(y, y[-1]))
    areas = {}
    for name, (fractions, low, high) in (bands or {}).items():
        inside = fractions <= limit
        areas[name] = (fractions[inside], low[inside], high[inside])
    axes = new_axes(2.6)
    lines = draw_curves(axes, shown, areas, baseline, rank=lambda x, y: -float(np.dot(np.diff(x), y[:-1])))
    for line in lines.values():
        line.set_drawstyle("steps-post")
    starts = {float(y[0]) for _, y in shown.values()}
    if len(starts) == 1:  # all use the same recognition network
        start = starts.pop()
        axes.axhline(start, zorder=1.8, **DOTTED)
        place: dict[str, Any] = {"xytext": (-3, 3), "textcoords": "offset points", "ha": "right"}
        axes.annotate(f"E(0) = {start:.3g}", (limit, start), color=INK, **place)
    axes.set(xlim=(0, limit), xlabel="Discarded pairs", ylabel="False non-match rate")
    if min(y.min() for _, y in shown.values()) < ALIKE * max(y.max() for _, y in shown.values()):
        axes.set_ylim(bottom=0)
    axes.set_ylim(top=max(axes.get_ylim()[1], 1e-3))
    axes.xaxis.set_major_locator(round_ticks())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g} %"))
    axes.yaxis.set_major_locator(round_ticks())
    return with_legend(axes, "best")


@style()
def score_figure(genuine: Values, impostor: Values) -> Figure:
    """Histograms of genuine and impostor scores over common bins, each with area 1.

    Args:
        genuine, impostor: (pairs,) finite scores.
    """
    edges = np.histogram_bin_edges(np.concatenate([genuine, impostor]), bins=60)
    axes = new_axes(2.2)
    kinds = ((impostor, "impostor", PALETTE[1], "right", -2), (genuine, "genuine", PALETTE[0], "left", 2))
    for values, label, color, side, shift in kinds:
        height, _ = np.histogram(values, edges, density=True)
        axes.stairs(height, edges, fill=True, color=color, alpha=0.3)
        axes.stairs(height, edges, color=color, linewidth=0.9)
        peak = (float(edges[np.argmax(height)] + edges[np.argmax(height) + 1]) / 2, float(height.max()))
        axes.annotate(label, peak, xytext=(shift, 2), textcoords="offset points", ha=side, color=color)
    axes.margins(x=0)
    axes.set_ylim(0, axes.get_ylim()[1] * 1.06)
    axes.set(xlabel="Cosine similarity", ylabel="Density")
    axes.grid(axis="x", visible=False)
    return figure_of(axes)


@style()
def loss_figure(steps: Values, losses: Values) -> Figure:
    """The training loss over increasing steps; NaN leaves a gap."""
    axes = new_axes(2.2)
    draw_curves(axes, {"loss": (steps, losses)}, marker="." if len(steps) < 20 else "")  # mark the points if few
    axes.margins(x=0)
    axes.xaxis.set_major_locator(round_ticks(5, integer=True))
    axes.yaxis.set_major_locator(round_ticks())
    if steps[-1] >= 10_000:
        axes.xaxis.set_major_formatter(FuncFormatter(lambda at, _: f"{at / 1000:g}k" if at else "0"))
    axes.set(xlabel="Step", ylabel="Training loss")
    return figure_of(axes)


@style()
def consistency_figure(aligned: Values, misaligned: Values, *, spearman: float | None) -> Figure:
    """Quality of the same images, misaligned over aligned; the dotted diagonal marks no change.

    Args:
        aligned, misaligned: (images,) finite qualities.
        spearman: their rank correlation (`kdface.evaluation.quality.spearman`), or None if undefined.
    """
    both = np.concatenate([aligned, misaligned])
    low, high = float(both.min()), float(both.max())
    room = 0.04 * (high - low) or 0.5
    low, high = low - room, high + room
    axes = new_axes(3.2)
    axes.plot([low, high], [low, high], zorder=4, **DOTTED)
    opacity = float(np.clip(6 / np.sqrt(len(aligned)), 0.15, 0.8))
    # Rasterised, since thousands of points make a PDF slow to open.
    axes.scatter(aligned, misaligned, s=5, color=PALETTE[0], alpha=opacity, linewidths=0, rasterized=True)
    axes.set(xlim=(low, high), xlabel="Quality, aligned", ylim=(low, high), ylabel="Quality, misaligned")
    axes.set_aspect("equal")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(round_ticks())
    said = f"{len(aligned)} images" if spearman is None else f"Spearman {spearman:.3f}\n{len(aligned)} images"
    axes.text(0.04, 0.96, said, transform=axes.transAxes, ha="left", va="top", linespacing=1.3, color=INK)
    return figure_of(axes)


def _power_of_ten(value: float) -> str:
    return "1" if value == 1 else "10" + str(round(np.log10(value))).translate(_SUPERSCRIPT)


def _rate(value: float) -> str:
    return f"{value:g}" if value >= 0.001 else _power_of_ten(value)
