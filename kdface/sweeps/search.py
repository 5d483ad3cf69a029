"""Search with Optuna, which proposes points; the ledger and run folders store everything else.

The study is stored in study.db (SQLite) in the sweep's folder and resumes. Trial n is sampled with a seed derived from
(seed, n), so with one job at a time a resumed search proposes the same points as an uninterrupted one.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Literal

from annotated_types import Ge

from kdface.atomic import write_json
from kdface.errors import UserError, nearest
from kdface.metric_names import current
from kdface.randomness import derive
from kdface.runs.records import read
from kdface.sweeps.engine import Job
from kdface.sweeps.ledger import Ledger, State
from kdface.sweeps.space import Dimension, Space

Make = Callable[[int, list[str]], Job]


def _name(base: str, objectives: Mapping[str, str], space: Space) -> str:
    """The name of a study, from its configuration, objectives and space, since Optuna rejects other spaces."""
    text = repr([base, sorted(objectives.items()), [repr(dimension) for dimension in space.dimensions]])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


class Search:
    """A source of jobs chosen by a study.

    Args:
        ledger: ledger of the sweep.
        space: search space.
        make: (number, overrides) -> job.
        base: fingerprint of the configuration without the searched values; a different one is a different study.
        objectives: current or earlier metric name in results.json -> maximize or minimize.
        n_trials: total number of trials, including those of earlier commands.
        sampler: tpe (Bergstra et al. 2011) or random.
        pruner: none, median (stop trials worse than the median of earlier trials at that step) or hyperband
            (Li et al. 2018).
        warmup_trials: trials that finish before the median is used.
        warmup_steps: steps before a trial can be pruned.
        seed: seed of the samplers.

    Attributes:
        refused: trials with an invalid configuration, each with its error.
    """

    adaptive = True

    def __init__(
        self,
        ledger: Ledger,
        space: Space,
        make: Make,
        base: str,
        objectives: Mapping[str, Literal["maximize", "minimize"]],
        *,
        n_trials: Annotated[int, Ge(1)] = 20,
        sampler: Literal["tpe", "random"] = "tpe",
        pruner: Literal["none", "median", "hyperband"] = "none",
        warmup_trials: Annotated[int, Ge(0)] = 5,
        warmup_steps: Annotated[int, Ge(0)] = 0,
        seed: int = 0,
    ) -> None:
        self._optuna = optuna = _optuna()
        self._states = optuna.trial.TrialState
        self.ledger = ledger
        self.space = space
        self.make = make
        self.objectives = {current(name): direction for name, direction in objectives.items()}
        self.n_trials = n_trials
        self.sampler = sampler
        self.seed = seed
        self.prunes = pruner != "none"
        self.trials: dict[int, Any] = {}
        self.refused: list[str] = []
        self._seen: dict[int, int] = {}  # trial -> size of its record at the last check
        database = ledger.root / "study.db"
        try:
            self.study = optuna.create_study(
                storage=f"sqlite:///{database}",
                study_name=_name(base, objectives, space),  # as typed, so that an earlier study resumes
                directions=list(self.objectives.values()),
                load_if_exists=True,
                pruner=_pruner(optuna, pruner, warmup_trials, warmup_steps),
            )
        except Exception as error:  # from SQLite, through two libraries
            raise UserError(
                f"{database} cannot be read: {str(error).splitlines()[0]}.",
                expected="the study of this search; without it the search starts over, but finished runs are kept",
            ) from None
        self._distributions = {dimension.key: _distribution(optuna, dimension) for dimension in space.dimensions}
        with self._alone():
            self._left = self.study.get_trials(deepcopy=False, states=(self._states.RUNNING,))

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Lock the study while drawing, so that parallel processes see each other's trials."""
        with open(self.ledger.root / "study.lock", "a", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def next(self) -> Job | None:
        """A trial left open by an earlier command, or else a new one.

        A point with an invalid configuration is reported, counts as a failed trial, and is replaced by the next one.
        """
        while (trial := self._trial()) is not None:
            point = self._point(trial)
            try:
                job = self.make(trial.number, self.space.job(point))
            except UserError as error:
                self.study.tell(trial, state=self._states.FAIL, skip_if_finished=True)
                self.refused.append(f"{' '.join(f'{key}={value}' for key, value in point.items())}: {error.problem}")
                print(f"trial {trial.number}: {error}", file=sys.stderr)
                continue
            trial.set_user_attr("run", job.entry.run)
            self.trials[job.number] = trial
            return job
        return None

    def _point(self, trial: Any) -> dict[str, str]:
        """The values of a trial, as written in overrides."""
        return {dimension.key: dimension.text(trial.params[dimension.key]) for dimension in self.space.dimensions}

    def _trial(self) -> Any:
        """The next trial with its values; None if there are enough."""
        with self._alone():
            while self._left:
                frozen = self._left.pop(0)
                trial = self._optuna.trial.Trial(self.study, frozen._trial_id)
                if self._chosen(frozen):
                    return trial
                # interrupted while being drawn
                self.study.tell(trial, state=self._states.FAIL, skip_if_finished=True)
            number = sum(map(self._chosen, self.study.get_trials(deepcopy=False)))
            if number >= self.n_trials:
                return None
            self.study.sampler = _sampler(self._optuna, self.sampler, derive(self.seed, "optuna", number) % 2**32)
            return self.study.ask(self._distributions)

    def _chosen(self, trial: Any) -> bool:
        """Whether a trial counts: all its values are drawn."""
        return all(key in trial.params for key in self._distributions)

    def give_up(self, job: Job) -> bool:
        """Report new evaluations of the job to the study. Returns whether to prune it."""
        if not self.prunes or not job.folder.metrics.is_file():
            return False
        size = job.folder.metrics.stat().st_size
        if self._seen.get(job.number) == size:
            return False
        self._seen[job.number] = size
        self._report(job)
        return bool(self.trials[job.number].should_prune())

    def _report(self, job: Job) -> None:
        """Report the evaluations in a job's record to the study."""
        (name,) = self.objectives
        trial = self.trials[job.number]
        for record in read(job.folder.metrics):
            value = (record.get("metrics") or {}).get(name) if record["kind"] == "evaluation" else None
            if value is not None and value["value"] is not None:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # steps reported before are ignored
                    trial.report(float(value["value"]), int(record["step"]))

    def ended(self, job: Job, state: State) -> None:
        """Report the result to the study. The trial of an interrupted or failed job stays open for the same command,
        which resumes the former and asks for the result of the latter, if it was retried since."""
        if state not in (State.DONE, State.PRUNED):
            return
        trial = self.trials[job.number]
        if self.prunes and job.folder.metrics.is_file():
            with contextlib.suppress(RuntimeError, ValueError):  # already reported by another process
                self._report(job)  # the latest evaluations, which later trials are compared with
        values = self._values(job) if state is State.DONE else None
        if values is not None:
            self.study.tell(trial, values, skip_if_finished=True)
        else:
            ended = self._states.PRUNED if state is State.PRUNED else self._states.FAIL
            self.study.tell(trial, state=ended, skip_if_finished=True)

    def _values(self, job: Job) -> list[float] | None:
        """The objectives of a finished run; None if the data could not resolve one."""
        metrics = job.folder.read_results()["metrics"]
        for name in self.objectives:
            if name not in metrics:
                raise UserError(
                    f"hydra.sweeper.objectives names {name!r}, which the runs of this search do not measure.",
                    expected=f"one of {', '.join(metrics) or 'none: the runs evaluate nothing'}",
                    nearest=nearest(name, metrics),
                    fix="kdface list evaluation",
                )
        values = [metrics[name]["value"] for name in self.objectives]
        return None if None in values else [float(value) for value in values]

    def summary(self) -> str:
        """The best trial, or the Pareto front of two objectives; also written to best.json."""
        if not any(trial.state == self._states.COMPLETE for trial in self.study.get_trials(deepcopy=False)):
            return "no trial has finished yet"
        best = sorted(self.study.best_trials, key=lambda trial: trial.values)
        found = [
            {
                "run": trial.user_attrs["run"],
                "params": dict(sorted(trial.params.items())),
                "values": dict(zip(self.objectives, trial.values, strict=True)),
            }
            for trial in best
        ]
        write_json(self.ledger.root / "best.json", {"objectives": self.objectives, "trials": found})
        title = "best" if len(self.objectives) == 1 else "Pareto front"
        lines = [f"{title} ({', '.join(f'{direction} {name}' for name, direction in self.objectives.items())}):"]
        for front in found:
            values = ", ".join(f"{value:.4f}" for value in front["values"].values())
            point = " ".join(f"{key}={value}" for key, value in front["params"].items())
            lines.append(f"  {values}  {point}  {front['run']}")
        return "\n".join(lines)


def check_settings(objectives: Mapping[str, str], pruner: str) -> None:
    """Raise `UserError` for invalid search settings."""
    if not objectives:
        raise UserError(
            "a search needs an objective.",
            expected="one metric of results.json, or two, each with maximize or minimize",
            fix="'hydra.sweeper.objectives={toy_pairs/auc: maximize}'",
        )
    if len(objectives) > 1 and pruner != "none":
        raise UserError(
            f"hydra.sweeper.pruner={pruner} supports one objective, but there are {len(objectives)}.",
            fix="hydra.sweeper.pruner=none, or one objective",
        )
    _optuna()


def check_measured(tree: Mapping[str, Any], objectives: Mapping[str, str], pruner: str) -> None:
    """Raise `UserError` if runs of a configuration do not measure what a search needs."""
    tests = list(tree["evaluation"] or {})
    for name in objectives:
        test = name.partition("/")[0]
        if test not in tests:
            raise UserError(
                f"hydra.sweeper.objectives names {name!r}, but there is no evaluation.{test}.",
                expected=f"TEST/METRIC, TEST being one of {', '.join(tests) or 'none: evaluation=none'}",
                nearest=nearest(test, tests),
            )
    every = tree["trainer"].get("check_val_every_n_epoch", 1)
    seen = tree.get("validation") or {}
    unseen = [name for name in objectives if name.partition("/")[0] not in seen]
    if pruner != "none" and (unseen or every >= tree["trainer"]["max_epochs"]):
        raise UserError(
            f"hydra.sweeper.pruner={pruner} compares trials by their evaluations during training, but "
            + (
                f"validation has no {unseen[0].partition('/')[0]}."
                if unseen
                else f"they evaluate every {every} epochs."
            ),
            fix="validation=evaluation trainer.check_val_every_n_epoch=1, or hydra.sweeper.pruner=none",
        )


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise UserError("hydra/sweeper=optuna: Optuna is not installed.", fix='pip install "kdface[optuna]"') from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _distribution(optuna: Any, dimension: Dimension) -> Any:
    kinds = optuna.distributions
    if dimension.choices:
        return kinds.CategoricalDistribution(dimension.choices)
    if dimension.integer:
        step = 1 if dimension.log else round(dimension.step or 1)
        return kinds.IntDistribution(int(dimension.low), int(dimension.high), log=dimension.log, step=step)
    return kinds.FloatDistribution(
        dimension.low, dimension.high, log=dimension.log, step=None if dimension.log else dimension.step
    )


def _sampler(optuna: Any, name: str, seed: int) -> Any:
    if name == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    return optuna.samplers.TPESampler(seed=seed, constant_liar=True)


def _pruner(optuna: Any, name: str, trials: int, steps: int) -> Any:
    if name == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=trials, n_warmup_steps=steps)
    if name == "hyperband":
        return optuna.pruners.HyperbandPruner(min_resource=max(1, steps))
    return optuna.pruners.NopPruner()
