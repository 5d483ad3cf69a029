"""The table that ends a run."""

from __future__ import annotations

import re

from kdface.reports.summary import tell

METRICS = {
    **{f"toy/{name}": {"value": 0.25} for name in ("accuracy_exact", "accuracy", "auc", "eer", "genuine_mean", "fdr")},
    **{f"toy/tar@far=1e-{digits}": {"value": None if digits > 2 else 0.5} for digits in (1, 2, 3, 4)},
    "known/accuracy": {"value": 0.75},
}


def test_five_metrics_of_a_test_set_matter_and_the_rest_is_in_the_results() -> None:
    text = "\n".join(tell(METRICS, {"toy": {"folds": 4}}, "runs/r/results.json"))
    shown = ["accuracy (4 folds)", "AUC", "EER", "tar@far=1e-1", "tar@far=1e-2"]
    rows = [re.split(r"\s{2,}", line.strip()) for line in text.splitlines()]
    assert [row[1] for row in rows if row[0] == "toy"] == shown
    assert "accuracy " in text.split("known")[1]  # not over folds
    assert "metrics  all 11 are in runs/r/results.json" in text


def test_what_is_not_available_has_no_row_but_a_reason() -> None:
    text = "\n".join(tell(METRICS, {}, "results.json"))
    assert "n/a" not in text
    assert "2 not available, usually because there are too few pairs: toy/tar@far=1e-3, toy/tar@far=1e-4" in text


def test_few_metrics_need_no_pointer() -> None:
    (table,) = tell({"toy/eer": {"value": 0.1}}, {}, "results.json")
    assert "0.1000" in table and "results.json" not in table


def test_lesser_metrics_do_not_fill_up() -> None:
    lines = tell({"toy/accuracy": {"value": 0.5}, "toy/fdr": {"value": 0.1}, "other/fdr": {"value": 0.2}}, {}, "r.json")
    assert "0.1000" not in lines[0] and "0.2000" in lines[0]  # the only one of its test set
    assert lines[1:] == ["metrics  all 3 are in r.json"]
