"""Every table of the project can be made where nothing has been run: it tells which commands fill it."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from kdface.config.compose import compose_in, hydra_context
from kdface.config.hydra_api import Hydra
from kdface.config.paths import choices
from kdface.reports.tables import Definition, read_definition
from kdface.reports.tables.definition import Row
from tests.conftest import Kdface

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"
DEFINITIONS = {
    f"{file.parent.name}/{file.stem}": file
    for file in sorted(EXPERIMENTS.glob("*/*.yaml"))
    if "rows:" in file.read_text(encoding="utf-8")
}
PAPERS = [name for name, file in DEFINITIONS.items() if "\npublished:" in file.read_text(encoding="utf-8")]
# How many cells have a published number and are to be filled by a run of ours. The published numbers of
# facenet's other tables are of private test sets; of maskinv none is known.
JOINED = {
    "aikd/aligned": 3 * 4,
    "aikd/misaligned": 3,
    "ckd/ablation": 2,
    "ckd/identification": 6,
    "ckd/verification": 6,
    "elasticface/table3": 5 * 5,
    "facenet/lfw": 1,
    "spherefacer/ijb": 10 * 12,
}


@pytest.fixture(scope="module")
def hydra() -> Iterator[Hydra]:
    with hydra_context([]) as opened:
        yield opened


def _with_one_seed(path: Path, folder: Path) -> Path:
    """A copy of a definition, and of the published numbers beside it."""
    tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    tree["seeds"] = [0]
    if "published" in tree:
        shutil.copy(path.with_name("published.csv"), folder)
    copy = folder / path.name
    copy.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    return copy


@pytest.mark.parametrize("name", DEFINITIONS)
def test_a_table_without_runs_prints_the_commands_that_fill_it(name: str, kdface: Kdface, tmp_path: Path) -> None:
    """Every row composes, every command names an experiment that there is; beside each published number of a test set
    that we have too, there is room for ours."""
    path = _with_one_seed(DEFINITIONS[name], tmp_path)
    said = kdface("table", str(path), f"paths.runs={tmp_path}/runs")
    assert said.code == 0, said.err
    block = said.out.partition("```sh\n")[2].partition("```")[0]
    commands = [shlex.split(line, comments=True) for line in block.splitlines()]
    definition = read_definition(path)
    for row in definition.rows:
        job = {*definition.overrides, *row.overrides} if row.overrides is not None else set()
        assert any(job <= set(command) for command in commands), row.label
    for need in definition.needs:
        assert any(set(need) <= set(command) for command in commands), need
    for command in commands:
        needed = any(set(need) <= set(command) for need in definition.needs)  # of the seed that it names
        assert command[:2] == ["kdface", "train"] and ("seed=0" in command or needed)
        (experiment,) = (word.removeprefix("experiment=") for word in command if word.startswith("experiment="))
        assert experiment in choices("experiment")
    assert len(re.findall(r"—<br><sub>\d", said.out)) == JOINED.get(name, 0)


@pytest.mark.parametrize("name", PAPERS)
def test_a_papers_columns_are_measured_by_the_run_or_by_their_evaluation(name: str, hydra: Hydra) -> None:
    """The evaluation is composed around a run, as `kdface evaluate` does."""
    definition = read_definition(DEFINITIONS[name])
    rows = [row for row in definition.rows if row.overrides is not None]
    evaluations = sorted({column.evaluation for column in definition.columns if column.metric})
    assert rows and evaluations
    for row in rows if "" in evaluations else rows[:1]:
        run = compose_in(hydra, [*definition.overrides, *(row.overrides or ()), "seed=0"]).tree
        for evaluation in evaluations:
            later = compose_in(hydra, [f"evaluation={evaluation}"], around=run).tree if evaluation else run
            for read in rows if evaluation else [row]:
                missing = _tests_of(definition, read, evaluation) - set(later["evaluation"])
                assert not missing, (read.label, evaluation, missing)


def _tests_of(definition: Definition, row: Row, evaluation: str) -> set[str]:
    """The tests whose metrics the columns of an evaluation show."""
    columns = [column for column in definition.columns if column.evaluation == evaluation]
    return {metric.partition("/")[0] for column in columns for metric in column.metrics_of(row)}
