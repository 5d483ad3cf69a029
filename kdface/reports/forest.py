"""A forest plot of effects with intervals, one line per claim, by paper."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill

from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from kdface.errors import UserError
from kdface.reports.claims import Finding, effect_text
from kdface.reports.figures import BASELINE, INK, PALETTE, new_figure, style

_LOOK = {"holds": (PALETTE[0], "o"), "does not hold": (PALETTE[1], "s"), "not decided": (BASELINE, "D")}
_MARGIN = "#E4E4E4"
_WIDTH, _WRAP = 7.2, 52  # inches; letters of a claim per line


@style()
def forest_figure(findings: Sequence[Finding]) -> Figure:
    """Plot effects in points, positive in favour of the first-named row; colour and marker show the verdict.

    A shaded band shows the margin of a claim of no loss or no difference.

    Raises:
        UserError: no claim has an effect.
    """
    drawn = [(finding, finding.claim, finding.effect) for finding in findings if finding.effect is not None]
    if not drawn:
        raise UserError("there is nothing to plot: no claim has an effect.")
    labels = [fill(claim.claim, _WRAP) for _, claim, _ in drawn]
    heights: list[float] = []
    titles: list[tuple[str, float]] = []  # papers and their heights
    bottom, before = 0.0, None
    for label, (_, claim, _) in zip(labels, drawn, strict=True):
        if claim.paper != before:
            bottom -= 1.1
            titles.append((claim.paper, bottom + 0.35))
        before = claim.paper
        room = 0.8 + 0.45 * label.count("\n")
        bottom -= room
        heights.append(bottom + room / 2)
    figure = new_figure(_WIDTH, 0.6 - 0.22 * bottom, dpi=200)
    axes = figure.add_subplot()
    axes.axvline(0, color=INK, linewidth=0.8)
    side = axes.get_yaxis_transform()
    for height, (finding, claim, effect) in zip(heights, drawn, strict=True):
        color, marker = _LOOK[finding.verdict]
        if claim.margin:
            right = claim.margin if claim.states == "no difference" else 0
            axes.fill_betweenx([height - 0.3, height + 0.3], -claim.margin, right, color=_MARGIN, linewidth=0)
        if effect.low is not None and effect.high is not None:
            axes.plot([effect.low, effect.high], [height, height], color=color, linewidth=1.4)
        axes.plot(effect.difference, height, marker=marker, color=color, markersize=4)
        axes.text(1.02, height, effect_text(effect), transform=side, va="center", fontsize=6.5, color=INK)
    for paper, top in titles:
        axes.text(-0.02, top, paper, transform=side, ha="right", va="center", weight="bold")
    axes.set_yticks(heights, labels)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(bottom - 0.3, 0)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("effect in points, with its 95 % interval")
    marks: list[Artist] = [
        Line2D([], [], color=color, marker=marker, markersize=4, linewidth=1.4, label=name)
        for name, (color, marker) in _LOOK.items()
    ]
    marks.append(Patch(color=_MARGIN, label="margin"))
    figure.legend(handles=marks, loc="outside upper right", ncols=4, frameon=False, labelcolor=INK)
    return figure
