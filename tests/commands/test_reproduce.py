"""The same bits again are identical; what differs first is named."""

from __future__ import annotations

import json
import shutil
import statistics
from pathlib import Path

import pytest
import yaml

from kdface.commands import reproduce
from kdface.errors import UserError
from kdface.reports.tables.render_csv import read_values
from kdface.runs.folder import RunFolder
from tests.conftest import TINY, Kdface, only_run
from tests.reports.folders import config, make_run


def test_a_run_is_identical_a_second_time_and_a_forged_one_is_not(kdface: Kdface, tmp_path: Path) -> None:
    assert kdface("train", *TINY, "trainer.max_steps=3").code == 0
    root = only_run(tmp_path / "runs")
    assert reproduce.run([str(root)]) == 0
    records = [json.loads(line) for line in (root / "metrics.jsonl").read_text().splitlines()]
    place = next(k for k, record in enumerate(records) if record["kind"] == "train" and record["step"] == 2)
    records[place]["loss"] += 1e-6
    (root / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    assert reproduce.run([str(root)]) == 1


def test_the_runs_of_a_cell(kdface: Kdface, tmp_path: Path) -> None:
    """One row of one seed; a column that training measures, and one that a later evaluation does."""
    tree = {
        "title": "Tiny",
        "seeds": [0],
        "overrides": [*TINY, "trainer.max_steps=1", "name=tiny"],
        "rows": [{"label": "cos s=64", "overrides": ["head=cosface"]}],
        "columns": [{"label": "accuracy", "group": "toy", "metric": "toy_pairs/accuracy"}],
    }
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tree))
    cell = f"{tmp_path}/tiny.yaml:cos s=64/accuracy"
    empty = kdface("reproduce", cell)
    assert empty.code == 2 and "this cell has no run" in empty.err and "kdface train" in empty.err
    assert kdface("train", *TINY, "trainer.max_steps=1", "name=tiny", "head=cosface", "seed=0").code == 0
    said = kdface("reproduce", cell)
    assert said.code == 0 and said.out.endswith("cos s=64/accuracy: 1 of 1 runs are identical\n")
    root = only_run(tmp_path / "runs")
    (root / "results.json").write_text((root / "results.json").read_text().replace('"seed": 0', '"seed": 1'))
    said = kdface("reproduce", cell)
    assert said.code == 1 and "seed: 1, now 0" in said.out and "0 of 1 runs are identical" in said.out


def test_a_cell_whose_runs_are_elsewhere_is_trained_and_compared_with_the_table(kdface: Kdface, tmp_path: Path) -> None:
    tree = {
        "title": "Tiny",
        "seeds": [0, 1],
        "overrides": [*TINY, "trainer.max_steps=1", "name=tiny"],
        "rows": [{"label": "cos s=64", "overrides": ["head=cosface"]}],
        "columns": [{"label": "accuracy", "group": "toy", "metric": "toy_pairs/accuracy"}],
    }
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tree))
    assert kdface("table", "tiny.yaml", "--run", "hydra.launcher.n_jobs=1").code == 0
    written = (tmp_path / "tiny.csv").read_text()
    words = ["reproduce", "tiny.yaml:cos s=64/accuracy", f"paths.runs={tmp_path}/other", "hydra.launcher.n_jobs=1"]
    said = kdface(*words)
    assert said.code == 0 and said.out.endswith("cos s=64/accuracy: identical\n"), said.err
    (values,) = read_values(tmp_path / "tiny.csv").values()
    forged = [values[0] + 0.25, values[1] - 0.15]  # the mean moves by 0.05
    forgery = written.replace(f"{values[0]} {values[1]}", f"{forged[0]} {forged[1]}")
    (tmp_path / "tiny.csv").write_text(forgery)
    shutil.rmtree(tmp_path / "other")
    said = kdface(*words)
    spread = statistics.stdev(forged)
    assert (
        said.code == 1 and f"-0.050000, {0.05 / spread:.2f} standard deviations over seeds ({spread:.6f})" in said.out
    )
    assert (tmp_path / "tiny.csv").read_text() == forgery  # what is compared with stays


def _two(folder: Path) -> tuple[Path, Path]:
    one, two = folder / "one", folder / "two"
    return (make_run(one, config(one), {"a": 0.5}), make_run(two, config(two), {"a": 0.5}))


def _told(first: Path, second: Path) -> dict[str, str]:
    return {what: told for what, told, _ in reproduce.compare(RunFolder(first), RunFolder(second))}


def test_equal_folders_are_identical_but_for_the_clock(tmp_path: Path) -> None:
    first, second = _two(tmp_path)
    text = (second / "metrics.jsonl").read_text().replace('"time": 1.0', '"time": 777.0')
    (second / "metrics.jsonl").write_text(text)
    assert set(_told(first, second).values()) == {""}


@pytest.mark.parametrize(
    ("file", "before", "after", "what", "told"),
    [
        ("data.json", '"t0"', '"t1"', "data", 'train: "t0", now "t1"'),
        ("environment.json", "abc123", "def456", "code", 'commit: "abc123", now "def456"'),
        ("environment.json", "2.13.0", "2.14.0", "environment", 'packages.torch: "2.13.0", now "2.14.0"'),
        (
            "metrics.jsonl",
            '"loss": 2.0',
            '"loss": 2.5',
            "metrics",
            "differ first at step 20 (train): loss: 2.0, now 2.5",
        ),
        ("results.json", "0.5", "0.25", "results", "metrics.a.value: 0.5, now 0.25"),
        ("config.yaml", "margin: 0.5", "margin: 0.4", "config", "fingerprint: "),
    ],
)
def test_what_differs_is_named(tmp_path: Path, file: str, before: str, after: str, what: str, told: str) -> None:
    first, second = _two(tmp_path)
    text = (second / file).read_text()
    assert before in text
    (second / file).write_text(text.replace(before, after))
    found = _told(first, second)
    assert found.pop(what).startswith(told)
    assert set(found.values()) == {""}


def test_a_shorter_record_is_told(tmp_path: Path) -> None:
    first, second = _two(tmp_path)
    lines = (second / "metrics.jsonl").read_text().splitlines(keepends=True)
    (second / "metrics.jsonl").write_text("".join(lines[:2]))
    assert _told(first, second)["metrics"].startswith("3 records, then 2")


def test_data_may_lie_elsewhere_now(tmp_path: Path) -> None:
    tree = config(tmp_path, dataset__root="/nowhere/data/faces")
    found = reproduce.moved(tree, tmp_path / "new", str(tmp_path))
    assert found["dataset"]["root"] == f"{tmp_path}/faces"
    assert found["paths"] == {"data": str(tmp_path), "runs": str(tmp_path / "new")}
    assert tree["dataset"]["root"] == "/nowhere/data/faces"


def test_data_lies_in_one_folder(kdface: Kdface) -> None:
    said = kdface("reproduce", "runs/one", "paths.data=a", "paths.data=b")
    assert said.code == 2 and "paths.data= is given more than once" in said.err


def test_an_unfinished_run_is_refused(tmp_path: Path) -> None:
    root = make_run(tmp_path, config(tmp_path), None)
    with pytest.raises(UserError, match="not finished"):
        reproduce.run([str(root)])
    with pytest.raises(UserError, match="COLUMN is missing"):
        reproduce.run([])
