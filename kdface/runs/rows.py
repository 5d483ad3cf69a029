"""Run folders as rows of a table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kdface.config.fingerprint import flatten
from kdface.errors import UserError
from kdface.runs.folder import RunFolder


def rows_below(root: Path) -> list[dict[str, Any]]:
    """One row per run under a folder, sorted by path: `run`, `name`, `seed`, `done`, `step`, each metric by its name in
    results.json, and each setting as `config.KEY`. `problem` states why the files of a run cannot be read.

    Raises `UserError` if there is no such folder.
    """
    if not root.is_dir():
        raise UserError(f"there is no folder {root}.", expected="a folder of runs")
    rows = []
    for origin in sorted(root.rglob("origin.json")):
        folder = RunFolder(origin.parent)
        row: dict[str, Any] = {"run": str(folder.root), "done": folder.done}
        rows.append(row)
        try:
            config = folder.read_config()
            row |= {"name": config["name"], "seed": config["seed"]}
            if folder.results.is_file():
                results = folder.read_results()
                row["step"] = results.get("step")
                row |= {name: metric["value"] for name, metric in results["metrics"].items()}
            row |= {f"config.{key}": value for key, value in flatten(config).items()}
        except (UserError, KeyError) as error:
            row["problem"] = str(error).splitlines()[0]
    return rows
