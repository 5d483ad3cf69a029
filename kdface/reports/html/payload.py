"""From runs to what the page is given: configurations with their seeds, bands over seeds, curves thinned out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdface.config.fingerprint import flatten
from kdface.reports.html.runs import FAR_GRID, Run

POINTS = 150  # of a learning curve: more than a chart has pixels to tell apart on a phone
_UNTOLD = ("paths.", "seed", "logger", "name")
_probit = np.vectorize(NormalDist().inv_cdf, otypes=[np.float64])


def payload(runs: Sequence[Run], title: str) -> dict[str, Any]:
    """Plain JSON: `runs`, `groups` (configurations), the `base` configuration that groups differ from, and charts."""
    names = list(dict.fromkeys(run.group for run in runs))
    members = [[run for run in runs if run.group == name] for name in names]
    flats = [_told(found[0].config) for found in members]
    base = {key: value for key, value in flats[0].items() if all(each.get(key, ...) == value for each in flats)}
    labels = _labels(members, flats)
    groups = []
    for number, found in enumerate(members):
        groups.append(
            {
                "label": labels[number],
                "name": found[0].name,
                "fingerprint": found[0].group.rpartition(" ")[2],
                "config": {key: value for key, value in flats[number].items() if key not in base},
                "runs": [place for place, run in enumerate(runs) if run.group == names[number]],
            }
        )
    return {
        "title": title,
        "base": base,
        "groups": groups,
        "runs": [_run(run, names.index(run.group)) for run in runs],
        "metrics": _metric_names(runs),
        "series": _all_series(members),
        "curves": _all_curves(members),
        "far": _short(FAR_GRID),
        "far_probit": _short(_probit(np.minimum(FAR_GRID, 1 - 1e-9))),
    }


def bands(seeds: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]], points: int = POINTS) -> dict[str, Any]:
    """Mean, lowest and highest over seeds of (steps, values).

    Where there are more steps than points, steps are put into as many equal ranges, and each seed is averaged within
    them first. `x` is the mean step of a range.
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
    found = {"x": _short(np.nanmean(where, axis=0)), "y": _short(np.nanmean(table, axis=0))}
    if len(seeds) > 1:
        found |= {"low": _short(np.nanmin(table, axis=0)), "high": _short(np.nanmax(table, axis=0))}
    return found


def _all_series(members: Sequence[Sequence[Run]]) -> dict[str, dict[str, Any]]:
    names = sorted({name for found in members for run in found for name in run.series})
    return {
        name: {
            str(number): bands(seeds)
            for number, found in enumerate(members)
            if (seeds := [run.series[name] for run in found if name in run.series])
        }
        for name in sorted(names, key=lambda name: (name != "loss", name))
    }


def _all_curves(members: Sequence[Sequence[Run]]) -> dict[str, dict[str, Any]]:
    tests = sorted({test for found in members for run in found for test in run.curves})
    curves: dict[str, dict[str, Any]] = {}
    for test in tests:
        curves[test] = {}
        for number, found in enumerate(members):
            rows = np.array([run.curves[test] for run in found if test in run.curves])
            if len(rows):
                curves[test][str(number)] = _curve_band(rows)
    return curves


def _curve_band(rows: NDArray[np.float64]) -> dict[str, Any]:
    """TAR and the normal deviates of FNMR over the grid; rates of 0 and 1 have no place on a DET and are left out."""
    first = int(np.argmax(~np.isnan(rows).any(axis=0)))
    rows = rows[:, first:]
    found: dict[str, Any] = {"first": first, "n": len(rows)}
    for name, values in (("tar", rows.mean(0)), ("low", rows.min(0)), ("high", rows.max(0))):
        found[name] = _short(values)
        inside = (values > 0) & (values < 1)
        deviates = np.full(len(values), np.nan)
        deviates[inside] = _probit(1 - values[inside])
        found[f"fnmr_{name}"] = _short(deviates)
    return found


def _run(run: Run, group: int) -> dict[str, Any]:
    packages = run.environment.get("packages", {})
    git = run.environment.get("git") or {}
    return {
        "path": run.path,
        "seed": run.seed,
        "group": group,
        "status": run.status,
        "step": run.step,
        "metrics": run.metrics,
        "symptoms": run.symptoms,
        "seconds": run.train_seconds,
        "command": " ".join(run.command),
        "commit": str(git.get("commit") or ""),
        "changed": bool(git.get("diff")),
        "machine": str(run.environment.get("gpu") or run.environment.get("processor") or ""),
        "precision": str(run.environment.get("profile", {}).get("precision", "")),
        "packages": {name: packages.get(name) for name in ("kdface", "torch", "numpy") if packages.get(name)},
        "data": {
            part: {key: card.get(key) for key in ("name", "images", "people", "fingerprint", "terms")}
            for part, card in run.data.items()
            if isinstance(card, dict)
        },
        "log": run.log,
        "problem": run.problem,
    }


def _metric_names(runs: Sequence[Run]) -> list[str]:
    """Accuracy and identification first, then equal error rates, then the rest."""
    names = {name for run in runs for name in run.metrics}
    order = ("10fold/accuracy", "rank", "eer", "auc", "tar@")

    def place(name: str) -> tuple[int, str]:
        return next((k for k, part in enumerate(order) if part in name and "exact" not in name), len(order)), name

    return sorted(names, key=place)


def _labels(members: Sequence[Sequence[Run]], flats: Sequence[dict[str, Any]]) -> list[str]:
    """Name, and what tells a configuration from the others of its name: choices of groups first, then values."""
    labels = []
    for found in members:
        name = found[0].name
        same = [k for k, each in enumerate(members) if each[0].name == name]
        mine = next(k for k in same if members[k] is found)
        choices = members[mine][0].choices
        apart = [key for key in choices if len({members[k][0].choices.get(key) for k in same}) > 1]
        parts = [f"{key}={choices[key]}" for key in apart if key != "experiment"]
        for key, value in flats[mine].items():
            group, _, leaf = key.partition(".")
            differs = any(flats[k].get(key, ...) != value for k in same)
            if differs and leaf and group not in apart and not key.endswith("_target_"):
                parts.append(f"{key if group == 'teacher' else leaf}={str(value).rpartition('/')[2]}")
        more = f", and {len(parts) - 4} more" if len(parts) > 4 else ""
        labels.append(name + (" · " + ", ".join(parts[:4]) + more if parts else ""))
    twice = {label for label in labels if labels.count(label) > 1}
    return [
        f"{label} ({found[0].group.rpartition(' ')[2][:8]})" if label in twice else label
        for label, found in zip(labels, members, strict=True)
    ]


def _told(config: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in flatten(config).items() if not key.startswith(_UNTOLD)}


def _short(values: NDArray[np.floating[Any]]) -> list[float | None]:
    """Five significant digits are more than a chart shows; JSON has no NaN."""
    return [float(f"{value:.5g}") if math.isfinite(value) else None for value in values.tolist()]
