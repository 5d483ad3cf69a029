"""Collect the values of a table from run folders, and find the missing ones."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, Literal

from kdface.config.fingerprint import difference, flatten, portable
from kdface.errors import UserError, nearest
from kdface.reports.results import cards_of, later_results
from kdface.reports.tables.definition import Column, Definition, Row
from kdface.runs.folder import RunFolder
from kdface.runs.named import require_one_run
from kdface.terminal import shown

# Overrides of a run -> its folder, which may not exist.
Locate = Callable[[Sequence[str]], RunFolder]


@dataclass(frozen=True)
class Measured:
    """A value and what it was measured with.

    Attributes:
        value: None if the data could not resolve it.
        run: the run folder.
        inputs: (kind, name) -> version; the values of a column share the versions of their common inputs. By test:
            its `protocol`, without keys of the tested network, fingerprints of its `data`, and weights of its
            `recogniser`, the frozen recognition network. By configuration: fingerprints of the `training set` and the
            `teacher`.
    """

    value: float | None
    run: RunFolder
    inputs: Mapping[tuple[str, str], Any] = field(default_factory=dict)


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
                measured = _measured(run, problems.append)
            except UserError as error:  # treat an unreadable run as missing
                missing(what, error.problem, "train", overrides)
                continue
            for evaluation in _fill(definition, (r, row), seed, run, measured, found):
                words = (f"run={shown(run.root)}", f"evaluation={evaluation}", *elsewhere)
                missing(what, "; ".join(problems) or "not evaluated", "evaluate", words)
    for c, column in enumerate(definition.columns):
        cells = [run for (_, place), seeds in sorted(found.values.items()) if place == c for run in seeds.values()]
        check_shared(column, cells)
    return found


def _fill(
    definition: Definition,
    place: tuple[int, Row],
    seed: int,
    run: RunFolder,
    measured: Mapping[str, Measured],
    found: Collected,
) -> list[str]:
    """Store the values of a run in their cells, and return each missing evaluation once."""
    r, row = place
    asked: list[str] = []
    for c, column in enumerate(definition.columns):
        metrics = column.metrics_of(row)
        lacking = [metric for metric in metrics if metric not in measured]
        if not lacking:
            if metrics:
                found.values.setdefault((r, c), {})[seed] = _mean([measured[metric] for metric in metrics])
        elif not column.evaluation:
            raise UserError(
                f"{shown(run.root)} has no metric {lacking[0]!r}, which the column {column.heading} shows.",
                expected=f"one of {', '.join(sorted(measured)) or '(none)'}",
                nearest=nearest(lacking[0], sorted(measured)),
                fix="correct the column's metric, or name the column's `evaluation` that measures it",
            )
        elif (evaluation := row.evaluation or column.evaluation) not in asked:
            asked.append(evaluation)
    return asked


def _mean(parts: Sequence[Measured]) -> Measured:
    """The mean of values of one run; None if a part is."""
    values = [part.value for part in parts if part.value is not None]
    inputs = {key: version for part in parts for key, version in part.inputs.items()}
    return Measured(fmean(values) if len(values) == len(parts) else None, parts[0].run, inputs)


def _measured(run: RunFolder, tell: Callable[[str], object]) -> dict[str, Measured]:
    """The values of a run by metric, from training or else the newest later evaluation.

    `tell` receives why a later evaluation cannot be read.

    Raises:
        UserError: the run's own files cannot be read.
    """
    config, data, results = run.read_config(), run.read_data(), run.read_results()
    paths = config["paths"]
    if "train" not in data or (config.get("evaluation") and not any(key.startswith("evaluation.") for key in data)):
        raise UserError(f"{run.root}/data.json does not record the training and test data.")
    trained = {
        (kind, json.dumps(portable(config.get(part), paths), sort_keys=True)): data.get(role, {}).get("fingerprint", "")
        for kind, part, role in (("training set", "dataset", "train"), ("teacher", "teacher", "teacher"))
    }
    own = {
        **results,
        "evaluation": config.get("evaluation"),
        "data": {key.removeprefix("evaluation."): card for key, card in data.items()},
    }
    measured: dict[str, Measured] = {}
    for found in (own, *(later for _, later in later_results(run, results, tell))):
        protocols = portable(found.get("evaluation") or {}, {**paths, **found.get("paths", {})})
        for metric, number in found["metrics"].items():
            test = metric.partition("/")[0]
            if test not in protocols or metric in measured:
                continue
            cards = sorted(cards_of(test, found.get("data", {})).items())
            inputs = {
                ("protocol", test): flatten(_measured_by(protocols[test])),
                ("data", test): " ".join(str(card.get("fingerprint", "")) for _, card in cards),
                ("recogniser", test): (found.get("choices") or {}).get(test, {}).get("recognition", ""),
            }
            measured[metric] = Measured(number["value"], run, inputs | trained)
    return measured


def check_shared(column: Column, cells: Sequence[Measured]) -> None:
    """Raise `UserError` if values of a column use different protocols, or different versions of the data."""
    first: dict[tuple[str, str], Measured] = {}
    for cell in cells:
        for (kind, name), version in cell.inputs.items():
            one = first.setdefault((kind, name), cell)
            if (before := one.inputs[kind, name]) == version:
                continue
            if kind == "protocol":
                key, given, now = difference(before, version)[0]
                why = f"different protocols ({name}.{key}: {given!r} and {now!r})"
            elif kind == "recogniser":
                why = "different weights in the network that recognises"
            else:
                what = name if kind == "data" else kind
                why = f"different data ({what}: fingerprint {before[:12] or 'none'} and {version[:12] or 'none'})"
            raise UserError(
                f"column {column.heading!r}: {shown(one.run.root)} and {shown(cell.run.root)} have {why}.",
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
