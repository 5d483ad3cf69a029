"""Optuna over our jobs: the study goes on where it was, prunes, and finds fronts that a plain computation finds too."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("optuna", reason='hydra/sweeper=optuna: pip install "kdface[optuna]"')

from kdface.config.compose import hydra_context
from kdface.errors import UserError
from kdface.runs.folder import RunFolder
from kdface.sweeps import marks
from kdface.sweeps.engine import Ended, Job, drive
from kdface.sweeps.ledger import Entry, Ledger, State
from kdface.sweeps.search import Search, check_measured, check_settings
from kdface.sweeps.space import Space
from tests.conftest import TINY, Kdface

Objective = Callable[[Mapping[str, float]], dict[str, float]]


@pytest.fixture(autouse=True)
def within_hydra() -> Iterator[None]:
    with hydra_context([]):
        yield


class Computed:
    """A backend whose jobs write the objectives of their point and end at once; `writes` may do more before that."""

    capacity = at_once = 1

    def __init__(self, objective: Objective, stop_after: int | None = None) -> None:
        self.objective = objective
        self.left = stop_after
        self.running: list[Job] = []
        self.asked: list[dict[str, str]] = []

    def start(self, jobs: Sequence[Job]) -> None:
        self.running += jobs
        self.asked += [job.entry.point for job in jobs]

    def ended(self, seconds: float) -> list[Ended]:
        if not self.running:
            return []
        if self.left is not None:
            if self.left == 0:
                raise KeyboardInterrupt
            self.left -= 1
        job = self.running.pop()
        values = self.objective({key: float(value) for key, value in job.entry.point.items()})
        metrics = {name: {"value": value, "std": None} for name, value in values.items()}
        job.folder.results.write_text(json.dumps({"metrics": metrics}))
        job.folder.mark_done()
        return [(job, 0)]

    def adopt(self, job: Job) -> bool:
        return False

    def waiting(self) -> dict[int, str]:
        return {}

    def stop(self, job: Job) -> None: ...

    def close(self) -> None: ...


class Silent:
    def started(self, job: Job) -> None: ...

    def ended(self, job: Job, state: State, text: str, seconds: float) -> None: ...

    def tick(self, running: Sequence[Job], elsewhere: Sequence[Job], waiting: object) -> None: ...


def _search(ledger: Ledger, words: list[str], objectives: Any, n_trials: int, **settings: Any) -> Search:
    space = Space.parse(words)

    def make(number: int, overrides: list[str]) -> Job:
        point = dict(override.split("=") for override in overrides)
        entry = Entry(run="m/" + "-".join(point.values()), point=point, base="same")
        folder = RunFolder(ledger.runs / entry.run)
        if ledger.find(entry.run) is None:
            ledger.write(entry)
        return Job(number, entry, folder, lambda: folder.root.mkdir(parents=True, exist_ok=True))

    defaults = {"sampler": "tpe", "pruner": "none", "warmup_trials": 2, "warmup_steps": 0, "seed": 0}
    return Search(ledger, space, make, "same", objectives, n_trials=n_trials, **{**defaults, **settings})


def _bowl(point: Mapping[str, float]) -> dict[str, float]:
    return {"t/eer": (point["x"] - 0.3) ** 2}


def test_a_search_finds_the_bottom_of_a_bowl(tmp_path: Path) -> None:
    ledger = Ledger.of(tmp_path / "runs", ["m"], ["x"])
    search = _search(ledger, ["x=interval(-1,1)"], {"t/eer": "minimize"}, 25)
    drive(search, Computed(_bowl), ledger, Silent())
    assert "best" in search.summary()
    (best,) = json.loads((ledger.root / "best.json").read_text())["trials"]
    assert abs(best["params"]["x"] - 0.3) < 0.2


def test_a_stopped_search_goes_on_with_the_points_of_one_that_was_not(tmp_path: Path) -> None:
    words, objectives = ["x=interval(-1,1)", "n=int(interval(1,9))"], {"t/eer": "minimize"}
    calm = Ledger.of(tmp_path / "calm", ["m"], ["x", "n"])
    whole = Computed(_bowl)
    drive(_search(calm, words, objectives, 16), whole, calm, Silent())
    ledger = Ledger.of(tmp_path / "stopped", ["m"], ["x", "n"])
    asked: list[dict[str, str]] = []
    for stop_after in (5, 7, None):
        part = Computed(_bowl, stop_after)
        try:
            drive(_search(ledger, words, objectives, 16), part, ledger, Silent())
        except KeyboardInterrupt:
            asked += part.asked[:-1]  # the last one was cut off and is asked for again
        else:
            asked += part.asked
    assert asked == whole.asked and len(asked) == 16


def test_the_front_of_two_objectives_is_that_of_a_plain_computation(tmp_path: Path) -> None:
    ledger = Ledger.of(tmp_path / "runs", ["m"], ["x", "y"])
    backend = Computed(lambda p: {"t/a": (p["x"] - 1) ** 2 + p["y"], "t/b": (p["x"] + 1) ** 2 - p["y"] ** 2})
    objectives = {"t/a": "minimize", "t/b": "maximize"}
    search = _search(ledger, ["x=interval(-2,2)", "y=interval(0,1)"], objectives, 30, sampler="random")
    drive(search, backend, ledger, Silent())
    assert "Pareto front" in search.summary()
    found = {trial["run"] for trial in json.loads((ledger.root / "best.json").read_text())["trials"]}
    scored = {}
    for entry in ledger.entries():
        if ledger.folder(entry).done:
            x, y = float(entry.point["x"]), float(entry.point["y"])
            scored[entry.run] = ((x - 1) ** 2 + y, -((x + 1) ** 2 - y**2))
    front = {
        run
        for run, one in scored.items()
        if not any(all(o <= m for o, m in zip(other, one, strict=True)) and other != one for other in scored.values())
    }
    assert found == front


def test_a_trial_worse_than_the_median_is_given_up(tmp_path: Path) -> None:
    ledger = Ledger.of(tmp_path / "runs", ["m"], ["x"])
    search = _search(ledger, ["x=range(0,10)"], {"t/auc": "maximize"}, 10, pruner="median", sampler="random")

    def evaluate(job: Job, value: float) -> None:
        job.folder.root.mkdir(parents=True, exist_ok=True)
        row = {"kind": "evaluation", "step": 10, "metrics": {"t/auc": {"value": value, "std": None}}}
        job.folder.metrics.write_text(json.dumps(row) + "\n")

    for value in (0.7, 0.8, 0.9):
        job = search.next()
        assert job is not None
        evaluate(job, value)
        assert not search.give_up(job)
        job.folder.results.write_text(json.dumps({"metrics": {"t/auc": {"value": value, "std": None}}}))
        job.folder.mark_done()
        search.ended(job, State.DONE)
    good, bad = search.next(), search.next()
    assert good is not None and bad is not None
    evaluate(good, 0.85)
    evaluate(bad, 0.79)
    assert not search.give_up(good)  # the median of 0.7, 0.8, 0.9 is 0.8
    assert search.give_up(bad)
    search.ended(bad, State.PRUNED)
    assert [trial.state.name for trial in search.study.trials] == ["COMPLETE"] * 3 + ["RUNNING", "PRUNED"]


def _states(search: Search) -> list[str]:
    return [trial.state.name for trial in search.study.trials]


def test_a_point_that_makes_no_configuration_is_a_failed_trial(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger = Ledger.of(tmp_path / "runs", ["m"], ["x"])
    search = _search(ledger, ["x=interval(-1,1)"], {"t/eer": "minimize"}, 4)
    make, asked = search.make, []

    def picky(number: int, overrides: list[str]) -> Job:
        asked.append(overrides)
        if len(asked) == 2:
            raise UserError("x does not fit y.")
        return make(number, overrides)

    search.make = picky
    backend = Computed(_bowl)
    drive(search, backend, ledger, Silent())
    assert len(backend.asked) == 3 and _states(search) == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert search.refused == [f"{asked[1][0]}: x does not fit y."]
    assert "x does not fit y." in capsys.readouterr().err


def test_two_searches_at_once_share_the_trials(tmp_path: Path) -> None:
    """Each draws what the other has not: together they make the trials that were asked for, at different points."""
    ledger = Ledger.of(tmp_path / "runs", ["m"], ["x"])
    pair = [_search(ledger, ["x=interval(-1,1)"], {"t/eer": "minimize"}, 6) for _ in range(2)]
    jobs = [sampler.next() for _ in range(4) for sampler in pair]
    assert [job is not None for job in jobs] == [True] * 6 + [False] * 2
    assert len({job.entry.run for job in jobs if job is not None}) == 6
    assert _states(pair[0]) == ["RUNNING"] * 6


def test_a_retried_trial_counts_once(tmp_path: Path) -> None:
    ledger = Ledger.of(tmp_path / "runs", ["m"], ["x"])
    words, objectives = ["x=interval(-1,1)"], {"t/eer": "minimize"}
    search = _search(ledger, words, objectives, 3)
    job = search.next()
    assert job is not None
    search.ended(job, State.FAILED)
    job.folder.root.mkdir(parents=True)
    job.folder.results.write_text(json.dumps({"metrics": {"t/eer": {"value": 0.5, "std": None}}}))
    job.folder.mark_done()  # as after a retry by hand
    for done in (1, 2):  # one new trial in each of two further commands
        search = _search(ledger, words, objectives, 1 + done)
        drive(search, Computed(_bowl), ledger, Silent())
        assert sum(state == "COMPLETE" for state in _states(search)) == 1 + done
    assert _states(search) == ["COMPLETE", "COMPLETE", "COMPLETE"]


def test_a_failed_trial_counts_and_is_told_of_again_until_it_is_retried(tmp_path: Path) -> None:
    class Listening(Silent):
        def ended(self, job: Job, state: State, text: str, seconds: float) -> None:
            told.append(text)

    ledger = Ledger.of(tmp_path / "runs", ["m"], ["x"])
    words, objectives = ["x=interval(-1,1)"], {"t/eer": "minimize"}
    search = _search(ledger, words, objectives, 1)
    job = search.next()
    assert job is not None
    job.folder.root.mkdir(parents=True)
    job.folder.config.touch()
    marks.note_failure(job.folder, "out of luck")
    search.ended(job, State.FAILED)
    for n_trials in (1, 2, 2):
        told: list[str] = []
        backend = Computed(_bowl)
        search = _search(ledger, words, objectives, n_trials)
        drive(search, backend, ledger, Listening())
        assert told[0] == "failed already"
    assert len(backend.asked) == 0 and _states(search) == ["RUNNING", "COMPLETE"]
    marks.forget_failure(job.folder)
    job.folder.results.write_text(json.dumps({"metrics": {"t/eer": {"value": 0.5, "std": None}}}))
    job.folder.mark_done()  # as after a retry by hand
    search = _search(ledger, words, objectives, 2)
    drive(search, Computed(_bowl), ledger, Silent())
    assert _states(search) == ["COMPLETE", "COMPLETE"] and search.study.trials[0].values == [0.5]


def test_what_a_trial_evaluated_last_counts_for_pruning(tmp_path: Path) -> None:
    """The job ended before anybody looked at its record."""
    ledger = Ledger.of(tmp_path / "runs", ["m"], ["x"])
    search = _search(ledger, ["x=range(0,10)"], {"t/auc": "maximize"}, 3, pruner="median", sampler="random")
    job = search.next()
    assert job is not None
    job.folder.root.mkdir(parents=True)
    rows = [
        {"kind": "evaluation", "step": step, "metrics": {"t/auc": {"value": value, "std": None}}}
        for step, value in ((5, 0.6), (10, 0.7))
    ]
    job.folder.metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))
    job.folder.results.write_text(json.dumps({"metrics": {"t/auc": {"value": 0.7, "std": None}}}))
    job.folder.mark_done()
    search.ended(job, State.DONE)
    assert search.study.trials[0].intermediate_values == {5: 0.6, 10: 0.7}
    assert search.study.trials[0].state.name == "COMPLETE"


def test_an_objective_that_no_run_measures_is_told_of(tmp_path: Path) -> None:
    ledger = Ledger.of(tmp_path / "runs", ["m"], ["x"])
    search = _search(ledger, ["x=interval(-1,1)"], {"t/err": "minimize"}, 3)
    with pytest.raises(UserError, match="t/err") as told:
        drive(search, Computed(_bowl), ledger, Silent())
    assert "t/eer" in str(told.value)


def test_settings_that_no_search_can_have_are_told_of() -> None:
    with pytest.raises(UserError, match="needs an objective"):
        check_settings({}, "none")
    with pytest.raises(UserError, match="one objective, but there are 2"):
        check_settings({"a": "minimize", "b": "maximize"}, "median")
    check_settings({"a": "minimize"}, "median")


def test_what_the_runs_do_not_measure_is_told_before_the_first_one() -> None:
    def tree(every: int | None) -> dict[str, Any]:
        tests: dict[str, Any] = {"toy_pairs": {}}
        trainer = {"check_val_every_n_epoch": every or 1, "max_epochs": 3}
        return {"evaluation": tests, "validation": tests if every else None, "trainer": trainer}

    check_measured(tree(None), {"toy_pairs/auc": "maximize"}, "none")
    with pytest.raises(UserError, match=r"no evaluation\.toy_pair") as told:
        check_measured(tree(None), {"toy_pair/auc": "maximize"}, "none")
    assert told.value.nearest == "toy_pairs"
    check_measured(tree(2), {"toy_pairs/auc": "maximize"}, "median")
    for never, told_of in ((None, "validation has no toy_pairs"), (3, "every 3 epochs")):
        # nothing is evaluated before the end, so nothing could be pruned
        with pytest.raises(UserError, match=told_of):
            check_measured(tree(never), {"toy_pairs/auc": "maximize"}, "hyperband")


def test_a_search_that_could_not_prune_is_refused(kdface: Kdface) -> None:
    words = [
        "train",
        "-m",
        *TINY,
        "hydra/sweeper=optuna",
        "hydra.sweeper.pruner=median",
        "optimizer.lr=interval(0.1,1)",
    ]
    said = kdface(*words, "hydra.sweeper.objectives={toy_pairs/auc: maximize}")
    assert said.code == 2 and "validation=evaluation" in said.err


def test_a_study_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    ledger = Ledger.of(tmp_path / "runs", ["m"], ["x"])
    (ledger.root / "study.db").write_bytes(b"SQLite format 3\0" + b"\xff" * 4096)
    with pytest.raises(UserError, match=r"study\.db cannot be read"):
        _search(ledger, ["x=interval(-1,1)"], {"t/eer": "minimize"}, 2)
