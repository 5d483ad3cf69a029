"""The data of the page: configurations with their seeds, bands over seeds, and downsampled curves."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from kdface.config.fingerprint import flatten, portable
from kdface.reports.curves import DISCARD_GRID, FAR_GRID, plain_band, probit, roc_band, short
from kdface.reports.html.gains import twins
from kdface.reports.html.overview import by_seed, lower_wins, metric_names, papers
from kdface.reports.html.runs import Run
from kdface.reports.plotting import DARK_PALETTE, PALETTE
from kdface.reports.tables.statistics import summarise

T = TypeVar("T")
POINTS = 150  # points of a learning curve, enough for the resolution of a phone
LEADING = 12  # configurations with maps and hardest pairs; the page shows eight at once
# Keys that do not distinguish configurations, since they do not affect results.
_UNNAMED = ("trainer.log_every_n_steps", "trainer.enable_progress_bar", "loader.num_workers", "hardware.", "resume.")
_UNTOLD = ("paths.", "seed", "logger", "name", "tags", "extras.")


def payload(runs: Sequence[Run], title: str, rows: Mapping[Path, str] | None = None) -> dict[str, Any]:
    """Plain JSON: `runs`, `groups` (configurations), the `base` configuration that groups differ from, and charts.

    `rows` are the names of run folders in tables, used as names of their configurations. Unreadable runs are in no
    group. `ranked` are the groups from best to worst, `lower` the metrics for which lower values are better.
    """
    members = grouped(runs)
    names = [found[0].group for found in members]
    flats = [_told(found[0].config) for found in members]
    first = flats[0] if flats else {}
    base = {key: value for key, value in first.items() if all(other.get(key, ...) == value for other in flats)}
    metrics = metric_names(runs)
    groups = [
        {
            "label": label,
            "name": found[0].name,
            "method": str((found[0].config.get("method") or {}).get("_target_", "")).rpartition(".")[2],
            "fingerprint": found[0].group.rpartition(" ")[2],
            "config": {key: value for key, value in flat.items() if key not in base},
            "runs": [place for place, run in enumerate(runs) if run.group == found[0].group],
            "results": {name: asdict(summarise(known, "std")) for name in metrics if (known := by_seed(found, name))},
        }
        for label, found, flat in zip(_labels(members, flats, rows or {}), members, flats, strict=True)
    ]
    return {
        "title": title,
        "palette": {"light": PALETTE, "dark": DARK_PALETTE},
        "base": base,
        "groups": groups,
        "runs": [_run(run, names.index(run.group) if run.group else None) for run in runs],
        "metrics": metrics,
        "lower": [metric for metric in metrics if lower_wins(metric)],
        "ranked": (order := ranked(members)),
        "papers": papers(members, order),
        "t975": [round(float(factor), 4) for factor in t.ppf(0.975, range(1, max(map(len, members), default=1) + 1))],
        "series": _by_group(members, lambda run: run.series, bands),
        "curves": _by_group(members, lambda run: run.curves.get("roc", {}), roc_band),
        "cmc": _by_group(members, lambda run: run.curves.get("cmc", {}), plain_band),
        "edc": _by_group(members, lambda run: run.curves.get("edc", {}), plain_band),
        "far": short(FAR_GRID),
        "far_probit": short(probit(np.minimum(FAR_GRID, 1 - 1e-9))),
        "discard": short(DISCARD_GRID),
        "gains": twins(flats, [_measured(found) for found in members]),
    }


def grouped(runs: Sequence[Run]) -> list[list[Run]]:
    """The runs of each configuration, in the order of `payload`."""
    names = list(dict.fromkeys(run.group for run in runs if run.group))
    return [[run for run in runs if run.group == name] for name in names]


def ranked(members: Sequence[Sequence[Run]]) -> list[int]:
    """Configurations by their mean over seeds in the first metric, best first; those without a value last."""
    metrics = metric_names([run for found in members for run in found])

    def place(number: int) -> float:
        known = by_seed(members[number], metrics[0]) if metrics else []
        if not known:
            return math.inf
        mean = sum(known) / len(known)
        return mean if lower_wins(metrics[0]) else -mean

    return sorted(range(len(members)), key=place)


def bands(seeds: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]], points: int = POINTS) -> dict[str, Any]:
    """Mean, lowest and highest over seeds of (steps, values).

    If there are more steps than points, each seed is first averaged within `points` equal ranges of steps. `x` is the
    mean step of a range.
    """
    steps = np.unique(np.concatenate([x for x, _ in seeds]))
    if len(steps) > points:
        edges = np.linspace(steps[0], steps[-1], points + 1)[1:-1]
    else:
        edges = (steps[1:] + steps[:-1]) / 2
    size = len(edges) + 1
    table = np.full((len(seeds), size), np.nan)
    where = np.full((len(seeds), size), np.nan)
    for row, (x, y) in enumerate(seeds):
        place = np.searchsorted(edges, x)
        count = np.bincount(place, minlength=size)
        some = count > 0
        table[row, some] = np.bincount(place, y, size)[some] / count[some]
        where[row, some] = np.bincount(place, x, size)[some] / count[some]
    kept = ~np.isnan(table).all(axis=0)
    table, where = table[:, kept], where[:, kept]
    found = {"x": short(np.nanmean(where, axis=0)), "y": short(np.nanmean(table, axis=0))}
    if len(seeds) > 1:
        found |= {"low": short(np.nanmin(table, axis=0)), "high": short(np.nanmax(table, axis=0))}
    return found


def _by_group(
    members: Sequence[Sequence[Run]],
    values_of: Callable[[Run], Mapping[str, T]],
    band: Callable[[Sequence[T]], dict[str, Any]],
) -> dict[str, dict[str, Any]]:
    """Name of a curve -> configuration -> its band over seeds."""
    found: dict[str, dict[str, Any]] = {}
    for number, runs in enumerate(members):
        curves = [values_of(run) for run in runs]
        for name in {name: None for values in curves for name in values}:
            found.setdefault(name, {})[str(number)] = band([values[name] for values in curves if name in values])
    return dict(sorted(found.items()))


def _measured(found: Sequence[Run]) -> set[tuple[int, str]]:
    """(seed, metric) of every value."""
    return {
        (run.seed, name) for run in found for name, measured in run.metrics.items() if measured.get("value") is not None
    }


def _run(run: Run, group: int | None) -> dict[str, Any]:
    return {
        "path": run.path,
        "seed": run.seed,
        "tags": [str(tag) for tag in run.config.get("tags") or ()],
        "group": group,
        "status": run.status,
        "step": run.step,
        "metrics": run.metrics,
        "sources": run.sources,
        "symptoms": run.symptoms,
        "seconds": run.train_seconds,
        "command": " ".join(portable(run.command, run.config["paths"])) if run.command else "",
        "environment": run.environment,
        "data": {
            part: {key: card.get(key) for key in ("name", "images", "people", "fingerprint", "terms")}
            for part, card in run.data.items()
            if isinstance(card, dict)
        },
        "log": _untold(run.log, run.config),
        "problem": _untold(run.problem, run.config),
    }


def _untold(text: str, config: Mapping[str, Any]) -> str:
    """Replace data and run folders in a text by placeholders, if the configuration can be read."""
    for name in ("data", "runs"):
        if place := str((config.get("paths") or {}).get(name) or ""):
            text = text.replace(place, f"<{name}>")
    return text


def _labels(members: Sequence[Sequence[Run]], flats: Sequence[dict[str, Any]], rows: Mapping[Path, str]) -> list[str]:
    """The label of a table row, or else the name with what distinguishes the configuration from others of that name.

    Group choices come first, then values. Tests are named only if nothing else differs.
    """
    labels = []
    for found, flat in zip(members, flats, strict=True):
        run = found[0]
        if row := next((rows[run.root.resolve()] for run in found if run.root and run.root.resolve() in rows), ""):
            labels.append(row)
            continue
        same = [k for k, other in enumerate(members) if other[0].name == run.name]
        apart = [key for key in run.choices if len({members[k][0].choices.get(key) for k in same}) > 1]
        parts = [(key, f"{key}={run.choices[key]}") for key in apart if key != "experiment"]
        for key, value in flat.items():
            group, _, leaf = key.partition(".")
            named = group in apart or not leaf or key.startswith(_UNNAMED) or key.endswith("_target_")
            if not named and any(flats[k].get(key, ...) != value for k in same):
                parts.append((group, f"{key if group == 'teacher' else leaf}={str(value).rpartition('/')[2]}"))
        told = [text for group, text in parts if group != "evaluation"] or [text for _, text in parts]
        more = f", and {len(told) - 4} more" if len(told) > 4 else ""
        labels.append(run.name + (" · " + ", ".join(told[:4]) + more if told else ""))
    counts = Counter(labels)
    for k, (run, *_) in enumerate(members):
        paper = run.name.partition("/")[0]
        if counts[labels[k]] > 1 and not labels[k].startswith(paper):
            labels[k] = f"{paper} {labels[k]}"
    counts = Counter(labels)
    return [
        label if counts[label] == 1 else f"{label} ({run.group.rpartition(' ')[2][:8]})"
        for label, (run, *_) in zip(labels, members, strict=True)
    ]


def _told(config: dict[str, Any]) -> dict[str, Any]:
    told = flatten(portable(config, config["paths"]))
    return {key: _json(value) for key, value in told.items() if not key.startswith(_UNTOLD)}


def _json(value: Any) -> Any:
    """A configuration value as JSON; YAML's `.nan` and `.inf` become strings."""
    if isinstance(value, list):
        return [_json(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
