"""The model card of a network: architecture, data, results and intended use, in the format of the Hugging Face Hub
(Markdown with YAML front matter)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from kdface.metric_names import rate

_LEADING = ("accuracy", "eer", "auc", "rank1", "pauc", "tar@far=1e-3", "tar@far=1e-2")
_LIMITS = [
    "## Intended use and limits",
    "",
    "For research on face recognition with images whose subjects consented or whose terms allow it. Not for "
    "surveillance, and not for decisions about people without a human who answers for them.",
    "",
    "Rates hold for people and images like those tested; they differ between groups of people, and were not "
    "measured by group unless a table above says so. Crops must be aligned as those of the training set: "
    "`kdface data align` makes them.",
    "",
]


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
    sections = [
        _front_matter(name, metrics),
        _what_it_is(name, config, about, file),
        _trained_on(data.get("train") or {}),
        _results(metrics),
        _thresholds(results.get("operating_points") or {}),
        _LIMITS,
    ]
    return "\n".join(line for section in sections for line in section)


def _front_matter(name: str, metrics: Mapping[str, Any]) -> list[str]:
    front: dict[str, Any] = {
        "library_name": "kdface",
        "pipeline_tag": "image-feature-extraction",
        "license": "other",
        "license_name": "see-training-data",
        "tags": ["face-recognition", "kdface"],
    }
    if metrics:
        front["model-index"] = [{"name": name, "results": _index(metrics)}]
    return ["---", yaml.safe_dump(front, sort_keys=False, allow_unicode=True).rstrip(), "---", ""]


def _what_it_is(name: str, config: Mapping[str, Any], about: Mapping[str, Any], file: str) -> list[str]:
    preprocessing = about["preprocessing"]
    height, width = preprocessing["size"]
    return [
        f"# {name}",
        "",
        f"A face-recognition network: an aligned crop of {height}x{width} pixels -> an embedding of "
        f"{about['embedding_size']} numbers. Two crops of one person have a high cosine.",
        "",
        "```python",
        "import kdface",
        "",
        f'recogniser = kdface.load("{file}")',
        'embeddings = recogniser.embed("FOLDER_OF_CROPS")',
        "```",
        "",
        "| | |",
        "|---|---|",
        f"| method | `{_part(config, 'method')}` |",
        f"| backbone | `{_part(config, 'backbone')}`, {about['parameters']:,} parameters |",
        f"| head in training | `{_part(config, 'head')}` |",
        f"| teacher | `{_part(config, 'teacher')}` |",
        f"| steps | {about['step']}, seed {config.get('seed')} |",
        f"| images | template {preprocessing['template']}, {preprocessing['color'].upper()}, "
        f"(pixel - {preprocessing['mean']:g}) / {preprocessing['std']:g} |",
        "",
    ]


def _trained_on(training: Mapping[str, Any]) -> list[str]:
    return [
        "## Data",
        "",
        f"Trained on {training.get('name', 'data that is not recorded')}: {training.get('images', '?')} images of "
        f"{training.get('people', '?')} people. Terms: {training.get('terms') or 'not stated'}.",
        "",
        "The weights are derived from these images: their terms hold for the weights too.",
        "",
    ]


def _results(metrics: Mapping[str, Any]) -> list[str]:
    if not metrics:
        return []
    return [
        "## Results",
        "",
        "| metric | value |",
        "|---|---|",
        *(f"| {key} | {_value(metric)} |" for key, metric in metrics.items()),
        "",
        "An interval in parentheses is of 95 %; ± is the standard deviation over folds.",
        "",
    ]


def _thresholds(points: Mapping[str, Any]) -> list[str]:
    if not points:
        return []
    lines = [
        "## Thresholds",
        "",
        "Accept a pair if the cosine of its f(x) + f(mirrored x) is at least:",
        "",
        "| tested on | FAR | threshold | 95 % over people | TAR |",
        "|---|---|---|---|---|",
    ]
    for test, found in points.items():
        for point in found:
            low, high = ("?" if point.get(key) is None else f"{point[key]:.4f}" for key in ("low", "high"))
            tar = "?" if point.get("tar") is None else f"{point['tar']:.4f}"
            lines.append(f"| {test} | {rate(point['far'])} | {point['threshold']:.4f} | {low} to {high} | {tar} |")
    return [*lines, "", "Lower rates are left out: the impostor pairs cannot resolve them.", ""]


def _part(config: Mapping[str, Any], group: str) -> str:
    node = config.get(group)
    return str(node["_target_"]) if node else "none"


def _value(metric: Mapping[str, Any]) -> str:
    text = f"{metric['value']:.4f}"
    if metric.get("std") is not None:
        text += f" ± {metric['std']:.4f}"
    if metric.get("low") is not None and metric.get("high") is not None:
        text += f" ({metric['low']:.4f} to {metric['high']:.4f})"
    return text


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
