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
from kdface.reports.html.curves import Curve, curves_of
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
    group: name and configuration fingerprint: what its seeds share.
    status: "done", "running" or "stopped" (neither finished nor held by a process).
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
    """Every run folder below (or at) a folder, in the order of their paths."""
    if not root.is_dir():
        raise UserError(f"{root} is not a folder.", mend="kdface report runs")
    found = sorted(each.parent for each in root.rglob("origin.json") if (each.parent / "config.yaml").is_file())
    if not found:
        raise UserError(f"there is no run below {root}.", expected="a folder that kdface train wrote runs into")
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
    """Read a run. What is broken is left out and told in `problem`: one bad folder must not hide the others."""
    problems: list[str] = []
    config = _config(folder)
    origin = _json(folder.root / "origin.json", problems)
    run = Run(
        path=folder.root.relative_to(root).as_posix() if folder.root != root else folder.root.name,
        name=str(config.get("name")),
        seed=int(config.get("seed") or 0),
        group=f"{config.get('name')} {fingerprint(config)}",
        status="done" if folder.done else "running" if held(folder) else "stopped",
        config=config,
        choices={str(k): str(v) for k, v in (origin.get("choices") or {}).items()},
        command=[str(word) for word in origin.get("command") or []],
        data=_json(folder.root / "data.json", problems),
        environment=_json(folder.root / "environment.json", problems),
    )
    try:
        run.series, run.step = _series(folder.metrics)
    except (OSError, ValueError, KeyError, TypeError) as error:
        if folder.metrics.exists():
            problems.append(f"metrics.jsonl: {error}")
    if folder.results.is_file():
        results = _json(folder.results, problems)
        run.metrics = dict(results.get("metrics") or {})
        run.step = int(results.get("step") or run.step)
        run.train_seconds = results.get("train_seconds")
        run.symptoms = [f"{test}: {each}" for test, found in (results.get("symptoms") or {}).items() for each in found]
    run.tests = dict(config.get("evaluation") or {})
    run.scores = {file.stem: file for file in sorted(folder.scores.glob("*.npz"))}
    for file in sorted(folder.root.glob("evaluations/*/results.json")):
        _later(run, folder, file, problems)
    for test, file in run.scores.items():
        try:
            with np.load(file, allow_pickle=False) as arrays:
                for kind, curve in curves_of(arrays).items():
                    run.curves.setdefault(kind, {})[test] = curve
        except (OSError, ValueError, KeyError, EOFError, IndexError, BadZipFile, zlib.error, UserError) as error:
            problems.append(f"{file.relative_to(folder.root)}: {error}")
    if run.status != "done":
        run.log = tail(folder.root / "output.log", LOG_LINES)
    run.problem = "; ".join(problems)
    return run


def _later(run: Run, folder: RunFolder, file: Path, problems: list[str]) -> None:
    """Add what `kdface evaluate` found; training's own evaluation comes first where both have a test."""
    found = _json(file, problems)
    if Path(str(found.get("checkpoint", ""))).name != folder.last.name:
        return  # of a network on the way there
    for test, node in (found.get("evaluation") or {}).items():
        if test in run.tests:
            continue
        run.tests[test] = node
        run.metrics |= {key: value for key, value in found["metrics"].items() if key.startswith(f"{test}/")}
        run.symptoms += [f"{test}: {each}" for each in (found.get("symptoms") or {}).get(test, [])]
        cards = found.get("data") or {}
        run.data |= {f"evaluation.{k}": card for k, card in cards.items() if k == test or k.startswith(f"{test}.")}
        if (scores := file.parent / "scores" / f"{test}.npz").is_file():
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
        raise UserError(
            f"{folder.config} cannot be read: {' '.join(str(error).split())}.", mend=f"rm -r {folder.root}"
        ) from None
    return dict(tree)


def _json(path: Path, problems: list[str]) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        problems.append(f"{path.name}: {error}")
        return {}
    return found if isinstance(found, dict) else {}


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
