"""Read a run folder into plain values for the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdface.config.fingerprint import fingerprint
from kdface.errors import UserError
from kdface.reports.curves import Curve, curves_of
from kdface.reports.results import cards_of, later_results
from kdface.reports.summary import stopped
from kdface.runs.folder import RunFolder, held
from kdface.runs.records import read, scalars
from kdface.stored import printable, read_arrays, tail

LOG_LINES = 40
_PACKAGES = ("kdface", "torch", "numpy")
_YEAR_3000 = 32_503_680_000  # seconds since 1970; later times are invalid

Series = dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]  # name -> (steps, values)


@dataclass
class Run:
    """Attributes:
    path: path relative to the reported folder.
    group: name and configuration fingerprint, shared by its seeds; "" if the folder cannot be read.
    status: "done", "running" or "stopped" (neither finished nor locked by a process).
    sources: the files of `metrics`, that of training first: `file`, `step` of the tested network, `tests` taken from
        it, and `environment` of the computation, empty for training's own file, and if not recorded.
    environment: environment of the training.
    series: learning curves.
    tests: test -> its configuration node, including those of `kdface evaluate` on the last checkpoint.
    scores: test -> file of its arrays.
    curves: kind -> test -> values (`kdface.reports.curves.curves_of`).
    times: times of its first and last record, seconds since 1970.
    root: its folder.
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
    sources: list[dict[str, Any]] = field(default_factory=list)
    symptoms: list[str] = field(default_factory=list)
    train_seconds: float | None = None
    data: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    series: Series = field(default_factory=dict)
    tests: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, Path] = field(default_factory=dict)
    curves: dict[str, dict[str, Curve]] = field(default_factory=dict)
    times: tuple[float, ...] = ()
    root: Path | None = None
    log: str = ""
    problem: str = ""


def run_folders(root: Path) -> list[RunFolder]:
    """All run folders under (or at) a folder, sorted by path; empty if it does not exist yet.

    Raises `UserError` if the path is a file.
    """
    if root.exists() and not root.is_dir():
        raise UserError(f"{root} is not a folder.", expected="the folder of the runs", fix="kdface report FOLDER")
    found = sorted(path.parent for path in root.rglob("origin.json") if (path.parent / "config.yaml").is_file())
    return [RunFolder(path) for path in found]


def signature(folder: RunFolder) -> tuple[Any, ...]:
    """A value that changes whenever the report of this run would."""
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
    """Read a run. Broken content is left out and described in `problem`, so that a bad folder does not hide others.

    If the configuration is broken, or a file has unexpected content, only `path`, `status`, `log` and `problem` are
    set.
    """
    path = folder.root.relative_to(root).as_posix() if folder.root != root else folder.root.name
    status = "done" if folder.done else "running" if held(folder) else "stopped"
    try:
        run = _read(folder, path, status)
    except Exception as error:  # an untrusted folder may contain anything
        problem = error.problem if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        run = Run(path, name=path, seed=0, group="", status=status, config={}, choices={}, problem=problem)
    run.problem = printable(run.problem.replace(f"{folder.root}/", ""))
    if status != "done":
        run.log = "\n".join(tail(folder.root / "output.log", LOG_LINES))
    return run


def _read(folder: RunFolder, path: str, status: str) -> Run:
    problems: list[str] = []
    config = folder.read_config()
    origin = _told(folder.read_origin, problems)
    run = Run(
        path=path,
        root=folder.root,
        name=str(config.get("name")),
        seed=int(config.get("seed") or 0),
        group=f"{config.get('name')} {fingerprint(config)}",
        status=status,
        config=config,
        choices={str(k): str(v) for k, v in (origin.get("choices") or {}).items()},
        command=[str(word) for word in origin.get("command") or []],
        data=_told(folder.read_data, problems),
        environment=_computed_with(_told(folder.read_environment, problems)),
        tests=dict(config.get("evaluation") or {}),
        scores={file.stem: file for file in sorted(folder.scores.glob("*.npz"))},
    )
    if folder.metrics.exists():
        try:
            run.series, run.step, run.times = _series(folder.metrics, problems.append)
        except UserError as error:
            problems.append(error.problem)
    results = _told(folder.read_results, problems) if folder.results.exists() else {}
    if results:
        run.step = int(results.get("step") or run.step)
        run.train_seconds = results.get("train_seconds")
        run.symptoms += [early] if (early := stopped(results)) else []
        tests = sorted({name.partition("/")[0] for name in (*results["metrics"], *(results.get("symptoms") or ()))})
        _add(run, folder.results, {"step": run.step, **results}, tests)
    for file, later in later_results(folder, results, problems.append):
        if tests := [test for test in later.get("evaluation") or {} if test not in run.tests]:
            _add(run, file, later, tests)
            run.tests |= {test: later["evaluation"][test] for test in tests}
            for test in tests:
                run.data |= {f"evaluation.{key}": card for key, card in cards_of(test, later.get("data") or {}).items()}
                if (scores := file.parent / "scores" / f"{test}.npz").is_file():
                    run.scores[test] = scores
    for test, file in run.scores.items():
        try:
            for kind, curve in curves_of(read_arrays(file)).items():
                run.curves.setdefault(kind, {})[test] = curve
        except UserError as error:
            problems.append(error.problem)
        except Exception as error:  # arrays that are not scores
            problems.append(f"{file}: {error}")
    run.problem = "; ".join(problems)
    return run


def _add(run: Run, file: Path, found: Mapping[str, Any], tests: list[str]) -> None:
    """Add the metrics and symptoms of some tests from a file of results."""
    assert run.root is not None
    run.sources.append(
        {
            "file": file.relative_to(run.root).as_posix(),
            "step": int(found.get("step") or 0),
            "tests": tests,
            "environment": _computed_with(found.get("environment") or {}),
        }
    )
    run.metrics |= {name: metric for name, metric in found["metrics"].items() if name.partition("/")[0] in tests}
    symptoms = (found.get("symptoms") or {}).items()
    run.symptoms += [f"{test}: {symptom}" for test, listed in symptoms if test in tests for symptom in listed]


def _computed_with(environment: Mapping[str, Any]) -> dict[str, Any]:
    """A summary of an environment (`kdface.runs.environment`): commit, local changes, machine, precision, versions."""
    if not environment:
        return {}
    git, packages = environment.get("git") or {}, environment.get("packages") or {}
    return {
        "commit": str(git.get("commit") or ""),
        "changed": bool(git.get("diff")),
        "machine": str(environment.get("gpu") or environment.get("processor") or ""),
        "precision": str((environment.get("profile") or {}).get("precision", "")),
        "packages": {name: packages.get(name) for name in _PACKAGES if packages.get(name)},
    }


def _told(read: Callable[[], dict[str, Any]], problems: list[str]) -> dict[str, Any]:
    """Call a reader of the run folder; on failure, return an empty result and add the reason to the problems."""
    try:
        return read()
    except UserError as error:
        problems.append(error.problem)
        return {}


def _series(path: Path, tell: Callable[[str], object]) -> tuple[Series, int, tuple[float, ...]]:
    points: dict[str, list[tuple[float, float]]] = {}
    step, times = 0, []
    for record in read(path, tell):
        step = max(step, int(record["step"]))
        if isinstance(time := record.get("time"), int | float) and 0 < time < _YEAR_3000:
            times.append(float(time))
        for name, value in scalars(record).items():
            if name != "epoch" and not name.endswith("_weight"):
                points.setdefault(name.removeprefix("train/"), []).append((float(record["step"]), value))
    series = {name: (np.array(found)[:, 0], np.array(found)[:, 1]) for name, found in points.items()}
    return series, step, (min(times), max(times)) if times else ()
