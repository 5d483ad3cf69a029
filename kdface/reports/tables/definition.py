"""What a paper table is made of, as experiments/PAPER/TABLE.yaml says it.

    title: Margin losses on LFW
    seeds: [0, 1, 2]
    baseline: NormFace
    overrides: [experiment=spherefacer/pins90_nano] # of every row
    rows:
      - {label: NormFace, overrides: [head=normface]}
      - {label: ArcFace, overrides: [head=arcface], published: {method: ArcFace}}
    columns:
      - {label: LFW, metric: lfw/accuracy, published: {dataset: LFW}}
      - {label: mean, metric: [lfw/accuracy, cfp/accuracy]}
    published: {file: published.csv, where: {table: III}}

A row is found by what it is: its overrides are composed, and the fingerprint names the run folder. A row without
overrides, or a column without a metric, shows published numbers only. A cell has a published number if both its row
and its column say which.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Len, Lt
from pydantic import BaseModel, ConfigDict, ValidationError

from kdface.errors import UserError, nearest
from kdface.metric_names import current
from kdface.stored import read_yaml

Seeds = Annotated[tuple[Annotated[int, Ge(0)], ...], Len(1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)


class Row(_Strict):
    """Attributes:
    label: what the table calls it.
    group: the block of the table it stands in.
    overrides: what defines its run, after those of the table; None: there is no run.
    test: what stands for `{test}` in the columns' metrics.
    evaluation: replaces the evaluation of those columns that have one; "": theirs.
    tested: against the baseline, and bold where it is better; false of a row that stands there for comparison.
    published: CSV column -> value that picks its published numbers.
    """

    label: str
    group: str = ""
    overrides: tuple[str, ...] | None = None
    test: str = ""
    evaluation: str = ""
    tested: bool = True
    published: dict[str, str] = {}

    @property
    def name(self) -> str:
        """With its block."""
        return f"{self.group} {self.label}".strip()

    @property
    def key(self) -> str:
        """As figures call it: what tells it from its neighbours comes first."""
        return f"{self.label}, {self.group}" if self.group else self.label


class Column(_Strict):
    """Attributes:
    label, group: its heading, and the heading over it.
    metric: key in results.json (`lfw/accuracy`), or several, whose mean within each run is shown, without a
        value where one of them has none; `{test}` is the row's test. Names of earlier versions are taken too.
    evaluation: the choice that `kdface evaluate` takes to measure it; "": training's own evaluation does.
    better: which values win.
    unit: how it is shown: a fraction in percent or as it is, or a number that is no fraction.
    digits: after the point.
    over_steps: drawn over the steps of training too, from what was measured on the way (`validation`).
    published: CSV column -> value that picks its published numbers.
    """

    label: str
    group: str = ""
    metric: str | Annotated[tuple[str, ...], Len(2)] = ""
    evaluation: str = ""
    better: Literal["higher", "lower"] = "higher"
    unit: Literal["percent", "fraction", "number"] = "percent"
    digits: Annotated[int, Ge(0), Lt(9)] = 2
    over_steps: bool = False
    published: dict[str, str] = {}

    def metrics_of(self, row: Row) -> tuple[str, ...]:
        """The keys in results.json; empty if the column has no metric."""
        given = (self.metric,) if isinstance(self.metric, str) else self.metric
        return tuple(current(text.replace("{test}", row.test)) for text in given if text)

    @property
    def scale(self) -> float:
        """100 for percent, 1 for fractions."""
        return 100.0 if self.unit == "percent" else 1.0

    @property
    def heading(self) -> str:
        """Group and label."""
        return f"{self.group} {self.label}".strip()


class PublishedFile(_Strict):
    """Attributes:
    file: CSV, beside the definition.
    where: CSV column -> value that every cell of the table shares.
    """

    file: str = "published.csv"
    where: dict[str, str] = {}


class Definition(_Strict):
    """Attributes:
    title, note: above and below the table.
    overrides: of every row.
    needs: the overrides of each run that rows name (`teacher.run`, a network that recognises) and that is no row; its
        seed is among them.
    seeds: of every row.
    spread: what stands behind the ±: sample standard deviation, or the half width of the 95 % t-interval of the mean.
    baseline: label of the row that the others are tested against; where rows have groups, the one of the same group.
    contrasts: pairs of labels, (row, other): their differences are listed below the table too, each on its own. Where
        rows have groups, within each.
    significance: level of the tests, after Holm's correction over the rows of a column.
    """

    title: str
    note: str = ""
    overrides: tuple[str, ...] = ()
    needs: tuple[tuple[str, ...], ...] = ()
    seeds: Seeds = (0, 1, 2)
    spread: Literal["std", "t95"] = "std"
    baseline: str = ""
    contrasts: tuple[tuple[str, str], ...] = ()
    significance: Annotated[float, Gt(0), Lt(1)] = 0.05
    rows: Annotated[tuple[Row, ...], Len(1)]
    columns: Annotated[tuple[Column, ...], Len(1)]
    published: PublishedFile | None = None

    def baseline_of(self, row: Row) -> int | None:
        """The place of the row that `row` is tested against; None for the baseline itself and if there is none."""
        place = self._beside(row, self.baseline)
        return None if place is None or not row.tested or self.rows[place] == row else place

    def contrasted(self) -> list[tuple[int, int]]:
        """Places of the rows of each contrast."""
        rows = list(enumerate(self.rows))
        places = [(r, self._beside(row, b)) for a, b in self.contrasts for r, row in rows if row.label == a]
        return [(r, other) for r, other in places if other is not None]

    def _beside(self, row: Row, label: str) -> int | None:
        """The row of a label in the group of `row`, or else the only one of that label."""
        found = [place for place, row in enumerate(self.rows) if row.label == label]
        same = [place for place in found if self.rows[place].group == row.group] or (found if len(found) == 1 else [])
        return same[0] if same else None


def read_definition(path: Path) -> Definition:
    """Read and check a definition. Raises `UserError` with the key that is wrong."""
    try:
        tree = read_yaml(path)
    except UserError:
        if path.exists():
            raise
        raise UserError(
            f"there is no table definition {str(path)!r}.",
            expected="a YAML file such as experiments/PAPER/TABLE.yaml",
            nearest=nearest(str(path), [str(other) for other in sorted(path.parent.glob("*.yaml"))]),
        ) from None
    try:
        found = Definition.model_validate(tree)
    except ValidationError as error:
        raise _told(error, path) from None
    _check(found, path)
    return found


def _check(definition: Definition, path: Path) -> None:
    seen: set[tuple[str, str]] = set()
    for row in definition.rows:
        if (row.group, row.label) in seen:
            raise UserError(f"{path}: two rows are called {row.label!r}.", expected="a different label for each")
        seen.add((row.group, row.label))
        for column in definition.columns:
            if "{test}" in "".join(column.metric) and row.overrides is not None and not row.test:
                raise UserError(f"{path}: row {row.label!r} has no test.", expected=f"one for {column.metric}")
    headings = [column.heading for column in definition.columns]
    if double := {heading for heading in headings if headings.count(heading) > 1}:
        raise UserError(f"{path}: two columns are called {double.pop()!r}.", expected="a different heading for each")
    if len(set(definition.seeds)) != len(definition.seeds):
        raise UserError(f"{path}: a seed is given twice.", expected="different seeds")
    labels = [row.label for row in definition.rows]
    labelled = [("baseline", definition.baseline)] if definition.baseline else []
    labelled += [("contrast", label) for pair in definition.contrasts for label in pair]
    for what, label in labelled:
        if label not in labels:
            raise UserError(
                f"{path}: {what} {label!r} is not a row.",
                expected=f"one of {', '.join(labels)}",
                nearest=nearest(label, labels),
            )
    if definition.published is None:
        named = [row.label for row in definition.rows if row.published]
        named += [column.label for column in definition.columns if column.published]
        if named:
            raise UserError(f"{path}: {named[0]!r} names published numbers, but there is no `published:`.")


def _told(error: ValidationError, path: Path) -> UserError:
    first: Any = error.errors()[0]
    key = ".".join(str(place) for place in first["loc"]) or "the file"
    owner: type[BaseModel] = Definition
    for name, kind in (("rows", Row), ("columns", Column), ("published", PublishedFile)):
        if first["loc"] and first["loc"][0] == name and len(first["loc"]) > 1:
            owner = kind
    if first["type"] == "extra_forbidden":
        name = str(first["loc"][-1])
        return UserError(
            f"{path}: unknown key {key!r}.",
            expected=f"one of {', '.join(owner.model_fields)}",
            nearest=nearest(name, owner.model_fields),
        )
    return UserError(f"{path}: {key}: {first['msg'].lower()}, got {first.get('input')!r:.80}.")
