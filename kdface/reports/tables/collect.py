"""Collect the values of a table from run folders, and find the missing ones."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any, Literal

from kdface.config.fingerprint import difference, portable
from kdface.errors import UserError, nearest
from kdface.reports.results import cards_of, later_results
from kdface.reports.summary import shown
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
    passed = ("paths.data", "paths.runs", "hydra.searchpath")  # an evaluation refuses overrides of training
    elsewhere = [word for word in extra if word.lstrip("+").partition("=")[0] in passed]

    def missing(what: str, why: str, command: Literal["train", "evaluate"], words: Sequence[str]) -> None:
        found.missing.append(Missing(what, why, command, tuple(words), tuple(config_dirs)))

    def finished(overrides: Sequence[str], what: str) -> RunFolder | None:
        """The finished run of these overrides; if there is none, record it as missing."""
        run = locate(overrides)
        why = "not finished" if run.config.is_file() else "not run"
        if run.done:
            try:
                require_one_run(run, run.read_config())
                return run
            except UserError as error:
                why = error.problem
        missing(what, why, "train", overrides)
        return None

    for need in definition.needs:
        finished([*need, *extra], "what rows need")
    for r, row in enumerate(definition.rows):
        if row.overrides is None:
            continue
        for seed in definition.seeds:
            what = f"{row.name}, seed {seed}"
            overrides = [*definition.overrides, *row.overrides, *extra, f"seed={seed}"]
            if (run := finished(overrides, what)) is None:
                continue
            problems: list[str] = []
            try:
                sources = _sources(run, problems.append)
            except UserError as error:  # treat an unreadable run as missing
                missing(what, error.problem, "train", overrides)
                continue
            for evaluation in _read_run(definition, (r, row), seed, run, sources, found):
                words = (f"run={shown(run.root)}", f"evaluation={evaluation}", *elsewhere)
                missing(what, "; ".join(problems) or "not evaluated", "evaluate", words)
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
        holding = {metric: next((source for source in sources if source.holds(metric)), None) for metric in metrics}
        lacking = [metric for metric, source in holding.items() if source is None]
        if not lacking:
            parts = [source.measured(metric) for metric, source in holding.items() if source is not None]
            if parts:
                found.values.setdefault((r, c), {})[seed] = _mean(parts)
        elif not column.evaluation:
            raise _no_metric(run, column, lacking[0], sources)
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
        protocol={test: part.protocol for test, part in tests.items()},
        test_data="; ".join(part.test_data for part in tests.values()),
        recogniser="; ".join(part.recogniser for part in tests.values()),
    )


@dataclass(frozen=True)
class _Source:
    """A results.json of a run, from training or a later `kdface evaluate`.

    Attributes:
        metrics, choices: as stored.
        evaluation: test -> its configuration.
        cards: cards of the test data by test.
        common: attributes of every `Measured` of the run.
    """

    metrics: Mapping[str, Any]
    choices: Mapping[str, Any]
    evaluation: Mapping[str, Any]
    cards: Mapping[str, Any]
    common: Mapping[str, Any]

    def holds(self, metric: str) -> bool:
        return metric in self.metrics and metric.partition("/")[0] in self.evaluation

    def measured(self, metric: str) -> Measured:
        test = metric.partition("/")[0]
        cards = sorted(cards_of(test, self.cards).items())
        return Measured(
            value=self.metrics[metric]["value"],
            test=test,
            protocol=_measured_by(self.evaluation[test]),
            test_data=" ".join(str(card.get("fingerprint", "")) for _, card in cards),
            recogniser=str(self.choices.get(test, {}).get("recognition", "")),
            **self.common,
        )


def _sources(run: RunFolder, tell: Callable[[str], object]) -> list[_Source]:
    """The sources of a run's values; `tell` receives why a later evaluation cannot be read.

    Raises:
        UserError: the run's own files cannot be read.
    """
    config, data, results = run.read_config(), run.read_data(), run.read_results()
    paths = config["paths"]
    if "train" not in data or (config.get("evaluation") and not any(key.startswith("evaluation.") for key in data)):
        raise UserError(f"{run.root}/data.json does not record the training and test data.")
    common = {
        "run": run,
        "training": portable(config.get("dataset"), paths),
        "train_data": str(data["train"].get("fingerprint", "")),
        "teacher": portable(config.get("teacher"), paths),
        "teacher_data": str(data.get("teacher", {}).get("fingerprint", "")),
    }
    own = {
        **results,
        "evaluation": config.get("evaluation"),
        "data": {key.removeprefix("evaluation."): card for key, card in data.items()},
    }
    return [
        _Source(
            metrics=found["metrics"],
            choices=found.get("choices") or {},
            evaluation=portable(found.get("evaluation") or {}, {**paths, **found.get("paths", {})}),
            cards=found.get("data", {}),
            common=common,
        )
        for found in (own, *(later for _, later in later_results(run, results, tell)))
    ]


def _no_metric(run: RunFolder, column: Column, metric: str, sources: Sequence[_Source]) -> UserError:
    known = sorted({key for source in sources for key in source.metrics})
    return UserError(
        f"{shown(run.root)} has no metric {metric!r}, which the column {column.heading} shows.",
        expected=f"one of {', '.join(known) or '(none)'}",
        nearest=nearest(metric, known),
        fix="correct the column's metric, or name the column's `evaluation` that measures it",
    )


def check_shared(column: Column, cells: Sequence[Measured]) -> None:
    """Raise `UserError` if values of a column use different protocols, or different versions of the data."""
    first: dict[tuple[str, str], Measured] = {}
    for cell in cells:
        test = first.setdefault(("test", cell.test), cell)
        if rows := difference(test.protocol, cell.protocol):
            key, before, after = rows[0]
            raise _refused(column, test, cell, f"different protocols ({cell.test}.{key}: {before!r} and {after!r})")
        if test.test_data != cell.test_data:
            raise _refused(column, test, cell, _versions(cell.test, test.test_data, cell.test_data))
        if test.recogniser != cell.recogniser:
            raise _refused(column, test, cell, "different weights in the network that recognises")
        training = first.setdefault(("training", json.dumps(cell.training, sort_keys=True)), cell)
        if training.train_data != cell.train_data:
            raise _refused(column, training, cell, _versions("training set", training.train_data, cell.train_data))
        taught = first.setdefault(("teacher", json.dumps(cell.teacher, sort_keys=True)), cell)
        if taught.teacher_data != cell.teacher_data:
            raise _refused(column, taught, cell, _versions("teacher", taught.teacher_data, cell.teacher_data))


def _versions(what: str, one: str, two: str) -> str:
    return f"different data ({what}: fingerprint {one[:12] or 'none'} and {two[:12] or 'none'})"


def _refused(column: Column, one: Measured, two: Measured, why: str) -> UserError:
    return UserError(
        f"column {column.heading!r}: {shown(one.run.root)} and {shown(two.run.root)} have {why}.",
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
