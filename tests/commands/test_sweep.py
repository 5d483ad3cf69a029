"""Which ledger a command has, and how failed jobs are run once more."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from kdface.commands import sweep
from kdface.commands.arguments import Arguments
from kdface.commands.session import Session
from kdface.config.compose import hydra_context
from kdface.errors import UserError
from kdface.sweeps import marks
from kdface.sweeps.ledger import Entry, Ledger
from tests.conftest import TINY
from tests.sweeps.test_engine import Pretended


@pytest.fixture
def failed(tmp_path: Path) -> Ledger:
    """A sweep over a student and its teacher, named in this order, which both have failed on a cluster."""
    ledger = Ledger.of(tmp_path / "runs", ["m"], ["seed"])
    ledger.note_launcher(["hydra/launcher=slurm", "hydra.launcher.minutes=7"])
    for name, teacher in (("a-student", {"run": str(ledger.runs / "b-teacher" / "seed0")}), ("b-teacher", None)):
        entry = Entry(run=f"{name}/seed0-1234abcd")
        folder = ledger.folder(entry)
        folder.root.mkdir(parents=True)
        tree = {"name": name, "seed": 0, "paths": {"data": "data", "runs": str(ledger.runs)}}
        folder.config.write_text(yaml.safe_dump({**tree, "trainer": {"devices": 1}, "teacher": teacher}))
        folder.results.write_text(json.dumps({"metrics": {}}))
        marks.note_failure(folder, "broken")
        ledger.write(entry)
    return ledger


def test_failed_jobs_run_again_where_the_sweep_ran_and_after_their_teachers(
    failed: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend, asked = Pretended(capacity=4), []

    def on_slurm(*_: Any, minutes: int, **others: Any) -> Pretended:
        asked.append(minutes)
        return backend

    monkeypatch.setattr("kdface.sweeps.slurm.Slurm", on_slurm)
    assert sweep.run(["retry", str(failed.root)]) == 0
    assert asked == [7]
    assert backend.batches == [[1], [0]]  # the teacher, then the student


def test_failed_jobs_may_run_again_elsewhere(failed: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = Pretended(capacity=4)
    monkeypatch.setattr("kdface.sweeps.process.Processes", lambda **_: backend)
    with pytest.raises(UserError, match="unchanged"):
        sweep.run(["retry", str(failed.root), "trainer.max_steps=3"])
    assert sweep.run(["retry", str(failed.root), "hydra/launcher=process"]) == 0
    assert backend.batches == [[1], [0]]
    assert failed.launcher == ["hydra/launcher=process"]


def test_failed_jobs_run_again_on_a_launcher_of_the_users_own_folder(
    failed: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own" / "hydra" / "launcher"
    own.mkdir(parents=True)
    (own / "ours.yaml").write_text("_target_: kdface.sweeps.process.Processes\nn_jobs: 3\n")
    monkeypatch.chdir(tmp_path)
    failed.note_launcher(["hydra/launcher=ours"], [Path("own")])
    monkeypatch.chdir("/")
    asked: list[int] = []

    def processes(n_jobs: int) -> Pretended:
        asked.append(n_jobs)
        return Pretended(capacity=4)

    monkeypatch.setattr("kdface.sweeps.process.Processes", processes)
    assert sweep.run(["retry", str(failed.root)]) == 0
    assert asked == [3] and failed.config_dirs == [tmp_path / "own"]


def test_jobs_of_a_search_are_composed_with_hydras_search_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "own" / "head"
    own.mkdir(parents=True)
    (own / "ours.yaml").write_text("_target_: kdface.heads.CosFace\nscale: 16.0\nmargin: 0.1\n")
    monkeypatch.setattr("kdface.sweeps.process.Processes", lambda **_: Pretended(capacity=4))
    words = ["head=ours", "optimizer.lr=interval(0.01,0.1)", "hydra/sweeper=random", "hydra.sweeper.n_trials=2"]
    where = [f"hydra.searchpath=[file://{tmp_path}/own]", "+hydra.launcher.n_jobs=2"]
    with hydra_context([]) as hydra:
        session = Session(hydra, Arguments([*TINY, f"paths.runs={tmp_path}/runs", *words, *where]))
        session.check()
        session.run()
    assert session.ledger is not None and session.ledger.launcher == where
    entries = session.ledger.entries()
    assert [session.ledger.folder(entry).read_config()["head"]["scale"] for entry in entries] == [16.0, 16.0]


def test_a_ledger_from_before_launchers_were_kept_is_read(failed: Ledger) -> None:
    (failed.root / "sweep.json").write_text(json.dumps({"name": "m", "swept": ["seed"]}))
    assert failed.launcher == []
    failed.note_launcher(["hydra.launcher.n_jobs=2"])
    assert json.loads((failed.root / "sweep.json").read_text())["swept"] == ["seed"]
    assert failed.launcher == ["hydra.launcher.n_jobs=2"]


def test_commands_that_sweep_over_nothing_have_ledgers_of_their_own(tmp_path: Path) -> None:
    names = []
    for seed in (0, 1):
        with hydra_context([]) as hydra:
            session = Session(hydra, Arguments(["hydra.launcher.n_jobs=1"]))
            session.job(0, [*TINY, "name=m", f"seed={seed}", f"paths.runs={tmp_path}"])
            assert session.ledger is not None and session.ledger.launcher == ["hydra.launcher.n_jobs=1"]
            names.append(session.ledger.root.name)
    assert names[0].startswith("m-seed0-") and names[1].startswith("m-seed1-")
