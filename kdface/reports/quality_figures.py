"""Figures of face-image quality: error versus discard, quality under misalignment, and images sorted by quality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from kdface.errors import UserError
from kdface.faces import Image
from kdface.reports.contact_sheet import contact_sheet
from kdface.reports.figures import (
    BASELINE,
    INK,
    PALETTE,
    add_legend,
    check_bands,
    check_runs,
    draw_bands,
    draw_lines,
    new_axes,
    style,
)

Values = NDArray[np.floating[Any]]

_CLOSE = 0.8  # lowest / highest error above which curves look alike on an axis from zero
_ACROSS = 10  # images per row of a sheet
_SHOWN = 60  # most images on a sheet


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
    check_runs(runs, baseline)
    check_bands(runs, bands or {})
    shown: dict[str, tuple[Values, Values]] = {}
    for name, (fractions, errors) in runs.items():
        if not len(fractions) or len(fractions) != len(errors) or fractions[0] != 0 or (np.diff(fractions) <= 0).any():
            raise UserError(f"The curve of {name!r} does not start at a discard fraction of 0.")
        if not ((errors >= 0) & (errors <= 1)).all():
            raise UserError(f"The curve of {name!r} contains errors that are not rates.", expected="fractions, 0 to 1")
        inside = fractions <= limit
        x, y = fractions[inside], errors[inside]
        shown[name] = (np.append(x, limit), np.append(y, y[-1]))
    with style():
        figure, axes = new_axes(2.6)
        lines = draw_lines(axes, shown, baseline, rank=lambda x, y: -float(np.dot(np.diff(x), y[:-1])))
        for name, (fractions, low, high) in (bands or {}).items():
            inside = fractions <= limit
            draw_bands(axes, lines, {name: (fractions[inside], low[inside], high[inside])})
        for line in lines.values():
            line.set_drawstyle("steps-post")
        starts = sorted({float(y[0]) for _, y in shown.values()})
        if len(starts) == 1:  # all use the same recognition network
            axes.axhline(starts[0], color=BASELINE, linewidth=0.6, linestyle=(0, (1, 2)), zorder=1.8)
            axes.annotate(
                f"E(0) = {starts[0]:.3g}",
                (limit, starts[0]),
                xytext=(-3, 3),
                textcoords="offset points",
                ha="right",
                color=INK,
            )
        axes.set(xlim=(0, limit), xlabel="Discarded pairs", ylabel="False non-match rate")
        if min(y.min() for _, y in shown.values()) < _CLOSE * max(y.max() for _, y in shown.values()):
            axes.set_ylim(bottom=0)
        axes.set_ylim(top=max(axes.get_ylim()[1], 1e-3))
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g} %"))
        axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        add_legend(axes, "best")
    return figure


def consistency_figure(
    aligned: Values, perturbed: Values, *, spearman: float | None, what: str = "misaligned"
) -> Figure:
    """Quality of the same images, misaligned over aligned; the dotted diagonal marks no change.

    Args:
        aligned, perturbed: (images,) finite qualities.
        spearman: their rank correlation (`kdface.evaluation.quality.spearman`), or None if undefined.
        what: perturbation of the images, for the axis.
    """
    both = np.concatenate([aligned, perturbed])
    if len(aligned) != len(perturbed) or not len(aligned) or not np.isfinite(both).all():
        raise UserError(
            f"{len(aligned)} qualities of aligned and {len(perturbed)} of {what} images: need as many, all finite."
        )
    low, high = float(both.min()), float(both.max())
    room = 0.04 * (high - low) or 0.5
    low, high = low - room, high + room
    with style():
        figure, axes = new_axes(3.2)
        axes.plot([low, high], [low, high], color=BASELINE, linewidth=0.6, linestyle=(0, (1, 2)), zorder=4)
        axes.scatter(
            aligned,
            perturbed,
            s=5,
            color=PALETTE[0],
            alpha=float(np.clip(6 / np.sqrt(len(aligned)), 0.15, 0.8)),
            linewidths=0,
            rasterized=True,  # thousands of points make a PDF slow to open
        )
        axes.set(xlim=(low, high), xlabel="Quality, aligned", ylim=(low, high), ylabel=f"Quality, {what}")
        axes.set_aspect("equal")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        said = f"{len(aligned)} images" if spearman is None else f"Spearman {spearman:.3f}\n{len(aligned)} images"
        axes.text(0.04, 0.96, said, transform=axes.transAxes, ha="left", va="top", linespacing=1.3, color=INK)
    return figure


def quality_sheet(images: Sequence[Image], scores: Values, *, most: int = _SHOWN) -> Figure:
    """A contact sheet of images by increasing quality from the top left, ten per row.

    Args:
        images: (height, width, 3) uint8 RGB images.
        scores: (images,) finite qualities.
        most: largest number of images; if there are more, they are sampled evenly by rank, including the extremes.
    """
    if len(images) != len(scores) or not len(images) or not np.isfinite(scores).all():
        raise UserError(f"{len(images)} images and {len(scores)} qualities: need as many, all finite.")
    order = spread(scores, most)
    rows: list[list[Image | None]] = []
    titles = []
    columns = min(_ACROSS, len(order))
    for start in range(0, len(order), columns):
        chosen = order[start : start + columns]
        rows.append([images[row] for row in chosen] + [None] * (columns - len(chosen)))
        first, last = (f"{float(scores[row]):.3g}" for row in (chosen[0], chosen[-1]))
        titles.append(first if first == last else f"{first} to {last}")
    return contact_sheet(rows, titles, [""] * columns)


def spread(scores: Values, most: int = _SHOWN) -> NDArray[np.int64]:
    """The rows to show, ordered by score: all, or `most` evenly spaced ones."""
    order = np.argsort(scores, kind="stable")
    return order if len(order) <= most else order[np.linspace(0, len(order) - 1, most).round().astype(np.int64)]
