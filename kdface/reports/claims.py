"""Test claims of papers against our tables: each verdict follows from an interval by a fixed rule.

    - paper: MaskInv
      page: maskinv/README.md#what-was-found
      claim: Masks in training help masked faces
      results: maskinv/small.csv # written by `kdface table`
      row: ElasticFace-Arc-Aug
      less: ElasticFace-Arc (teacher)
      column: masked accuracy

The effect is the mean over seeds of `row` minus `less` in `column`, paired by seed, with its 95 % t-interval. The sign
is flipped if lower values are better, so a positive effect always favours `row`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import Annotated, Any, Literal

from annotated_types import Ge
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from pydantic import BaseModel, ConfigDict, model_validator

from kdface.errors import UserError, nearest
from kdface.reports.plotting import BASELINE, INK, PALETTE, new_figure, style
from kdface.reports.tables.definition import validated
from kdface.reports.tables.render_csv import Values, read_values
from kdface.reports.tables.render_markdown import plain
from kdface.reports.tables.statistics import Comparison, compare
from kdface.stored import read_yaml

Verdict = Literal["holds", "does not hold", "not decided", "not testable here"]
_POINTS = 100
_LOOK = {"holds": (PALETTE[0], "o"), "does not hold": (PALETTE[1], "s"), "not decided": (BASELINE, "D")}
_MARGIN = "#E4E4E4"
_WIDTH, _WRAP = 7.2, 52  # inches; letters of a claim per line


class Claim(BaseModel):
    """One claim of the definition.

    Attributes:
        paper: paper that makes the claim.
        page: page that describes the test, relative to the definition.
        claim: the claim in words.
        results: CSV of a table, relative to the definition.
        row, less: compared rows, "group label" or only the label.
        column: compared column.
        better: whether higher or lower values are better.
        states: gain: the effect is above 0. no loss: it is above -margin. no difference: it is within +-margin.
        margin: largest negligible difference, in points; 0 with gain.
        not_testable: why it cannot be tested here; excludes results.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    paper: str
    page: str = ""
    claim: str
    results: Path | None = None
    row: str = ""
    less: str = ""
    column: str = ""
    better: Literal["higher", "lower"] = "higher"
    states: Literal["gain", "no loss", "no difference"] = "gain"
    margin: Annotated[float, Ge(0)] = 0
    not_testable: str = ""

    @model_validator(mode="after")
    def _is_whole(self) -> Claim:
        if bool(self.not_testable) == (self.results is not None):
            raise ValueError("a claim has results, with row, less and column, or not_testable, with the reason")
        if (self.states == "gain") == (self.margin > 0):
            raise ValueError("a margin above 0 goes with states: no loss, or no difference, and with them only")
        return self


@dataclass(frozen=True)
class Finding:
    """A claim with its measured effect and verdict.

    Attributes:
        effect: effect in points, positive if it favours `row`; None if not testable.
        verdict: see `verdict`.
    """

    claim: Claim
    effect: Comparison | None
    verdict: Verdict


def verdict(
    low: float | None, high: float | None, states: Literal["gain", "no loss", "no difference"], margin: float
) -> Verdict:
    """The verdict on a claim, by whether the interval is inside, outside, or overlaps the claimed range.

    The range is (0, inf) for a gain, (-margin, inf) for no loss, (-margin, margin) for no difference. An unknown
    interval (one seed, or all differences equal) decides nothing.
    """
    if low is None or high is None:
        return "not decided"
    floor, ceiling = -margin, margin if states == "no difference" else float("inf")
    if low > floor and high < ceiling:
        return "holds"
    return "does not hold" if high <= floor or low >= ceiling else "not decided"


def findings(path: Path) -> list[Finding]:
    """Read a definition and the tables it names.

    Raises:
        UserError: a file cannot be read, a claim is incomplete, or a row or column is not in its table.
    """
    nodes = read_yaml(path, list[dict[str, Any]])
    claims = [validated(Claim, node, f"{path}: claim {place}") for place, node in enumerate(nodes, 1)]
    tables = {claim.results: read_values(path.parent / claim.results) for claim in claims if claim.results}
    return [_found(claim, tables[claim.results] if claim.results else {}, path) for claim in claims]


def _found(claim: Claim, values: Values, path: Path) -> Finding:
    if claim.results is None:
        return Finding(claim, None, "not testable here")
    sign = _POINTS if claim.better == "higher" else -_POINTS
    one, other = (
        {seed: sign * value for seed, value in _cell(values, row, claim, path).items()}
        for row in (claim.row, claim.less)
    )
    effect = compare(one, other)
    if effect is None:
        raise UserError(f"{path}: {claim.row!r} and {claim.less!r} have no common seed in {claim.results}.")
    return Finding(claim, effect, verdict(effect.low, effect.high, claim.states, claim.margin))


def _cell(values: Values, row: str, claim: Claim, path: Path) -> Mapping[int, float]:
    if (row, claim.column) in values:
        return values[row, claim.column]
    rows, columns = ({names[place] for names in values} for place in (0, 1))
    what, given, known = ("column", claim.column, columns) if row in rows else ("row", row, rows)
    raise UserError(
        f"{path}: {claim.results} has no {what} {given!r}.",
        expected=f"one of {', '.join(sorted(known))}",
        nearest=nearest(given, known),
    )


_PAGE = """# Claims and findings

![effects with their intervals]({figure})

| paper | claim | measured | effect | verdict |
|---|---|---|---|---|
{rows}

Effects are mean differences in points (hundredths), paired by seed over n seeds, with 95 % t-intervals that are not
corrected for the number of claims. Positive effects favour the row named first. A gain holds if its interval lies above
0, "no loss" if it lies above minus the margin, and "no difference" if it lies within plus or minus the margin. A claim
does not hold if the whole interval lies outside this range, and is not decided if it lies partly inside.

`kdface claims {definition}` computes this page from the tables.
"""


def markdown(found: Sequence[Finding], definition: str, figure: str) -> str:
    """The claims as a table by paper, below the figure, with an explanation of the rule."""
    rows = []
    before = ""
    for finding in found:
        claim = finding.claim
        name = plain(claim.paper)
        paper = f"[{name}]({claim.page})" if claim.page else name
        told = plain(claim.claim), plain(measured(claim)), effect_text(finding.effect)
        words = ("" if claim.paper == before else paper, *told)
        rows.append(f"| {' | '.join(words)} | {finding.verdict} |")
        before = claim.paper
    return _PAGE.format(figure=figure, rows="\n".join(rows), definition=definition)


def measured(claim: Claim) -> str:
    """Describe the comparison."""
    if claim.results is None:
        return claim.not_testable
    margin = f"; margin {claim.margin:g}" if claim.margin else ""
    return f"{claim.column} ({claim.results.with_suffix('')}), {claim.row} minus {claim.less}{margin}"


def effect_text(effect: Comparison | None) -> str:
    """Format an effect as +1.39 (0.77 to 2.01, n = 3)."""
    if effect is None:
        return ""
    if effect.low is None or effect.high is None:
        return f"{effect.difference:+.2f} (n = {effect.n})"
    return f"{effect.difference:+.2f} ({effect.low:.2f} to {effect.high:.2f}, n = {effect.n})"


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
