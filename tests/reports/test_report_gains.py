"""Which configuration a distilled one is measured against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from kdface.config.compose import compose_in, hydra_context
from kdface.config.fingerprint import flatten
from kdface.reports.html.gains import twins
from kdface.reports.tables.definition import read_definition

PLAIN = {"dataset.name": "pins", "backbone._target_": "nano", "method._target_": "plain", "teacher": None, "lr": 0.1}
_REST = {key: value for key, value in PLAIN.items() if key != "teacher"}
TAUGHT = {**_REST, "method._target_": "kd", "method.guidance": 2.0, "teacher._target_": "run"}
SILENT = {**TAUGHT, "method.guidance": 0.0, "method.raised_guidance": None}


def _twins(flats: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return twins(flats, [{(0, "lfw/eer")}] * len(flats))


def test_the_most_alike_without_a_teacher() -> None:
    assert _twins([{**PLAIN, "lr": 0.2}, PLAIN, TAUGHT]) == [{"with": 2, "without": 1, "also": []}]


def test_a_teacher_of_weight_0_teaches_nothing() -> None:
    assert _twins([TAUGHT, {**PLAIN, "lr": 0.2}, SILENT]) == [{"with": 0, "without": 2, "also": []}]
    raised = {**SILENT, "method.raised_guidance": 3000.0}
    assert _twins([SILENT, raised]) == [{"with": 1, "without": 0, "also": []}]


def test_networks_that_teach_each_other_need_no_teacher() -> None:
    mutual = {**PLAIN, "method.kl_face_to_periocular": 1.0, "method.kl_periocular_to_face": 0.0}
    apart = {**mutual, "method.kl_face_to_periocular": 0.0}
    assert _twins([apart, mutual]) == [{"with": 1, "without": 0, "also": []}]


def test_a_method_without_such_weights_is_taught_by_its_teacher() -> None:
    quality = {key: value for key, value in TAUGHT.items() if key != "method.guidance"}
    assert _twins([PLAIN, quality]) == [{"with": 1, "without": 0, "also": []}]


def test_what_else_differs_is_told() -> None:
    found = _twins([{**PLAIN, "lr": 0.2, "epochs": 3}, TAUGHT])
    assert found == [{"with": 1, "without": 0, "also": ["epochs", "lr"]}]


def test_other_data_and_other_backbones_are_no_partners() -> None:
    assert _twins([{**PLAIN, "dataset.name": "toy"}, {**PLAIN, "backbone._target_": "r50"}, TAUGHT]) == []
    assert _twins([TAUGHT, {**TAUGHT, "lr": 0.2}]) == []


def test_configurations_that_share_no_number_are_not_compared() -> None:
    near, far = {**PLAIN, "lr": 0.1}, {**PLAIN, "lr": 0.2}
    measured = [{(0, "lfw/eer")}, {(1, "grade/fnmr")}, {(1, "lfw/eer"), (0, "grade/fnmr")}]
    flats = [TAUGHT, near, far]
    assert twins(flats, measured) == []
    assert twins(flats, [{*measured[0], (1, "lfw/eer")}, *measured[1:]]) == [{"with": 0, "without": 2, "also": ["lr"]}]


@pytest.mark.parametrize(
    ("table", "pairs"),
    [
        # Each source of quality has its own control, without the teacher's embeddings.
        ("aikd/small", {1: 0, 3: 2, 5: 4}),
        ("maskinv/small", {"MaskInv-LG": "ElasticFace-Arc-Aug", "MaskInv-HG": "ElasticFace-Arc-Aug"}),
    ],
)
def test_the_rows_of_published_tables(table: str, pairs: dict[Any, Any]) -> None:
    definition = read_definition(Path(__file__).parents[2] / "experiments" / f"{table}.yaml")
    rows = [row for row in definition.rows if row.overrides is not None]
    with hydra_context([]) as hydra:
        trees = [compose_in(hydra, [*definition.overrides, *(row.overrides or ())]).tree for row in rows]
    labels = [row.label if isinstance(next(iter(pairs)), str) else place for place, row in enumerate(rows)]
    flats = [{key: value for key, value in flatten(tree).items() if key != "name"} for tree in trees]
    found = _twins(flats)
    assert {labels[gain["with"]]: labels[gain["without"]] for gain in found} == pairs
    assert all(not gain["also"] for gain in found)
