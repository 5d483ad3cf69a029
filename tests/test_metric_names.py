"""Names of metrics, and those that earlier runs, tables and searches use."""

from __future__ import annotations

import pytest

from kdface.metric_names import current, rate, with_current_names


@pytest.mark.parametrize(
    ("earlier", "today"),
    [
        ("lfw/10fold/accuracy", "lfw/accuracy"),
        ("lfw/roc/eer", "lfw/eer"),
        ("lfw/roc/tar@far=0.001", "lfw/tar@far=1e-3"),
        ("lfw/10fold/val@far=1e-06", "lfw/val@far=1e-6"),
        ("ijbb/1toN/tpir_official@fpir=0.1", "ijbb/tpir_official@fpir=1e-1"),
        ("lfw/scores/fmr100", "lfw/fmr100"),
        ("q/quality/recomputed_embeddings/pauc@0.3", "q/recomputed_embeddings/pauc@0.3"),
        ("ytf/ckd/cross/cmc@5", "ytf/cross/cmc@5"),
        ("toy/cluster/bcubed_f@0.8", "toy/bcubed_f@0.8"),
        ("{test}/calibration/ece", "{test}/ece"),
    ],
)
def test_an_earlier_name_is_todays_and_todays_stays(earlier: str, today: str) -> None:
    assert current(earlier) == current(today) == today


@pytest.mark.parametrize("name", ["quality/fnmr", "ckd/eer", "lfw/cross/eer", "loss"])
def test_a_test_set_may_be_called_as_a_protocol_was(name: str) -> None:
    assert current(name) == name


@pytest.mark.parametrize(
    ("value", "text"), [(0.001, "1e-3"), (0.1, "1e-1"), (0.025, "2.5e-2"), (1e-6, "1e-6"), (1 / 3, "")]
)
def test_rates_are_spelled_in_one_way(value: float, text: str) -> None:
    assert rate(value) == text or not text
    assert float(rate(value)) == pytest.approx(value, rel=1e-12)


def test_a_results_file_keeps_everything_else() -> None:
    found = {"metrics": {"a/roc/eer": {"value": 0.5}}, "untrained": {"a/10fold/accuracy": {"value": 0.1}}, "step": 3}
    renamed = {"metrics": {"a/eer": {"value": 0.5}}, "untrained": {"a/accuracy": {"value": 0.1}}, "step": 3}
    assert with_current_names(found) == renamed and with_current_names(renamed) == renamed
    assert with_current_names({"step": 3}) == {"step": 3}
