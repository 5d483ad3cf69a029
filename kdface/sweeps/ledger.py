"""The ledger: the jobs of a sweep. Their progress is read from their run folders and stored nowhere else.

    RUNS/sweeps/NAME-HASH/
        sweep.json                swept keys, name, and launcher of the last command
        jobs/KEY.json             one job: its run folder under RUNS, its overrides, its point of the sweep
        parents/HOST-PID/.lock    locked while a process runs this sweep
        results.csv results.json  results

A job's key is its run folder: configuration fingerprint x seed. Jobs have separate files without absolute paths or
times, so two ledgers are merged by copying complete missing run folders. If both have a run, do not copy an unfinished
one over a finished one; loading checks for that.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import os
import platform
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Any

from kdface.atomic import write_json
from kdface.config.fingerprint import difference, fingerprint
from kdface.errors import UserError, nearest
from kdface.runs.folder import Holder, RunFolder, held, holder
from kdface.runs.schemas import Job, Sweep
from kdface.stored import printable, read_json
from kdface.sweeps import marks

Change = tuple[str, Any, Any]  # key, before, after


class State(StrEnum):
    """The state of a job."""

    DONE = "done"
    RUNNING = "running"
    FAILED = "failed"
    PRUNED = "pruned"
    INTERRUPTED = "interrupted"
    WAITING = "waiting"


@dataclass(frozen=True)
class Entry:
    """One job of a sweep, as stored in its file.

    Attributes:
        run: its run folder, relative to the folder of runs.
        overrides: its overrides, without paths.
        point: swept key -> this job's value.
        base: fingerprint of the configuration without the swept values.
        ticket: its id on a cluster; empty on this machine.
        pruned: stopped early by a search.
    """

    run: str
    overrides: list[str] = field(default_factory=list)
    point: dict[str, str] = field(default_factory=dict)
    base: str = ""
    ticket: str = ""
    pruned: bool = False

    @property
    def key(self) -> str:
        """The name of its file."""
        return self.run.replace("/", "+")

    @property
    def title(self) -> str:
        """Its point in readable form, or its run."""
        return " ".join(f"{key}={value}" for key, value in self.point.items()) or self.run


def entry(runs: Path, folder: RunFolder, tree: Mapping[str, Any], overrides: list[str], swept: list[str]) -> Entry:
    """The entry of a composed job."""
    kept = [override for override in overrides if not override.lstrip("+~").startswith(("paths.", "hydra"))]
    values = dict(word.lstrip("+").partition("=")[::2] for word in kept)
    rest: dict[str, Any] = copy.deepcopy(dict(tree))
    for key in swept:
        _remove(rest, key)
    return Entry(
        run=folder.root.relative_to(runs).as_posix(),
        overrides=kept,
        point={key: values[key] for key in swept if key in values},
        base=fingerprint(rest)[:8],
    )


def _remove(tree: dict[str, Any], key: str) -> None:
    """Remove a dotted key. Swept groups are kept, since jobs are compared only with those of the same choice."""
    *parents, last = key.split(".")
    if not parents:
        return
    for parent in parents:
        tree = tree.get(parent) or {}
    tree.pop(last, None)


class Ledger:
    """The folder of one sweep."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.runs = root.parent.parent

    @classmethod
    def of(cls, runs: Path, names: list[str], swept: list[str]) -> Ledger:
        """The ledger of a command, named after its runs and swept keys, so that overlapping commands share it."""
        name = names[0].replace("/", "-") if len(set(names)) == 1 else "several"
        digest = hashlib.sha256(json.dumps(sorted(swept)).encode()).hexdigest()[:8]
        ledger = cls(runs / "sweeps" / f"{name}-{digest}")
        if not (ledger.root / "sweep.json").is_file():
            ledger._describe({"name": name, "swept": sorted(swept)})
        return ledger

    def note_launcher(self, overrides: list[str], config_dirs: Sequence[Path] = ()) -> None:
        """Record the last command's launcher overrides and --config-dir folders, for retried jobs."""
        about = _about(self.root)
        now = {key: value for key, value in about.items() if key != "config_dirs"} | {"launcher": overrides}
        if config_dirs:
            now["config_dirs"] = [str(folder.expanduser().absolute()) for folder in config_dirs]
        if {"launcher": [], **about} != now:
            self._describe(now)

    @property
    def launcher(self) -> list[str]:
        """The last command's hydra.launcher overrides."""
        return [str(word) for word in _about(self.root).get("launcher", [])]

    @property
    def config_dirs(self) -> list[Path]:
        """The last command's --config-dir folders, which may hold its launcher."""
        return [Path(folder) for folder in _about(self.root).get("config_dirs", [])]

    def _describe(self, about: dict[str, Any]) -> None:
        try:
            write_json(self.root / "sweep.json", about)
        except OSError as error:
            raise UserError(
                f"paths.runs: {error.strerror} ({error.filename}).", fix="paths.runs=ANOTHER_FOLDER"
            ) from None

    @classmethod
    def at(cls, path: str) -> Ledger:
        """The ledger in a folder given by the user. Raises `UserError` if there is none."""
        given = Path(path).expanduser()
        if (given / "sweep.json").is_file():
            return cls(given.resolve())
        below = sorted(path.parent for path in given.rglob("sweep.json")) if given.is_dir() else []
        if len(below) == 1:
            return cls(below[0].resolve())
        beside = [str(path.parent) for path in given.parent.glob("*/sweep.json")] if given.parent.is_dir() else []
        raise UserError(
            f"{path}: the folder contains {f'{len(below)} sweeps' if below else 'no sweep'}.",
            expected="the folder of one sweep, written by kdface train -m",
            nearest=", ".join(map(str, below[:3])) or nearest(str(given), beside),
            fix="ls -d runs/sweeps/*",
        )

    def entries(self, tell: Callable[[str], object] | None = None) -> list[Entry]:
        """The jobs, sorted by key.

        Args:
            tell: receives the error for each unreadable file, whose job is skipped.

        Raises:
            UserError: a file cannot be read, and there is no `tell`.
        """
        found = []
        for file in sorted((self.root / "jobs").glob("*.json")):
            try:
                found.append(_read(file))
            except UserError as error:
                if tell is None:
                    raise
                tell(error.problem)
        return sorted(found, key=lambda entry: entry.key)

    def find(self, run: str) -> Entry | None:
        """The entry of a run; None if it is not a job of this sweep."""
        file = self._file(Entry(run))
        return _read(file) if file.is_file() else None

    def write(self, entry: Entry) -> None:
        """Write an entry if it has changed."""
        file = self._file(entry)
        if not file.is_file() or _read(file) != entry:
            write_json(file, asdict(entry))

    def _file(self, entry: Entry) -> Path:
        return self.root / "jobs" / f"{entry.key}.json"

    def folder(self, entry: Entry) -> RunFolder:
        """The run folder of an entry."""
        return RunFolder(self.runs / entry.run)

    def state(self, entry: Entry) -> State:
        """The state of a job, from its run folder, or from its own file if pruned."""
        folder = self.folder(entry)
        return State.RUNNING if not folder.done and held(folder) else self.state_of_ended(entry)

    def state_of_ended(self, entry: Entry) -> State:
        """The state of a job that does not run, though leftover processes may hold the lock of its folder."""
        folder = self.folder(entry)
        if folder.done:
            return State.DONE
        if entry.pruned:
            return State.PRUNED
        if marks.failure(folder) is not None:
            return State.FAILED
        return State.INTERRUPTED if (folder.root / "environment.json").is_file() else State.WAITING

    def changes(self, new: Entry, tree: Mapping[str, Any], swept: list[str]) -> list[Change]:
        """Configuration changes, other than the swept values, compared with earlier jobs of the same choices.

        Empty if nothing is swept.
        """
        if not swept:
            return []
        groups = [key for key in swept if "." not in key and key != "seed"]
        others = [other for other in self.entries() if all(other.point.get(g) == new.point.get(g) for g in groups)]
        if not others or any(other.base == new.base for other in others):
            return []
        for other in others:
            folder = self.folder(other)
            if folder.config.is_file():
                ignored = ("paths", "logger", "name", "seed", *(key for key in swept if "." in key))
                rows = difference(folder.read_config(), tree)
                return [row for row in rows if not any(f"{row[0]}.".startswith(f"{prefix}.") for prefix in ignored)]
        return []

    @contextlib.contextmanager
    def attended(self) -> Iterator[None]:
        """Register this process as running the sweep, so that `stop` finds it."""
        mark = RunFolder(self.root / "parents" / f"{platform.node()}-{os.getpid()}")
        self.parents()  # removes the marks of killed processes
        if mark.root.is_file():  # of an earlier version, by a process of the same number
            mark.root.unlink()
        try:
            with mark.locked():
                yield
        finally:
            shutil.rmtree(mark.root, ignore_errors=True)

    def parents(self) -> list[Holder]:
        """The processes that run this sweep, on any machine. Removes the marks of killed ones."""
        found = []
        for folder in sorted((self.root / "parents").glob("*")):
            mark, (host, _, pid) = RunFolder(folder), folder.name.rpartition("-")
            if held(mark):
                if pid.isdecimal():
                    found.append(Holder(int(pid), printable(host)))
            elif holder(mark) is not None:  # an empty lock is that of a process that is about to hold it
                shutil.rmtree(folder, ignore_errors=True)
        return found


def _about(root: Path) -> dict[str, Any]:
    file = root / "sweep.json"
    found: dict[str, Any] = read_json(file, Sweep, fix=f"rm {file}; rerun the same command to write it")
    return found


def _read(file: Path) -> Entry:
    """Read a job of a ledger. Raises `UserError` if its run is outside the folder of runs: files may be untrusted."""
    fix = f"remove it; the sweep writes it again: rm {file}"
    entry = Entry(**read_json(file, Job, fix=fix))
    run = PurePosixPath(entry.run)
    if run.is_absolute() or ".." in run.parts or not run.parts or "\0" in entry.run:
        raise UserError(
            f"{file} is not a job of a sweep: run = {entry.run!r} points outside the folder of runs.", fix=fix
        )
    return entry
