"""Which configuration a distilled one is measured against."""

from __future__ import annotations

from kdface.reports.html.gains import twins

PLAIN = {"dataset.name": "pins", "backbone._target_": "nano", "method._target_": "plain", "teacher": None, "lr": 0.1}
_REST = {key: value for key, value in PLAIN.items() if key != "teacher"}
TAUGHT = {**_REST, "method._target_": "kd", "method.guidance": 2.0, "teacher._target_": "run"}
SILENT = {**TAUGHT, "method.guidance": 0.0, "method.raised_guidance": None}


def test_the_most_alike_without_a_teacher() -> None:
    assert twins([{**PLAIN, "lr": 0.2}, PLAIN, TAUGHT]) == [{"with": 2, "without": 1, "also": []}]


def test_a_teacher_of_weight_0_teaches_nothing() -> None:
    assert twins([TAUGHT, {**PLAIN, "lr": 0.2}, SILENT]) == [{"with": 0, "without": 2, "also": []}]
    raised = {**SILENT, "method.raised_guidance": 3000.0}
    assert twins([SILENT, raised]) == [{"with": 1, "without": 0, "also": []}]


def test_networks_that_teach_each_other_need_no_teacher() -> None:
    mutual = {**PLAIN, "method.kl_face_to_periocular": 1.0, "method.kl_periocular_to_face": 0.0}
    apart = {**mutual, "method.kl_face_to_periocular": 0.0}
    assert twins([apart, mutual]) == [{"with": 1, "without": 0, "also": []}]


def test_a_method_without_such_weights_is_taught_by_its_teacher() -> None:
    quality = {key: value for key, value in TAUGHT.items() if key != "method.guidance"}
    assert twins([PLAIN, quality]) == [{"with": 1, "without": 0, "also": []}]


def test_what_else_differs_is_told() -> None:
    found = twins([{**PLAIN, "lr": 0.2, "epochs": 3}, TAUGHT])
    assert found == [{"with": 1, "without": 0, "also": ["epochs", "lr"]}]


def test_other_data_and_other_backbones_are_no_partners() -> None:
    assert twins([{**PLAIN, "dataset.name": "toy"}, {**PLAIN, "backbone._target_": "r50"}, TAUGHT]) == []
    assert twins([TAUGHT, {**TAUGHT, "lr": 0.2}]) == []
