"""The look of all figures: colours, styles, curves, legends and files.

Figures are drawn without pyplot and the user's matplotlib settings. Equal data give identical bytes.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from kdface.errors import UserError

Values = NDArray[np.floating[Any]]
Place = Literal["best", "upper left", "upper right", "lower left", "lower right"]

COLUMN = 3.4  # inches: one column of a two-column paper
# Six hues of Okabe and Ito (2008), whose yellow is too pale on white, then indigo and dark brown. For normal vision,
# protanopia, deuteranopia and tritanopia, any two are at least 16 apart in CIELAB.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#332288", "#661100")
DARK_PALETTE = ("#6375FF", "#E25C2D", "#1CFF8E", "#C16883", "#FFCF39", "#A9D8FC", "#8D77BF", "#FFFFF0")  # on dark pages
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
_INSIDE = 3  # number of names that fit between the curves
_NAME = 25  # letters of a name next to another
_LEGEND_LINE = 0.135  # inches
DOTTED: dict[str, Any] = {"color": BASELINE, "linewidth": 0.6, "linestyle": (0, (1, 2))}  # a reference line
ALIKE = 0.8  # lowest / highest value above which curves or bars look alike on an axis from zero


@contextmanager
def style() -> Iterator[None]:
    """A context, or decorator, in which matplotlib uses this project's style instead of the user's settings."""
    with matplotlib.style.context(["default", _STYLE]):
        yield


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


def save_both(figure: Figure, stem: Path) -> None:
    """Write STEM.png and STEM.pdf."""
    for suffix in (".png", ".pdf"):
        save(figure, stem.with_name(stem.name + suffix))
        figure.set_layout_engine("none")  # reuse the layout, which takes as long to compute as to draw


def new_figure(width: float, height: float, dpi: int = 300) -> Figure:
    """A figure of a size in inches, without opening a window."""
    figure = Figure(figsize=(width, height), dpi=dpi, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def new_axes(height: float) -> Axes:
    """The axes of a new figure of column width and a height in inches."""
    return new_figure(COLUMN, height).add_subplot()


def round_ticks(most: int = 6, *, integer: bool = False) -> MaxNLocator:
    """Ticks at round numbers, with at most this many intervals between them."""
    return MaxNLocator(most, steps=[1, 2, 5, 10], integer=integer)


def look(place: int) -> tuple[str, Any]:
    """The colour and line style of the curve at a place: eight hues, then the same hues with other line styles."""
    hues = len(PALETTE)
    return PALETTE[place % hues], DASHES[(place + place // hues) % len(DASHES)]


def draw_curves(
    axes: Axes,
    curves: Mapping[str, tuple[Values, Values]],
    bands: Mapping[str, tuple[Values, Values, Values]] | None = None,
    baseline: str | None = None,
    rank: Callable[[Values, Values], float] = lambda x, y: 0,
    **line: Any,
) -> dict[str, Line2D]:
    """Draw curves (x, y), styled by their position in the mapping, and pale bands (x, lower, upper) in their colours.

    Args:
        axes: where to draw.
        curves: name -> curve.
        bands: name -> band of some curves, with gaps at non-finite bounds.
        baseline: the curve to draw in grey.
        rank: orders the curves in the legend.
        line: properties of all lines.
    """
    looks = {name: look(place) for place, name in enumerate(name for name in curves if name != baseline)}
    lines = {}
    for name in sorted(curves, key=lambda name: rank(*curves[name])):
        hue, dash = looks.get(name, (BASELINE, "solid"))
        depth = 2 if name == baseline else 3
        (lines[name],) = axes.plot(*curves[name], color=hue, linestyle=dash, zorder=depth, label=name, **line)
    for name, (x, low, high) in (bands or {}).items():
        shown = (np.isfinite(low) & np.isfinite(high)).tolist()
        color = lines[name].get_color()
        axes.fill_between(x, low, high, where=shown, color=color, alpha=0.15, linewidth=0, zorder=1.5)
    return lines


def figure_of(axes: Axes) -> Figure:
    """The figure that axes are in."""
    return axes.figure.get_figure(root=True)


def with_legend(axes: Axes, place: Place) -> Figure:
    """The figure with a legend at a place in the axes, or for many curves in two columns above, enlarging it."""
    figure = figure_of(axes)
    handles, names = axes.get_legend_handles_labels()
    if len(names) <= _INSIDE:
        axes.legend(loc=place)
        return figure
    labels = [textwrap.fill(name, _NAME, break_on_hyphens=False) for name in names]
    half = (len(labels) + 1) // 2
    lines = max(sum(1 + label.count("\n") for label in column) for column in (labels[:half], labels[half:]))
    figure.set_figheight(figure.get_figheight() + _LEGEND_LINE * (lines + 1))
    figure.legend(handles, labels, loc="outside upper left", ncols=2, columnspacing=1.0)
    return figure
