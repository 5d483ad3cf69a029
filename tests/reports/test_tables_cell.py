"""A cell is found by the labels of its row and column."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdface.errors import UserError
from kdface.reports.tables.definition import Definition, single

PATH = Path("some.yaml")
TABLE = Definition.model_validate(
    {
        "title": "t",
        "baseline": "plain",
        "rows": [
            {"label": "plain", "overrides": ["a=1"]},
            {"label": "distilled", "group": "teacher A", "overrides": ["a=2"]},
            {"label": "distilled", "group": "teacher B", "overrides": ["a=3"]},
            {"label": "printed only"},
        ],
        "columns": [
            {"label": "TAR@FAR=1/1000", "group": "bare", "metric": "x/tar"},
            {"label": "EER", "group": "bare", "metric": "x/eer"},
            {"label": "EER", "group": "masked", "metric": "y/eer"},
            {"label": "year"},
        ],
    }
)


@pytest.mark.parametrize(
    ("name", "overrides", "metric"),
    [
        ("plain/bare EER", "a=1", "x/eer"),
        ("plain/masked EER", "a=1", "y/eer"),
        ("plain/TAR@FAR=1/1000", "a=1", "x/tar"),
        ("teacher B distilled/bare TAR@FAR=1/1000", "a=3", "x/tar"),
        ("teacher A distilled/TAR@FAR=1/1000", "a=2", "x/tar"),
    ],
)
def test_by_the_whole_name_and_by_a_shorter_one_that_is_alone(name: str, overrides: str, metric: str) -> None:
    found = single(TABLE, name, PATH)
    ((row,), (column,)) = found.rows, found.columns
    assert row.overrides == (overrides,) and column.metric == metric
    assert found.baseline == "" and found.seeds == TABLE.seeds


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("plian/masked EER", "some.yaml:plain/masked EER"),
        ("distilled/masked EER", "some.yaml:teacher A distilled/masked EER"),  # both teachers have one
        ("plain/EER", "some.yaml:plain/bare EER"),
        ("printed only/bare EER", "some.yaml:"),  # nothing to run
    ],
)
def test_other_names_are_told_with_the_nearest(name: str, near: str) -> None:
    with pytest.raises(UserError, match="called") as error:
        single(TABLE, name, PATH)
    assert error.value.nearest.startswith(near)
