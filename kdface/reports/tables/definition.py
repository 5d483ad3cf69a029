"""The definition of a paper table, experiments/PAPER/TABLE.yaml.

    title: Margin losses on LFW
    seeds: [0, 1, 2]
    baseline: NormFace
    overrides: [experiment=spherefacer/pins90_nano] # for every row
    rows:
      - {label: NormFace, overrides: [head=normface]}
      - {label: ArcFace, overrides: [head=arcface], published: {method: ArcFace}}
    columns:
      - {label: LFW, metric: lfw/accuracy, published: {dataset: LFW}}
      - {label: mean, metric: [lfw/accuracy, cfp/accuracy]}
    published: {file: published.csv, where: {table: III}}

The run folder of a row is found by composing its overrides and computing the fingerprint. A row without overrides, or a
column without a metric, shows only published numbers. A cell has a published number if both its row and its column
select one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from annotated_types import Ge, Gt, Len, Lt
from pydantic import BaseModel, ConfigDict, ValidationError

from kdface.errors import UserError, nearest
from kdface.metric_names import current
from kdface.stored import read_yaml

Model = TypeVar("Model", bound=BaseModel)
Seeds = Annotated[tuple[Annotated[int, Ge(0)], ...], Len(1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)


class Row(_Strict):
    """Attributes:
    label: label in the table.
    group: its block of the table.
    overrides: overrides of its run, after those of the table; None: no run.
    test: replaces `{test}` in the columns' metrics.
    evaluation: replaces the evaluation of columns that have one; "": keep theirs.
    tested: test it against the baseline and print it in bold if better; false for a reference row.
    published: CSV column -> value, selecting its published numbers.
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
        """The label with its group."""
        return f"{self.group} {self.label}".strip()

    @property
    def key(self) -> str:
        """The name in figures, with the distinguishing label first."""
        return f"{self.label}, {self.group}" if self.group else self.label


class Column(_Strict):
    """Attributes:
    label, group: its heading, and the heading above it.
    metric: key in results.json (`lfw/accuracy`), or several, whose mean within each run is shown if all have a value;
        `{test}` is the row's test. Earlier names are accepted too.
    evaluation: choice for `kdface evaluate` that measures it; "": training's own evaluation.
    better: whether higher or lower values are better.
    unit: how to show it: a fraction in percent or unchanged, or a number that is not a fraction.
    digits: decimal places.
    over_steps: also plot it over training steps, from `validation` during training.
    published: CSV column -> value, selecting its published numbers.
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
        """The group and label."""
        return f"{self.group} {self.label}".strip()


class PublishedFile(_Strict):
    """Attributes:
    file: CSV file next to the definition.
    where: CSV column -> value shared by all cells of the table.
    """

    file: str = "published.csv"
    where: dict[str, str] = {}


class Definition(_Strict):
    """Attributes:
    title, note: text above and below the table.
    overrides: overrides of every row.
    needs: overrides, including the seed, of each run that rows refer to (`teacher.run`, a recognition network) and that
        is not a row itself.
    seeds: seeds of every row.
    spread: the value after ±: sample standard deviation, or the half width of the 95 % t-interval of the mean.
    baseline: label of the row that others are tested against, within the same group if rows have groups.
    contrasts: pairs of labels, (row, other), whose differences are also listed below the table, within each group if
        rows have groups.
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
        """The index of the row that `row` is tested against; None for the baseline itself, or without baseline."""
        place = self._beside(row, self.baseline)
        return None if place is None or not row.tested or self.rows[place] == row else place

    def contrasted(self) -> list[tuple[int, int]]:
        """The row indices of each contrast."""
        rows = list(enumerate(self.rows))
        places = [(r, self._beside(row, b)) for a, b in self.contrasts for r, row in rows if row.label == a]
        return [(r, other) for r, other in places if other is not None]

    def _beside(self, row: Row, label: str) -> int | None:
        """The row with a label in the group of `row`, or else the only row with that label."""
        found = [place for place, row in enumerate(self.rows) if row.label == label]
        same = [place for place in found if self.rows[place].group == row.group] or (found if len(found) == 1 else [])
        return same[0] if same else None


def read_definition(path: Path) -> Definition:
    """Read and check a definition. Raises `UserError` naming the invalid key."""
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
    found = validated(Definition, tree, str(path))
    _check(found, path)
    return found


def validated(model: type[Model], tree: Any, where: str) -> Model:
    """An instance of a model from plain values. Raises `UserError` naming the invalid key."""
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
    key = ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        parts: dict[str, type[BaseModel]] = {"rows": Row, "columns": Column, "published": PublishedFile}
        known = (parts.get(str(first["loc"][0]), model) if len(first["loc"]) > 1 else model).model_fields
        raise UserError(
            f"{where}: unknown key {key!r}.",
            expected=f"one of {', '.join(known)}",
            nearest=nearest(str(first["loc"][-1]), known),
        )
    given = f", got {first['input']!r:.80}" if key else ""
    raise UserError(f"{where}: {f'{key}: ' if key else ''}{first['msg'].lower()}{given}.")


def _check(definition: Definition, path: Path) -> None:
    names = {
        "rows": [row.name for row in definition.rows],
        "columns": [column.heading for column in definition.columns],
    }
    for what, called in names.items():
        if twice := [name for name in called if called.count(name) > 1]:
            raise UserError(f"{path}: two {what} are called {twice[0]!r}.", expected="a different name for each")
    for row in definition.rows:
        for column in definition.columns:
            if "{test}" in "".join(column.metric) and row.overrides is not None and not row.test:
                raise UserError(f"{path}: row {row.label!r} has no test.", expected=f"one for {column.metric}")
    if len(set(definition.seeds)) != len(definition.seeds):
        raise UserError(f"{path}: duplicate seeds.", expected="different seeds")
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
    parts: list[Row | Column] = [*definition.rows, *definition.columns]
    if definition.published is None and (named := [part.label for part in parts if part.published]):
        raise UserError(f"{path}: {named[0]!r} names published numbers, but there is no `published:`.")


def single(definition: Definition, name: str, path: Path) -> Definition:
    """The definition of a table with only this cell.

    A row or column in a group is named by both, as in "masked accuracy", or by its label if that is unique.

    Args:
        definition: the whole table.
        name: ROW/COLUMN.
        path: path of the definition, for the error message.

    Raises:
        UserError: no cell with runs has this name.
    """
    whole = {
        f"{row.name}/{column.heading}": (row, column)
        for row in definition.rows
        for column in definition.columns
        if row.overrides is not None and column.metric
    }
    found = [
        long
        for long, (row, column) in whole.items()
        if name in (f"{row.label}/{column.heading}", f"{row.name}/{column.label}", f"{row.label}/{column.label}")
    ]
    if name in whole:
        found = [name]
    if len(found) != 1:
        near = found[0] if found else nearest(name, whole) or next(iter(whole), "")
        raise UserError(
            f"{path}: {f'{len(found)} cells are' if found else 'no cell is'} called {name!r}.",
            expected="ROW/COLUMN, with the labels of the table, for a row with runs",
            nearest=f"{path}:{near}" if near else "",
        )
    row, column = whole[found[0]]
    return definition.model_copy(update={"rows": (row,), "columns": (column,), "baseline": "", "published": None})
