"""The ledger: keys, states that are read from run folders, merging by copying, what changed beside the sweep."""

from __future__ import annotations

import copy
import fcntl
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from kdface.config.fingerprint import fingerprint
from kdface.errors import UserError
from kdface.runs.folder import RunFolder
from kdface.sweeps import marks
from kdface.sweeps.ledger import Entry, Ledger, State
from kdface.sweeps.ledger import entry as made_entry
from kdface.sweeps.table import status, write_results
from tests.conftest import Kdface

TREE: dict[str, Any] = {
    "name": "m",
    "seed": 0,
    "paths": {"data": "/somewhere/data", "runs": "/somewhere/runs"},
    "trainer": {"max_epochs": 2, "log_every_n_steps": 1},
    "loader": {"num_workers": 0},
    "resume": {"every_n_train_steps": None},
    "head": {"_target_": "kdface.heads.CosFace", "margin": 0.4},
    "optimizer": {"lr": 0.1},
}


def _job(ledger: Ledger, margin: float, seed: int, **base: Any) -> tuple[Entry, dict[str, Any]]:
    tree = copy.deepcopy(TREE)
    tree["seed"] = seed
    tree["head"]["margin"] = margin
    tree["optimizer"].update(base)
    folder = RunFolder(ledger.runs / "m" / f"seed{seed}-{fingerprint(tree)[:8]}")
    overrides = [f"head.margin={margin}", f"seed={seed}", f"paths.runs={ledger.runs}"]
    return made_entry(ledger.runs, folder, tree, overrides, ["head.margin", "seed"]), tree


def _finish(ledger: Ledger, entry: Entry, tree: dict[str, Any], value: float) -> None:
    folder = ledger.folder(entry)
    folder.root.mkdir(parents=True)
    folder.config.write_text(yaml.safe_dump(tree))
    folder.results.write_text(json.dumps({"metrics": {"t/eer": {"value": value, "std": None}}, "train_seconds": 3}))
    folder.mark_done()


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.of(tmp_path / "runs", ["m"], ["head.margin", "seed"])


def test_a_ledger_is_found_by_name_and_swept_keys_whatever_their_values(tmp_path: Path) -> None:
    one = Ledger.of(tmp_path, ["a/b", "a/b"], ["seed", "head.margin"])
    assert one.root == Ledger.of(tmp_path, ["a/b"], ["head.margin", "seed"]).root
    assert one.root.parent == tmp_path / "sweeps" and one.root.name.startswith("a-b-")
    assert one.root != Ledger.of(tmp_path, ["a/b"], ["seed"]).root


def test_states_are_read_from_the_run_folder(ledger: Ledger) -> None:
    entry, tree = _job(ledger, 0.4, 0)
    ledger.write(entry)
    folder = ledger.folder(entry)
    assert ledger.state(entry) is State.WAITING
    folder.root.mkdir(parents=True)
    assert ledger.state(entry) is State.WAITING
    folder.config.write_text(yaml.safe_dump(tree))
    (folder.root / "environment.json").write_text("{}")
    assert ledger.state(entry) is State.INTERRUPTED
    with open(folder.root / ".lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert ledger.state(entry) is State.RUNNING
    assert ledger.state(entry) is State.INTERRUPTED
    marks.note_failure(folder, "first")
    marks.note_failure(folder, "second")
    assert ledger.state(entry) is State.FAILED and marks.failure(folder) == "first"
    marks.forget_failure(folder)
    assert ledger.state(replace(entry, pruned=True)) is State.PRUNED
    folder.mark_done()
    assert ledger.state(replace(entry, pruned=True)) is State.DONE


def test_an_entry_holds_its_point_and_no_absolute_path(ledger: Ledger, tmp_path: Path) -> None:
    entry, _ = _job(ledger, 0.4, 3)
    ledger.write(entry)
    assert entry.point == {"head.margin": "0.4", "seed": "3"}
    for file in ledger.root.rglob("*.json"):
        assert str(tmp_path) not in file.read_text()
    assert ledger.find(entry.run) == entry


def test_two_ledgers_merge_by_copying_their_runs(tmp_path: Path) -> None:
    both = Ledger.of(tmp_path / "both", ["m"], ["head.margin", "seed"])
    halves = [Ledger.of(tmp_path / name, ["m"], ["head.margin", "seed"]) for name in ("a", "b")]
    for number, margin in enumerate((0.3, 0.4)):
        for target in (both, halves[number]):
            entry, tree = _job(target, margin, 0)
            target.write(entry)
            _finish(target, entry, tree, margin / 10)
    merged = tmp_path / "merged"
    for half in halves:
        shutil.copytree(half.runs, merged, dirs_exist_ok=True)
    together = Ledger.at(str(merged / "sweeps" / both.root.name))
    for ledger_found in (both, together):
        write_results(ledger_found)
    for name in ("results.csv", "results.json"):
        assert (together.root / name).read_bytes() == (both.root / name).read_bytes()
    rows = (together.root / "results.csv").read_text().splitlines()
    assert rows[0] == "run,base,head.margin,seed,state,t/eer"
    assert sorted(row.split(",")[2:] for row in rows[1:]) == [
        ["0.3", "0", "done", "0.03"],
        ["0.4", "0", "done", "0.04"],
    ]
    assert "seconds" not in (together.root / "results.json").read_text()


def test_what_changed_beside_the_swept_values_is_found(ledger: Ledger) -> None:
    first, tree = _job(ledger, 0.4, 0)
    ledger.write(first)
    _finish(ledger, first, tree, 0.1)
    same, same_tree = _job(ledger, 0.5, 1)
    assert same.base == first.base
    assert ledger.changes(same, same_tree, ["head.margin", "seed"]) == []
    other, other_tree = _job(ledger, 0.5, 1, lr=0.2)
    assert other.base != first.base
    assert ledger.changes(other, other_tree, ["head.margin", "seed"]) == [("optimizer.lr", 0.1, 0.2)]


def test_status_shows_the_end_of_a_failed_jobs_log(ledger: Ledger) -> None:
    entry, tree = _job(ledger, 0.4, 0)
    ledger.write(entry)
    folder = ledger.folder(entry)
    folder.root.mkdir(parents=True)
    folder.config.write_text(yaml.safe_dump(tree))
    (folder.root / "output.log").write_text("\n".join(f"line {i}" for i in range(100)))
    marks.note_failure(folder, "broken")
    said = status(ledger)
    assert "line 99" in said and "line 50" not in said and "1 jobs: 1 failed" in said


def test_a_folder_without_a_sweep_is_told_of(tmp_path: Path, ledger: Ledger) -> None:
    with pytest.raises(UserError, match="no sweep"):
        Ledger.at(str(tmp_path / "nothing"))
    assert Ledger.at(str(ledger.runs)).root == ledger.root  # a folder that holds just one


def test_progress_and_time_left_are_those_of_the_last_two_records(ledger: Ledger) -> None:
    entry, _ = _job(ledger, 0.4, 0)
    folder = ledger.folder(entry)
    folder.root.mkdir(parents=True)
    assert str(marks.progress(folder)) == "0"
    marks.note_plan(folder, 100)
    rows = [{"kind": "train", "step": step, "time": time} for step, time in ((10, 5.0), (20, 25.0), (30, 30.0))]
    folder.metrics.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"kind": "tra')
    found = marks.progress(folder)
    assert (found.step, found.total) == (30, 100)
    assert found.left == pytest.approx(70 * 0.5)  # 0.5 s a step, 70 steps to go


def test_a_damaged_job_or_result_is_one_line_of_the_status(ledger: Ledger, kdface: Kdface) -> None:
    done = [_job(ledger, margin, 0) for margin in (0.1, 0.2)]
    for entry, tree in done:
        _finish(ledger, entry, tree, 0.25)
        ledger.write(entry)
    ledger.folder(done[0][0]).results.write_text("{")
    (ledger.root / "jobs" / "m+broken.json").write_text('{"run": 3}')
    said = kdface("sweep", "status", str(ledger.root))
    assert said.code == 0
    assert "2 jobs: 2 done" in said.out
    assert "m+broken.json cannot be read: run: input should be a valid string" in said.out
    assert "head.margin=0.1 seed=0 has no results" in said.out
    rows = [row.split(",") for row in (ledger.root / "results.csv").read_text().splitlines()]
    assert {row[2]: row[-1] for row in rows} == {"head.margin": "t/eer", "0.1": "", "0.2": "0.25"}


def test_a_status_gives_a_terminal_nothing_to_act_upon(ledger: Ledger, kdface: Kdface) -> None:
    """Names of jobs and the logs of other people's runs: escape sequences, and the markup of the printer."""
    run = "m/\x1b[2Jseed0 [/bold]"
    ledger.write(Entry(run=run, point={"name": "=1\x1b]0;title\x07[red]"}))
    folder = ledger.runs / run
    folder.mkdir(parents=True)
    (folder / "config.yaml").touch()
    marks.note_failure(RunFolder(folder), "lost")
    (folder / "output.log").write_text("all\x1b[2J is well\n")
    said = kdface("sweep", "status", str(ledger.root))
    assert said.code == 0 and "all is well" in said.out and "name==1[red]" in said.out and "[/bold]" in said.out
    assert not {"\x1b", "\x07"} & set(said.out + said.err)
    assert "'=1" in (ledger.root / "results.csv").read_text()  # a text, not a formula
