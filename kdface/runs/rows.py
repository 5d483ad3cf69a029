"""Run folders as rows of a table."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from kdface.config.fingerprint import flatten
from kdface.errors import UserError
from kdface.runs.folder import RunFolder


def runs(folder: str | Path = "runs", frame: bool | None = None) -> Any:
    """List the finished and unfinished runs below a folder, one row each.

    The columns are run, name, seed, done, step, every metric in results.json by name, and all settings, swept or not,
    by their dotted keys under `config.`.

    Args:
        folder: searched recursively.
        frame: return a pandas DataFrame (true) or a list of dicts (false); null: a DataFrame if pandas is installed.

    Raises:
        UserError: the folder does not exist, or `frame=True` without pandas.
    """
    there = importlib.util.find_spec("pandas") is not None
    if frame and not there:
        raise UserError(
            "a DataFrame needs the package pandas.", expected='pip install "kdface[pandas]", or frame=False'
        )
    found = rows_below(Path(folder).expanduser())
    if not (there if frame is None else frame):
        return found
    import pandas

    return pandas.DataFrame(found)


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
