"""What the report knows of one run: read from its folder, as plain values."""

from __future__ import annotations

import json
import zlib
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import yaml
from numpy.typing import NDArray

from kdface.config.fingerprint import fingerprint
from kdface.errors import UserError
from kdface.reports.curves import Curve, curves_of
from kdface.reports.html.sources import Source, computed_with, later_sources, metrics_in
from kdface.runs.folder import RunFolder, held
from kdface.runs.loggers import scalars
from kdface.runs.records import read

LOG_LINES = 40
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where PyYAML was built with it
_LEFT_OUT = ("evaluation/counts/", "train/epoch")

Series = dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]  # name -> (steps, values)


@dataclass
class Run:
    """Attributes:
    path: below the folder that is reported on.
    group: name and configuration fingerprint: what its seeds share; "" where the folder cannot be read.
    status: "done", "running" or "stopped" (neither finished nor held by a process).
    sources: the files that `metrics` are from, training's own first.
    environment: what it was trained with (`kdface.reports.html.sources.computed_with`).
    series: learning curves.
    tests: test -> the node of the configuration that it is made of; those of `kdface evaluate` on the last checkpoint
        count too.
    scores: test -> the file of its arrays.
    curves: kind -> test -> values (`kdface.reports.html.curves.curves_of`).
    problem: what could not be read.
    """

    path: str
    name: str
    seed: int
    group: str
    status: str
    config: dict[str, Any]
    choices: dict[str, str]
    command: list[str] = field(default_factory=list)
    step: int = 0
    metrics: dict[str, dict[str, float | None]] = field(default_factory=dict)
    sources: list[Source] = field(default_factory=list)
    symptoms: list[str] = field(default_factory=list)
    train_seconds: float | None = None
    data: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    series: Series = field(default_factory=dict)
    tests: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, Path] = field(default_factory=dict)
    curves: dict[str, dict[str, Curve]] = field(default_factory=dict)
    log: str = ""
    problem: str = ""


def run_folders(root: Path) -> list[RunFolder]:
    """Every run folder below (or at) a folder, in the order of their paths; none where there is none yet.

    Raises `UserError` where the path is that of a file.
    """
    if root.exists() and not root.is_dir():
        raise UserError(f"{root} is not a folder.", mend="kdface report runs")
    found = sorted(each.parent for each in root.rglob("origin.json") if (each.parent / "config.yaml").is_file())
    return [RunFolder(each) for each in found]


def signature(folder: RunFolder) -> tuple[Any, ...]:
    """Changes when the report of this run would."""
    files = ("config.yaml", "metrics.jsonl", "results.json", "data.json", "environment.json", "output.log", "DONE")
    later = sorted(folder.root.glob("evaluations/*/results.json"))
    seen: list[Any] = [held(folder), len(later)]
    for path in [*(folder.root / name for name in files), *later]:
        try:
            stat = path.stat()
            seen.append((stat.st_mtime_ns, stat.st_size))
        except OSError:
            seen.append(None)
    return tuple(seen)


def read_run(folder: RunFolder, root: Path) -> Run:
    """Read a run. What is broken is left out and told in `problem`: one bad folder must not hide the others.

    Where that is its configuration, or a file holds something else than a run writes, only `path`, `status`, `log` and
    `problem` are there.
    """
    path = folder.root.relative_to(root).as_posix() if folder.root != root else folder.root.name
    status = "done" if folder.done else "running" if held(folder) else "stopped"
    try:
        run = _read(folder, path, status)
    except (UserError, ValueError, KeyError, TypeError, AttributeError) as error:
        problem = error.problem if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        run = Run(path, name=path, seed=0, group="", status=status, config={}, choices={}, problem=problem)
    if status != "done":
        run.log = tail(folder.root / "output.log", LOG_LINES)
    return run


def _read(folder: RunFolder, path: str, status: str) -> Run:
    problems: list[str] = []
    config = _config(folder)
    origin = _json(folder.root / "origin.json", problems)
    run = Run(
        path=path,
        name=str(config.get("name")),
        seed=int(config.get("seed") or 0),
        group=f"{config.get('name')} {fingerprint(config)}",
        status=status,
        config=config,
        choices={str(k): str(v) for k, v in (origin.get("choices") or {}).items()},
        command=[str(word) for word in origin.get("command") or []],
        data=_json(folder.root / "data.json", problems),
        environment=computed_with(_json(folder.root / "environment.json", problems)),
    )
    try:
        run.series, run.step = _series(folder.metrics)
    except (OSError, ValueError, KeyError, TypeError) as error:
        if folder.metrics.exists():
            problems.append(f"metrics.jsonl: {error}")
    results = _json(folder.results, problems)
    if results:
        run.metrics = metrics_in(results)
        run.step = int(results.get("step") or run.step)
        run.train_seconds = results.get("train_seconds")
        run.symptoms = [f"{test}: {each}" for test, found in (results.get("symptoms") or {}).items() for each in found]
        run.sources = [Source(folder.results.name, run.step, sorted({name.partition("/")[0] for name in run.metrics}))]
    run.tests = dict(config.get("evaluation") or {})
    run.scores = {file.stem: file for file in sorted(folder.scores.glob("*.npz"))}
    found = {file: _json(file, problems) for file in sorted(folder.root.glob("evaluations/*/results.json"))}
    for source, later in later_sources(folder, found, results, run.tests):
        _add(run, folder.root, source, later)
    for test, file in run.scores.items():
        try:
            with np.load(file, allow_pickle=False) as arrays:
                for kind, curve in curves_of(arrays).items():
                    run.curves.setdefault(kind, {})[test] = curve
        except (OSError, ValueError, KeyError, EOFError, IndexError, BadZipFile, zlib.error, UserError) as error:
            problems.append(f"{file.relative_to(folder.root)}: {error}")
    run.problem = "; ".join(problems)
    return run


def _add(run: Run, root: Path, source: Source, later: dict[str, Any]) -> None:
    """Add the tests that a file of `kdface evaluate` is the source of."""
    run.sources.append(source)
    metrics, cards = metrics_in(later), later.get("data") or {}
    for test in source.tests:
        run.tests[test] = later["evaluation"][test]
        run.metrics |= {key: value for key, value in metrics.items() if key.startswith(f"{test}/")}
        run.symptoms += [f"{test}: {each}" for each in (later.get("symptoms") or {}).get(test, [])]
        run.data |= {f"evaluation.{k}": card for k, card in cards.items() if k == test or k.startswith(f"{test}.")}
        if (scores := root / Path(source.file).parent / "scores" / f"{test}.npz").is_file():
            run.scores[test] = scores


def tail(path: Path, lines: int) -> str:
    """The last lines of a text file; "" where there is none. A progress bar's carriage returns end a line too."""
    try:
        with open(path, "rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - 400 * lines))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
    return "\n".join(deque(text.replace("\r", "\n").splitlines(), lines))


def _config(folder: RunFolder) -> dict[str, Any]:
    try:
        tree = yaml.load(folder.config.read_text(encoding="utf-8"), Loader=_LOADER)
        fingerprint(tree)
    except (OSError, yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{folder.config.name}: {type(error).__name__}: {' '.join(str(error).split())}") from None
    return dict(tree)


def _json(path: Path, problems: list[str]) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        problems.append(f"{path.name}: {error}")
        return {}
    if not isinstance(found, dict):
        problems.append(f"{path.name}: holds {type(found).__name__}, not names and values")
        return {}
    return found


def _series(path: Path) -> tuple[Series, int]:
    points: dict[str, list[tuple[float, float]]] = {}
    step = 0
    for record in read(path):
        step = max(step, int(record["step"]))
        for name, value in scalars(record).items():
            if not name.startswith(_LEFT_OUT) and not name.endswith("/std"):
                points.setdefault(_plain(name), []).append((float(record["step"]), value))
    return {name: (np.array(found)[:, 0], np.array(found)[:, 1]) for name, found in points.items()}, step


def _plain(name: str) -> str:
    return name.removeprefix("evaluation/metrics/").removeprefix("train/").removesuffix("/value")
