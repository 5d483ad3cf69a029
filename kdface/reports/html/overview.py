"""The report's first screen: runs, times, machines, and results by paper."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import Any

from kdface.reports.html.runs import Run
from kdface.reports.summary import number
from kdface.reports.tables import Table
from kdface.reports.tables.statistics import summarise

# Metrics by the last part of the key, without the part after @. All others are accuracies, hit rates and correlations.
_LOWER = frozenset(
    (
        *("eer", "eer_official", "fmr100", "fmr1000", "fnmr", "reached_far", "impostor_mean"),  # of comparisons
        *("ece", "mce"),  # of calibration
        "davies_bouldin",  # of clusters
        *("pauc", "mad_aligned"),  # of quality
    )
)
_SHORT = 40  # characters of a fact
COLUMNS = 5  # most metrics in a paper's table of configurations
_FIRST = ("/accuracy", "/rank1", "/eer", "/auc", "/tar", "/pauc")  # leading metrics, by the end of their names


def metric_names(runs: Sequence[Run]) -> list[str]:
    """Metric names: accuracy and identification first, then equal error rates, the rest, and rare ones last."""
    counts = Counter(name for run in runs for name in run.metrics)
    most = max(counts.values(), default=0)

    def place(name: str) -> tuple[bool, int, str]:
        kind = next((k for k, end in enumerate(_FIRST) if plain(name).endswith(end)), len(_FIRST))
        return 2 * counts[name] < most, kind, name

    return sorted(counts, key=place)


def by_seed(runs: Sequence[Run], metric: str) -> list[float]:
    """The values of a configuration, one per seed, ignoring copies of a run under the folder."""
    values = {run.seed: run.metrics.get(metric, {}).get("value") for run in runs}
    return [value for value in values.values() if value is not None]


def papers(members: Sequence[Sequence[Run]], ranked: Sequence[int]) -> list[dict[str, Any]]:
    """Configurations by their common prefix, such as `maskinv` of `maskinv/small_hg` and `maskinv/small_lg`.

    Args:
        members: the runs of each configuration.
        ranked: the configurations, best first.

    Returns:
        By name: `name`, the prefix; `groups`, the configurations, best first; `metrics`, the most widely available, at
        most `COLUMNS`; and `best`, the best configuration in the first metric, with its `value`: None and "" if no run
        has one.
    """
    names: dict[str, list[int]] = {}
    for place in ranked:
        names.setdefault(members[place][0].name.partition("/")[0], []).append(place)
    return [{"name": name, "groups": groups, **_results(members, groups)} for name, groups in sorted(names.items())]


def _results(members: Sequence[Sequence[Run]], groups: Sequence[int]) -> dict[str, Any]:
    known = [metric for metric in metric_names([run for g in groups for run in members[g]]) if "exact" not in metric]
    metrics = [metric for metric in known if any(by_seed(members[g], metric) for g in groups)][:COLUMNS]
    if not metrics:
        return {"metrics": [], "best": None, "value": ""}
    sign = 1 if lower_wins(metrics[0]) else -1
    measured = [g for g in groups if by_seed(members[g], metrics[0])]
    best = min(measured, key=lambda g: sign * fmean(by_seed(members[g], metrics[0])))
    result = summarise(by_seed(members[best], metrics[0]), "std")
    return {"metrics": metrics, "best": best, "value": number({"value": result.mean, "std": result.spread})}


def facts(runs: Sequence[Run], members: Sequence[Sequence[Run]]) -> Iterator[tuple[str, str]]:
    """Facts about the runs: (heading, text)."""
    seeds = sorted({run.seed for run in runs if run.group})
    yield "what", f"{_count(len(members), 'configuration')}, {_count(len(runs), 'run')}, {_count(len(seeds), 'seed')}"
    if trained := sum(run.train_seconds or 0 for run in runs):
        yield "training time", f"{trained / 3600:.1f} h in all" if trained >= 3600 else f"{trained / 60:.1f} min in all"
    if times := [time for run in runs for time in run.times]:
        first, last = (datetime.fromtimestamp(time, UTC) for time in (min(times), max(times)))
        yield "when", f"{first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC"
    facts_of: dict[str, Callable[[Run], Any]] = {
        "where": lambda run: str(run.environment.get("machine") or "")[:_SHORT],
        "precision": lambda run: run.environment.get("precision"),
        "code": lambda run: str(run.environment.get("commit") or "")[:12],
        "versions": lambda run: ", ".join(map(" ".join, (run.environment.get("packages") or {}).items())),
        "training data": lambda run: (run.data.get("train") or {}).get("name"),
    }
    for title, fact_of in facts_of.items():
        if values := _most([str(fact_of(run) or "") for run in runs]):
            yield title, values


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _most(values: Sequence[str]) -> str:
    """The three most frequent values, and the number of others."""
    found = [value for value, _ in Counter(value for value in values if value).most_common()]
    return "; ".join(found[:3]) + (f"; {len(found) - 3} more" if len(found) > 3 else "")


def row_names(tables: Sequence[Table]) -> Mapping[Path, str]:
    """Run folder -> its row; the first table takes precedence."""
    names: dict[Path, str] = {}
    for table in tables:
        for row, cells in zip(table.rows, table.cells, strict=True):
            for folder in (run.root for cell in cells for run in cell.runs.values()):
                names.setdefault(folder.resolve(), row.name)
    return names


def plain(metric: str) -> str:
    """A key without its threshold or rank: `lfw/tar@far=1e-2` -> `lfw/tar`."""
    test, slash, last = metric.rpartition("/")
    return test + slash + last.partition("@")[0]


def lower_wins(metric: str) -> bool:
    """Whether lower values of a metric are better."""
    return plain(metric).rpartition("/")[2] in _LOWER
