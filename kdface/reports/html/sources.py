"""The files of a run's metrics, and the environments that computed them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdface.metric_names import current
from kdface.runs.folder import RunFolder

_PACKAGES = ("kdface", "torch", "numpy")


@dataclass(frozen=True)
class Source:
    """A file of results.

    Attributes:
        file: path relative to the run folder.
        step: step of the tested network.
        tests: tests taken from it.
        environment: environment of the computation (`computed_with`); empty for training's own, which is that of the
            run, and if not recorded.
    """

    file: str
    step: int
    tests: list[str]
    environment: dict[str, Any] = field(default_factory=dict)


def later_sources(
    folder: RunFolder, found: Mapping[Path, Mapping[str, Any]], results: Mapping[str, Any], known: Mapping[str, Any]
) -> Iterator[tuple[Source, dict[str, Any]]]:
    """The results of `kdface evaluate` for the run's final network, by file; the first file with a test wins.

    Args:
        folder: the run.
        found: the results files of `kdface evaluate` with their contents.
        results: the run's own results; empty if there are none yet.
        known: the tests of training, which take precedence.
    """
    taken = set(known)
    for file, later in found.items():
        if not folder.is_of_end(later, results):
            continue
        tests = [test for test in later.get("evaluation") or {} if test not in taken]
        taken.update(tests)
        if tests:
            environment = computed_with(later.get("environment") or {})
            yield (
                Source(file.relative_to(folder.root).as_posix(), int(later.get("step") or 0), tests, environment),
                dict(later),
            )


def metrics_in(results: Mapping[str, Any]) -> dict[str, dict[str, float | None]]:
    """The metrics of a results file. Raises `ValueError` if they are malformed."""
    metrics = results.get("metrics") or {}
    if not isinstance(metrics, dict) or not all(isinstance(metric, dict) for metric in metrics.values()):
        raise ValueError("its results are not metrics with a value each")
    return {current(name): value for name, value in metrics.items()}


def computed_with(environment: Mapping[str, Any]) -> dict[str, Any]:
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
