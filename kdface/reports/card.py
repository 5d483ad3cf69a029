"""The model card of a network: architecture, data, results and intended use, in the format of the Hugging Face Hub
(Markdown with YAML front matter)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from kdface.metric_names import rate
from kdface.reports.summary import number
from kdface.reports.templates import render

_LEADING = ("accuracy", "eer", "auc", "rank1", "pauc", "tar@far=1e-3", "tar@far=1e-2")
_PARTS = ("method", "backbone", "head", "teacher")
_POINT = ("threshold", "low", "high", "tar")


def model_card(
    name: str,
    config: Mapping[str, Any],
    about: Mapping[str, Any],
    results: Mapping[str, Any],
    data: Mapping[str, Any],
    file: str,
) -> str:
    """The text of a model card.

    Args:
        name: name of the model.
        config: the resolved configuration of its run.
        about: preprocessing, embedding_size, step, parameters, as in exported files.
        results: results.json, including later evaluations.
        data: the cards of its datasets, by role (data.json).
        file: file to load.
    """
    metrics = {key: metric for key, metric in results.get("metrics", {}).items() if metric["value"] is not None}
    front: dict[str, Any] = {
        "library_name": "kdface",
        "pipeline_tag": "image-feature-extraction",
        "license": "other",
        "license_name": "see-training-data",
        "tags": ["face-recognition", "kdface"],
    }
    if metrics:
        front["model-index"] = [{"name": name, "results": _index(metrics)}]
    points = [
        {"test": test, "far": rate(point["far"]), **{key: _fixed(point.get(key)) for key in _POINT}}
        for test, found in (results.get("operating_points") or {}).items()
        for point in found
    ]
    return render(
        "card.md",
        name=name,
        front=yaml.safe_dump(front, sort_keys=False, allow_unicode=True).rstrip(),
        parts={part: (config.get(part) or {}).get("_target_", "none") for part in _PARTS},
        seed=config.get("seed"),
        about=about,
        preprocessing=about["preprocessing"],
        training=data.get("train") or {},
        metrics={key: number(metric) for key, metric in metrics.items()},
        points=points,
        file=file,
    )


def _fixed(value: float | None) -> str:
    return "?" if value is None else f"{value:.4f}"


def _index(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The leading metrics of each test set, in the Hub's format."""
    found: dict[str, list[dict[str, Any]]] = {}
    for key, metric in metrics.items():
        test, _, name = key.partition("/")
        if name in _LEADING:
            found.setdefault(test, []).append({"type": name, "name": key, "value": metric["value"]})
    task = {"type": "image-feature-extraction", "name": "face recognition"}
    return [
        {"task": task, "dataset": {"name": test, "type": test}, "metrics": metrics} for test, metrics in found.items()
    ]
