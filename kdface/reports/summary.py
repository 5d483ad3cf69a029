"""The text printed at the start and end of a run: plan; metrics, folder and next commands."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table
from rich.text import Text

from kdface.progress import clock
from kdface.runs.folder import RunFolder
from kdface.stored import printable
from kdface.terminal import WIDTH, render, shown

if TYPE_CHECKING:
    from kdface.assembly.job import Job

_CALLED = {"eer": "EER", "auc": "AUC"}  # metric -> display name
_MOST = 5  # most metrics per test set in the final table
# The most important metrics of a test set, without the part after @.
_FIRST = (
    *("accuracy", "rank1", "cross/rank1", "eer", "cross/eer", "tar", "tpir", "auc"),
    *("pauc", "recomputed_embeddings/pauc", "aligned_embeddings/pauc", "fnmr", "spearman_aligned"),
    *("bcubed_f", "davies_bouldin", "ece", "cmc", "cross/cmc"),
)


def plan(job: Job) -> str:
    """The lines printed at the start of a run: its parts by class or factory name, its data and its length."""
    named = {
        part: node["_target_"].rpartition(".")[2]
        for part in ("method", "backbone", "head", "teacher")
        if isinstance(node := job.config.get(part), Mapping) and "_target_" in node
    }
    faces = job.data.training.faces
    steps = job.method.total_steps
    return printable(
        f"{', '.join(f'{part} {name}' for part, name in named.items())}\n"
        f"{faces.name}: {len(faces):,} images of {len(faces.people):,} people; "
        f"{steps:,} step{'s' * (steps != 1)} of {job.settings.loader.batch_size:,} images"
    )


def summary(folder: RunFolder) -> str:
    """The text printed at the end of a run: metrics next to those of the untrained network, counts, time, paths."""
    results = folder.read_results()
    untrained: dict[str, Any] = results.get("untrained") or {}
    here = shown(folder.root)
    lines = tell(results["metrics"], results.get("counts", {}), f"{here}/results.json", untrained)
    for name, symptoms in (results.get("symptoms") or {}).items():
        lines += [f"warning: {name}: {symptom}" for symptom in symptoms]
    if results.get("skipped"):
        lines.append(f"{len(results['skipped'])} broken images were left out; they are listed in {here}/results.json")
    lines += [f"warning: the data changed during the run: {change}" for change in results.get("changed_during", [])]
    steps = results.get("step", "?")
    if early := stopped(results):
        lines.append(f"warning: {early}")
    resumed = f", resumed at step {results['resumed_at']}" if results.get("resumed_at") is not None else ""
    seconds = results.get("train_seconds")
    took = f" in {clock(seconds)}" if seconds is not None else ""
    lines += [
        f"{steps} step{'s' * (steps != 1)}{took}{resumed}, seed {results.get('seed', '?')}",
        f"folder   {here}",
        f"figures  {here}/figures",
        f"next     kdface evaluate run={here} evaluation=CHOICE",
        "         kdface list evaluation   (the choices)",
    ]
    return printable("\n".join(lines))


def stopped(results: Mapping[str, Any]) -> str:
    """What stopped a run before its last step, and where; empty if nothing did."""
    found = results.get("stopped")
    return f"stopped by {found['by']} at step {results['step']:,} of {found['total_steps']:,}" if found else ""


def tell(
    metrics: Mapping[str, Any], counts: Mapping[str, Any], file: str, untrained: Mapping[str, Any] | None = None
) -> list[str]:
    """The table of leading metrics, and the file with all of them.

    Args:
        metrics: name -> value, as in results.json.
        counts: test set -> its counts (`Outcome.counts`).
        file: the results.json.
        untrained: name -> value for the untrained network, if evaluated.
    """
    leading = _leading(metrics)
    lines = [_table({name: metrics[name] for name in leading}, counts, untrained or {})] if leading else []
    unresolved = [name for name, found in metrics.items() if found["value"] is None]
    if unresolved:
        few = ", ".join(unresolved[:3]) + (", ..." if len(unresolved) > 3 else "")
        text = f"{len(unresolved)} not available, usually because there are too few pairs: {few}"
        lines += textwrap.wrap(text, WIDTH, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)
    if len(metrics) > len(leading) + len(unresolved):
        lines.append(f"metrics  all {len(metrics)} are in {file}")
    return lines


def _leading(metrics: Mapping[str, Any]) -> list[str]:
    """The names of the most important available metrics of each test set, in the order of the results.

    Metrics outside `_FIRST` are shown only if a test set has no others.
    """
    by_test: dict[str, list[str]] = {}
    for name, found in metrics.items():
        if found["value"] is not None:
            by_test.setdefault(name.partition("/")[0], []).append(name)

    def place(name: str) -> int:
        plain = name.partition("/")[2].partition("@")[0]
        return _FIRST.index(plain) if plain in _FIRST else len(_FIRST)

    chosen: set[str] = set()
    for names in by_test.values():
        known = [name for name in names if place(name) < len(_FIRST)]
        chosen.update(sorted(known or names, key=place)[:_MOST])
    return [name for name in metrics if name in chosen]


def _table(metrics: Mapping[str, Any], counts: Mapping[str, Any], untrained: Mapping[str, Any]) -> str:
    """One row per metric, with a column for the untrained network if it was evaluated."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("test set", "metric"):
        table.add_column(name, overflow="fold")  # never truncated: metrics may differ only at the end
    for name in ("untrained", "trained") if untrained else ("trained",):
        table.add_column(name, justify="right")
    for key, found in metrics.items():
        test, _, metric = key.partition("/")
        folds = counts.get(test, {}).get("folds")
        label = f"accuracy ({folds} folds)" if metric == "accuracy" and folds else _CALLED.get(metric, metric)
        values = [number(untrained.get(key)), number(found)] if untrained else [number(found)]
        table.add_row(Text(test), Text(label), *values)  # do not interpret names as markup
    return render(table)


def number(metric: dict[str, Any] | None) -> str:
    """A fraction with four digits and its spread; n/a if the data cannot resolve it."""
    if metric is None:
        return ""
    if metric["value"] is None:
        return "n/a"
    text = f"{metric['value']:.4f}"
    if metric.get("std") is not None:
        text += f" ± {metric['std']:.4f}"
    if metric.get("low") is not None and metric.get("high") is not None:
        text += f" ({metric['low']:.4f} to {metric['high']:.4f})"
    return text
