"""Collect the values of a table from run folders, and find the missing ones."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from kdface.config.fingerprint import difference, portable
from kdface.errors import UserError, nearest
from kdface.reports.tables.definition import Column, Definition, Row
from kdface.runs.folder import RunFolder
from kdface.runs.named import require_one_run

# Overrides of a run -> its folder, which may not exist.
Locate = Callable[[Sequence[str]], RunFolder]


@dataclass(frozen=True)
class Measured:
    """A value and its provenance.

    Attributes:
        value: None if the data could not resolve it.
        run: the run folder.
        test: name of the test set in the configuration; for a mean, those of its parts.
        protocol: its configuration, without keys of the tested network; for a mean, test -> configuration.
        test_data, train_data, teacher_data: fingerprints; `test_data` covers every set of the test.
        training, teacher: configurations of the training set and the teacher.
        recogniser: weights of the frozen recognition network, if any; for a mean, of all its parts.
    """

    value: float | None
    run: RunFolder
    test: str
    protocol: Mapping[str, Any]
    test_data: str
    training: Mapping[str, Any]
    train_data: str
    teacher: Any = None
    teacher_data: str = ""
    recogniser: str = ""


@dataclass(frozen=True)
class Missing:
    """A missing result: its row and seed (or that rows need it), the reason, and the command that computes it.

    Attributes:
        command: `train` or `evaluate`.
        words: arguments of the command, without the user's own folders of YAML.
        config_dirs: the user's own folders of YAML.
    """

    what: str
    why: str
    command: Literal["train", "evaluate"]
    words: tuple[str, ...]
    config_dirs: tuple[str, ...]

    @property
    def arguments(self) -> list[str]:
        """All arguments after `kdface`."""
        return [
            self.command,
            *self.words,
            *(word for config_dir in self.config_dirs for word in ("--config-dir", config_dir)),
        ]

    def __str__(self) -> str:
        return shlex.join(["kdface", *self.arguments])


@dataclass
class Collected:
    """`values[row, column][seed]`, indexed as in the definition."""

    values: dict[tuple[int, int], dict[int, Measured]] = field(default_factory=dict)
    missing: list[Missing] = field(default_factory=list)


def collect(
    definition: Definition, locate: Locate, extra: Sequence[str] = (), config_dirs: Sequence[str] = ()
) -> Collected:
    """Find all runs of a table and read their values.

    Args:
        definition: the table.
        locate: overrides -> the run folder that `kdface train` would use.
        extra: overrides of every row, applied last.
        config_dirs: the user's own folders of YAML, passed to the commands for missing results.

    Raises:
        UserError: values of a column come from different data or protocols, or a run lacks a metric.
    """
    found = Collected()
    folders = tuple(config_dirs)
    passed = ("paths.data", "paths.runs", "hydra.searchpath")  # an evaluation refuses overrides of training
    elsewhere = [word for word in extra if word.lstrip("+").partition("=")[0] in passed]

    def require(overrides: Sequence[str], what: str) -> RunFolder | None:
        """The finished run of these overrides; if there is none, record it as missing."""
        run = locate(overrides)
        why = "not finished" if run.config.is_file() else "not run"
        if run.done:
            try:
                require_one_run(run, run.read_config())
                return run
            except UserError as error:
                why = error.problem
        found.missing.append(Missing(what, why, "train", tuple(overrides), folders))
        return None

    for need in definition.needs:
        require([*need, *extra], "what rows need")
    for r, row in enumerate(definition.rows):
        if row.overrides is None:
            continue
        for seed in definition.seeds:
            overrides = [*definition.overrides, *row.overrides, *extra, f"seed={seed}"]
            if (run := require(overrides, f"{row.name}, seed {seed}")) is None:
                continue
            what = f"{row.name}, seed {seed}"
            problems: list[str] = []
            try:
                sources = _sources(run, problems.append)
            except UserError as error:  # treat an unreadable run as missing
                found.missing.append(Missing(what, error.problem, "train", tuple(overrides), folders))
                continue
            for evaluation in _read_run(definition, (r, row), seed, run, sources, found):
                words = (f"run={_shown(run.root)}", f"evaluation={evaluation}", *elsewhere)
                why = "; ".join(problems) or "not evaluated"
                found.missing.append(Missing(what, why, "evaluate", words, folders))
    for c, column in enumerate(definition.columns):
        cells = [run for (_, place), seeds in sorted(found.values.items()) if place == c for run in seeds.values()]
        check_shared(column, cells)
    return found


def _read_run(
    definition: Definition,
    place: tuple[int, Row],
    seed: int,
    run: RunFolder,
    sources: Sequence[_Source],
    found: Collected,
) -> list[str]:
    """Store the values of a run in their cells, and return each missing evaluation once."""
    r, row = place
    asked: list[str] = []
    for c, column in enumerate(definition.columns):
        metrics = column.metrics_of(row)
        if not metrics:
            continue
        parts: list[Measured] = []
        lacking = ""
        for metric in metrics:
            source = next((source for source in sources if metric in source.metrics and source.holds(metric)), None)
            if source is None:
                lacking = lacking or metric
            else:
                parts.append(source.measured(metric))
        if not lacking:
            found.values.setdefault((r, c), {})[seed] = _mean(parts)
        elif not column.evaluation:
            raise _no_metric(run, column, lacking, sources)
        elif (evaluation := row.evaluation or column.evaluation) not in asked:
            asked.append(evaluation)
    return asked


def _mean(parts: Sequence[Measured]) -> Measured:
    """The mean of several values of a run; comparable within a column if all its parts are."""
    if len(parts) == 1:
        return parts[0]
    values = [part.value for part in parts if part.value is not None]
    tests = {part.test: part for part in parts}
    return replace(
        parts[0],
        value=fmean(values) if len(values) == len(parts) else None,
        test="+".join(tests),
        protocol={test: test_set.protocol for test, test_set in tests.items()},
        test_data="; ".join(outcome.test_data for outcome in tests.values()),
        recogniser="; ".join(outcome.recogniser for outcome in tests.values()),
    )


@dataclass(frozen=True)
class _Source:
    """A results.json of a run, from training or a later `kdface evaluate`."""

    run: RunFolder
    metrics: Mapping[str, Any]
    evaluation: Mapping[str, Any]
    cards: Mapping[str, Any]  # test -> the card of its data
    training: Mapping[str, Any]
    train_data: str
    teacher: Any
    teacher_data: str
    choices: Mapping[str, Any]

    def holds(self, metric: str) -> bool:
        return metric.partition("/")[0] in self.evaluation

    def measured(self, metric: str) -> Measured:
        test = metric.partition("/")[0]
        return Measured(
            value=self.metrics[metric]["value"],
            run=self.run,
            test=test,
            protocol=_measured_by(self.evaluation[test]),
            test_data=" ".join(
                str(card.get("fingerprint", ""))
                for key, card in sorted(self.cards.items())
                if key == test or key.startswith(f"{test}.")
            ),
            training=self.training,
            train_data=self.train_data,
            teacher=self.teacher,
            teacher_data=self.teacher_data,
            recogniser=str(self.choices.get(test, {}).get("recognition", "")),
        )


def _sources(run: RunFolder, tell: Callable[[str], object]) -> list[_Source]:
    """The sources of a run's values; `tell` receives why a later evaluation cannot be read.

    Raises:
        UserError: the run's own files cannot be read.
    """
    config = run.read_config()
    paths = config["paths"]
    data = run.read_data()
    if "train" not in data or (config.get("evaluation") and not any(key.startswith("evaluation.") for key in data)):
        raise UserError(f"{run.root}/data.json does not record the training and test data.")
    cards = {key.removeprefix("evaluation."): card for key, card in data.items()}
    trained = (
        portable(config.get("dataset"), paths),
        str(data.get("train", {}).get("fingerprint", "")),
        portable(config.get("teacher"), paths),
        str(data.get("teacher", {}).get("fingerprint", "")),
    )
    evaluation = portable(config.get("evaluation") or {}, paths)
    results = run.read_results()
    sources = [_Source(run, results["metrics"], evaluation, cards, *trained, results.get("choices") or {})]
    for file in run.evaluated():
        try:
            later = run.read_evaluation(file)
        except UserError as error:
            tell(error.problem)
            continue
        if not run.is_of_end(later, results):
            continue
        evaluation = portable(later.get("evaluation") or {}, {**paths, **later.get("paths", {})})
        choices = later.get("choices") or {}
        sources.append(_Source(run, later["metrics"], evaluation, later.get("data", {}), *trained, choices))
    return sources


def _no_metric(run: RunFolder, column: Column, metric: str, sources: Sequence[_Source]) -> UserError:
    known = sorted({key for source in sources for key in source.metrics})
    return UserError(
        f"{_shown(run.root)} has no metric {metric!r}, which the column {column.heading} shows.",
        expected=f"one of {', '.join(known) or '(none)'}",
        nearest=nearest(metric, known),
        fix="correct the column's metric, or name the column's `evaluation` that measures it",
    )


def check_shared(column: Column, cells: Sequence[Measured]) -> None:
    """Raise `UserError` if values of a column use different protocols, or different versions of the data."""
    first_test: dict[str, Measured] = {}
    first_training: dict[str, Measured] = {}
    first_teacher: dict[str, Measured] = {}
    for cell in cells:
        test = first_test.setdefault(cell.test, cell)
        if rows := difference(test.protocol, cell.protocol):
            key, before, after = rows[0]
            raise _refused(column, test, cell, f"different protocols ({cell.test}.{key}: {before!r} and {after!r})")
        if test.test_data != cell.test_data:
            raise _refused(column, test, cell, _versions(f"{cell.test}", test.test_data, cell.test_data))
        if test.recogniser != cell.recogniser:
            raise _refused(column, test, cell, "different weights in the network that recognises")
        training = first_training.setdefault(json.dumps(cell.training, sort_keys=True), cell)
        if training.train_data != cell.train_data:
            raise _refused(column, training, cell, _versions("training set", training.train_data, cell.train_data))
        taught = first_teacher.setdefault(json.dumps(cell.teacher, sort_keys=True), cell)
        if taught.teacher_data != cell.teacher_data:
            raise _refused(column, taught, cell, _versions("teacher", taught.teacher_data, cell.teacher_data))


def _versions(what: str, one: str, two: str) -> str:
    return f"different data ({what}: fingerprint {one[:12] or 'none'} and {two[:12] or 'none'})"


def _refused(column: Column, one: Measured, two: Measured, why: str) -> UserError:
    return UserError(
        f"column {column.heading!r}: {_shown(one.run.root)} and {_shown(two.run.root)} have {why}.",
        expected="numbers of one protocol on one version of the data",
        fix="rerun the older one, or put it in a separate table",
    )


# Keys of the tested network, not of the protocol: its image size, and the evaluated source of quality.
_TESTED = ("size", "grader")


def _measured_by(tree: Any) -> Any:
    if not isinstance(tree, dict):
        return tree
    kept = {key: _measured_by(value) for key, value in tree.items() if key not in _TESTED}
    if isinstance(kept.get("recognition"), dict):
        kept["recognition"].pop("quality", None)  # used only for recognition here
    return kept


def _shown(path: Path) -> str:
    """A path relative to the current folder where possible."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
