"""One readable summary of a finished run: a table, the folder, and what to try next."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from kdface.progress import clock
from kdface.runs.folder import RunFolder

_SHOWN = {  # metric -> how people call it
    "10fold/accuracy": "accuracy (10 folds)",
    "roc/eer": "EER",
    "roc/auc": "AUC",
}


def summary(folder: RunFolder) -> str:
    """The text that ends a run: metrics beside those of the untrained network, counts, time, paths."""
    results = folder.read_results()
    untrained: dict[str, Any] = results.get("untrained", {})
    table = table_of(results["metrics"], untrained)
    here = shown(folder.root)
    lines = [render(table)] if results["metrics"] else []
    for name, symptoms in results.get("symptoms", {}).items():
        lines += [f"warning: {name}: {each}" for each in symptoms]
    if results.get("skipped"):
        lines.append(f"{len(results['skipped'])} broken images were left out; they are listed in {here}/results.json")
    resumed = f", resumed at step {results['resumed_at']}" if results.get("resumed_at") is not None else ""
    lines += [
        f"{results['step']} steps in {clock(results['train_seconds'])}{resumed}, seed {results['seed']}",
        f"folder   {here}",
        f"figures  {here}/figures",
        f"next     kdface evaluate run={here} evaluation=CHOICE   (kdface list evaluation)",
    ]
    return "\n".join(lines)


def table_of(metrics: dict[str, Any], untrained: dict[str, Any] | None = None) -> Table:
    """Metrics, one row each; a column for the untrained network where it was evaluated."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("test set", overflow="fold")
    table.add_column("metric", overflow="fold")  # never cut: its end tells it from the next
    if untrained:
        table.add_column("untrained", justify="right")
    table.add_column("trained", justify="right")
    for key, found in metrics.items():
        test, _, metric = key.partition("/")
        row = [test, _SHOWN.get(metric, metric)]
        if untrained:
            row.append(number(untrained.get(key)))
        table.add_row(*row, number(found))
    return table


def number(metric: dict[str, Any] | None) -> str:
    """A fraction with four digits and its spread; n/a where the data cannot resolve it."""
    if metric is None:
        return ""
    if metric["value"] is None:
        return "n/a"
    text = f"{metric['value']:.4f}"
    if metric.get("std") is not None:
        text += f" ± {metric['std']:.4f}"
    if metric.get("low") is not None and metric.get("high") is not None:
        text += f" ({metric['low']:.3f} to {metric['high']:.3f})"
    return text


def render(table: Table) -> str:
    """A table as text, without trailing blanks."""
    buffer = io.StringIO()
    Console(file=buffer, width=110, no_color=True).print(table)
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()).strip("\n")


def shown(path: Path) -> str:
    """A path as one would type it from here."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
