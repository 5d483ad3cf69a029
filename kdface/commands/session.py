"""Compose and run one sweep."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf

from kdface.assembly.build import build
from kdface.commands.arguments import Arguments, is_hydras, is_search_path
from kdface.commands.prepare import prepare_run, run_folder
from kdface.config.check import UnknownKeyError, check_part
from kdface.config.compose import Composed, compose_in, load
from kdface.config.hydra_api import Chosen, Hydra, grid
from kdface.config.locate import BASIC_SWEEPER
from kdface.config.settings import num_devices
from kdface.errors import UserError
from kdface.sweeps.engine import Job, Listed, Source, drive
from kdface.sweeps.ledger import Change, Ledger, State, entry
from kdface.sweeps.search import Search, check_measured, check_settings
from kdface.sweeps.space import Space
from kdface.sweeps.table import write_results
from kdface.sweeps.view import Watcher
from kdface.terminal import shown
from kdface.training.identity import require_same_data, require_same_teachers

_CHOICES = {"launcher": "process, slurm or ray", "sweeper": "basic, random or optuna"}


class Session:
    """Composes and runs one sweep.

    Args:
        hydra: an open context.
        arguments: the command line.
        name: name of the ledger; empty: the name of its runs.
        launcher: the node of its launcher; empty: set by `check`.
    """

    def __init__(
        self, hydra: Hydra, arguments: Arguments, name: str = "", launcher: Mapping[str, Any] = MappingProxyType({})
    ) -> None:
        self.hydra = hydra
        self.arguments = arguments
        self.name = name
        self.swept: list[str] = []
        self.ledger: Ledger | None = None
        self.failed: list[str] = []
        self.unfinished: list[str] = []
        self.grid: list[list[str]] | None = None  # the jobs known in advance; None for a search
        self.launcher = launcher
        self.sweeper: Mapping[str, Any] = {}  # the node of a search
        self.space: Space | None = None  # of a search
        self._composed: dict[tuple[str, ...], Composed] = {}

    def check(self) -> None:
        """Compose and check each job, to report mistakes as `UserError` before the first one starts."""
        for job in self.plan():
            tree = self.compose(job).tree
            if "objectives" in self.sweeper:
                check_measured(tree, self.sweeper["objectives"], self.sweeper["pruner"])
        if self.space is not None and "objectives" not in self.sweeper:
            self.grid = build(self.sweeper, path="hydra.sweeper", space=self.space)

    def plan(self) -> list[list[str]]:
        """Read the command line; the jobs to check: all of a grid, or the corners of a search's space."""
        overrides = self.arguments.overrides
        # Each job checks its values: they may belong to a swept choice.
        choosing = [
            override
            for override in overrides
            if override.lstrip("+~").startswith("hydra") or "." not in override.partition("=")[0]
        ]
        several = _swept(choosing)
        fixed = load(self.hydra, [choice for choice in choosing if choice not in several])
        self.launcher = checked_node(fixed, "launcher")
        sweeper = fixed.config.hydra.sweeper
        given = [*(f"{key}={value}" for key, value in (sweeper.params or {}).items()), *overrides]
        if sweeper._target_ == BASIC_SWEEPER:
            several = _swept(given)
            self.swept = [word.lstrip("+").partition("=")[0] for word in given if word in several]
            _require_grid(several)
            self.grid = grid(self.hydra, given)
            return self.grid
        if "objectives" in sweeper:
            check_settings(sweeper.objectives or {}, sweeper.pruner)
        self.sweeper = checked_node(fixed, "sweeper")
        self.space = Space.parse([override for override in given if not is_hydras(override)])
        self.swept = self.space.keys
        return self.space.corners()

    def run(self) -> None:
        """Run the checked sweep, without Hydra, which would compose a grid's jobs again."""
        if self.grid is not None:
            self.run_listed(self.grid)
        else:
            self._run_search()

    def compose(self, overrides: Sequence[str]) -> Composed:
        """The configuration of a job, composed once per command, so that a drawn seed is kept."""
        key = tuple(overrides)
        if key not in self._composed:
            composed = compose_in(self.hydra, list(overrides))
            if (nodes := composed.tree["trainer"].get("num_nodes", 1)) > 1:
                raise UserError(
                    f"trainer.num_nodes = {nodes} in a sweep: each job runs on a single machine.",
                    fix="trainer.num_nodes=1, or single runs: srun kdface train ..., torchrun -m kdface train ...",
                )
            self._composed[key] = composed
        return self._composed[key]

    def job(self, number: int, overrides: Sequence[str]) -> Job:
        """Compose a job and add it to the ledger."""
        composed = self.compose(overrides)
        folder, ledger = run_folder(composed), self._ledger()
        made = entry(ledger.runs, folder, composed.tree, list(overrides), self.swept)
        found = ledger.find(made.run)
        if found is None:
            tell_changes(ledger.changes(made, composed.tree, self.swept))
            ledger.write(made)
        own = Arguments(overrides=list(overrides), config_dirs=self.arguments.config_dirs)
        devices = num_devices(composed.tree["trainer"])
        return Job(number, found or made, folder, lambda: prepare_run(folder, composed, own), devices)

    def _ledger(self) -> Ledger:
        if self.ledger is None:
            known = [composed.tree for composed in self._composed.values()]
            if len({tree["paths"]["runs"] for tree in known}) > 1:
                raise UserError("paths.runs cannot be swept over: a sweep has one folder.", fix="paths.runs=FOLDER")
            runs = Path(known[0]["paths"]["runs"])
            names = [tree["name"] for tree in known]
            if self.name:
                names = [self.name]
            elif not self.swept:  # nothing is swept: named after the run folder
                names = [run_folder(composed).root.relative_to(runs).as_posix() for composed in self._composed.values()]
            self.ledger = Ledger.of(runs, names, self.swept)
            self.ledger.note_launcher(launcher_words(self.arguments.overrides), self.arguments.config_dirs)
        return self.ledger

    def run_listed(self, overrides: Sequence[Sequence[str]]) -> None:
        """Run jobs known in advance."""
        trees = [self.compose(override).tree for override in overrides]
        jobs = [self.job(number, words) for number, words in enumerate(overrides)]
        needs = {job.number: needed(tree, job, jobs) for tree, job in zip(trees, jobs, strict=True)}
        source = Listed(jobs, needs)
        require_same_data((job.folder, tree) for job, tree in zip(jobs, trees, strict=True))
        self._drive(source, jobs, len(jobs))
        require_same_teachers(job.folder for job in jobs)  # a teacher may have just been retrained
        if source.jobs:
            names = ", ".join(str(job.folder.root) for job in source.jobs)
            raise UserError(
                f"these runs depend on each other, so none was started: {names}.", fix="another teacher.run"
            )

    def _run_search(self) -> None:
        assert self.space is not None
        corner = self.space.corners()[0]
        ledger = self._ledger()
        composed = self.compose(corner)
        base = entry(ledger.runs, run_folder(composed), composed.tree, corner, self.swept).base
        require_same_teachers(ledger.folder(entry) for entry in ledger.entries() if entry.base == base)
        known: dict[str, Any] = {"ledger": ledger, "space": self.space, "make": self.job, "base": base}
        search: Search = build(self.sweeper, path="hydra.sweeper", **known)
        try:
            self._drive(search, [], search.n_trials)
        finally:
            self.failed += search.refused
            print(search.summary())

    def _drive(self, source: Source, jobs: Sequence[Job], total: int) -> None:
        assert self.ledger is not None
        done = sum(self.ledger.state(job.entry) is State.DONE for job in jobs)
        require_same_teachers(job.folder for job in jobs)
        print(f"{total} jobs, {done} already finished; ledger {shown(self.ledger.root)}", flush=True)
        devices = max((num_devices(composed.tree["trainer"]) for composed in self._composed.values()), default=1)
        watcher = drive_in(self.ledger, source, self.launcher, devices, total)
        self.failed += watcher.failed
        self.unfinished += watcher.unfinished

    def tell(self) -> int:
        """Print the outcome of the sweep; returns the exit code."""
        assert self.ledger is not None
        return tell(self.failed, self.unfinished, shown(self.ledger.root))


def drive_in(ledger: Ledger, source: Source, launcher: Mapping[str, Any], devices: int, total: int) -> Watcher:
    """Run a sweep with progress output; its results are always written.

    Args:
        launcher: the checked node of its launcher.
        devices: largest number of ranks of a job.
        total: number of jobs.
    """
    backend = build(launcher, path="hydra.launcher", ledger=ledger, devices=devices)
    watcher = Watcher(total)
    with watcher.live or contextlib.nullcontext():
        try:
            drive(source, backend, ledger, watcher)
        finally:
            write_results(ledger)
    return watcher


def needed(tree: Mapping[str, Any], job: Job, jobs: Sequence[Job]) -> set[int]:
    """The jobs whose run folders a configuration names, in full or up to the seed, such as those of its teacher."""
    named = set(_texts(tree))
    folders = {other.number: str(other.folder.root) for other in jobs if other.folder != job.folder}
    return {number for number, folder in folders.items() if {folder, folder.rpartition("-")[0]} & named}


def _texts(tree: Any) -> Iterator[str]:
    if isinstance(tree, str):
        yield tree
    elif isinstance(tree, Mapping | list):
        for node in tree.values() if isinstance(tree, Mapping) else tree:
            yield from _texts(node)


def launcher_words(overrides: Sequence[str]) -> list[str]:
    """The overrides of a command line that select and configure the launcher, and hydra.searchpath, to find it."""
    keys = ("hydra/launcher", "hydra.launcher")
    return [
        word
        for word in overrides
        if is_search_path(word)
        or f"{word.lstrip('+~').partition('=')[0]}.".startswith(tuple(f"{key}." for key in keys))
    ]


def _swept(words: Iterable[str]) -> dict[str, Override]:
    """The parsed overrides that give several values: `a=1,2`, `range(...)`, `choice(...)`."""
    found = {}
    for word in words:
        with contextlib.suppress(Exception):  # invalid overrides are reported on composition
            override = OverridesParser.create().parse_override(word)
            if override.is_sweep_override():
                found[word] = override
    return found


def _require_grid(several: Mapping[str, Override]) -> None:
    """Raise `UserError` for intervals in a grid: they require a search."""
    for word, override in several.items():
        if override.is_interval_sweep():
            raise UserError(
                f"{word}: an interval needs a search; a grid lists its values.",
                expected=f"values: {word.partition('=')[0]}=0.1,0.2",
                origin=f"command line: {word}",
                fix="hydra/sweeper=random, or hydra/sweeper=optuna 'hydra.sweeper.objectives={TEST/METRIC: maximize}'",
            )


def checked_node(chosen: Chosen, kind: str) -> dict[str, Any]:
    """The node of the launcher or sweeper of a composition, checked."""
    node: Any = OmegaConf.to_container(chosen.config.hydra[kind], resolve=True)
    try:
        check_part(node, f"hydra.{kind}", chosen.origins)
    except UnknownKeyError as error:
        error.fix += f", or choose another {kind}: {_CHOICES[kind]}"
        raise
    return dict(node)


def tell(failed: Iterable[str], unfinished: Iterable[str], where: str) -> int:
    """Print failed and interrupted jobs and how to continue them. Returns the exit code of the sweep."""
    failed, unfinished = list(failed), list(unfinished)
    for title in failed:
        print(f"failed: {title}", file=sys.stderr)
    for title in unfinished:
        print(f"interrupted: {title}; rerun the same command to resume it", file=sys.stderr)
    if failed:
        print(f"retry failed jobs: kdface sweep retry {where}", file=sys.stderr)
    print(f"results  {where}/results.csv")
    return 1 if failed or unfinished else 0


def tell_changes(changes: Sequence[Change]) -> None:
    """Print configuration changes other than the swept values: such jobs share a table but not their base."""
    if changes:
        print("in addition to the swept keys, the configuration differs from earlier jobs of this sweep:")
        for key, before, after in changes:
            print(f"  {key}\n    - {before}\n    + {after}", flush=True)
