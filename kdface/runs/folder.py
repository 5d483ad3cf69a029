"""The run folder: the single record of a run's configuration, progress and results.

    config.yaml  origin.json  environment.json  data.json  metrics.jsonl  checkpoints/  scores/  figures/
    results.json  DONE

Every file is written whole (`kdface.atomic`). `DONE` is written last and alone marks a run as finished.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
import platform
import stat
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, overload

import yaml

from kdface.atomic import write_json, write_text
from kdface.config.files import paths_in
from kdface.config.fingerprint import fingerprint, settings_that_differ
from kdface.config.renamed import upgraded
from kdface.errors import UserError
from kdface.metric_names import with_current_names
from kdface.runs.schemas import Card, Config, Environment, LaterResults, Origin, Results
from kdface.stored import printable, read_bytes, read_json, read_yaml

_LOOKED_THROUGH = 2_000  # most folders searched for a run
_LOCK = 512  # most bytes of a machine's name and a process's number
# Contents of a run folder; loggers add their own folders.
_FOLDERS = ("checkpoints", "scores", "figures", "evaluations", "profile")
_BEFORE_CONFIG = ("origin.json", "plan.json", "failed.json", "environment.json", "output.log")  # of a failed start
_FILES = (
    *("config.yaml", "data.json", "images.jsonl.gz", "metrics.jsonl", "results.json", "DONE", ".lock"),
    *_BEFORE_CONFIG,
)


class HeldError(UserError):
    """Another process holds the lock of a run folder."""


def open_own(path: Path, flags: int) -> IO[str]:
    """Open a file of a run folder for appending or reading, without following links.

    Raises:
        UserError: it is a link, or the run folder no longer exists.
    """
    try:
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    except FileNotFoundError:
        raise _gone(path.parent) from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _link(path) from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UserError(f"{path} is a pipe or a device, not a regular file.", expected="a regular file, or none")
    mode = "r+" if flags & os.O_RDWR else "w" if flags & os.O_WRONLY else "r"
    return os.fdopen(descriptor, mode, encoding="utf-8")


def _gone(root: Path) -> UserError:
    return UserError(
        f"{root} was removed during its run: its contents are lost.",
        fix="rerun the same command to train it again",
    )


def _link(path: Path) -> UserError:
    return UserError(
        f"{path} is a link to a place outside its run folder: nothing is written through it.",
        expected="a run folder without links to other places",
        fix=f"rm {path}, or copy the folder with cp -rL",
    )


class _Below:
    """A path below a run folder."""

    def __init__(self, *parts: str) -> None:
        self.parts = parts

    @overload
    def __get__(self, folder: None, owner: type[RunFolder]) -> _Below: ...
    @overload
    def __get__(self, folder: RunFolder, owner: type[RunFolder]) -> Path: ...
    def __get__(self, folder: RunFolder | None, owner: type[RunFolder]) -> Path | _Below:
        return self if folder is None else folder.root.joinpath(*self.parts)


@dataclass(frozen=True)
class RunFolder:
    """The paths of one run, and what is in its files.

    Attributes:
        config: the resolved configuration.
        metrics: the records, one JSON object per line.
        results: the results of the evaluation.
        images: the training images: one line with key, person and digest per image.
        last: the checkpoint to resume from.
        figures: the folder of figures.
        scores: the folder of scores, one .npz per test set.
        profile: the folder of a profiler's reports.
        evaluations: the folder of the results of `kdface evaluate`.
    """

    root: Path

    config = _Below("config.yaml")
    metrics = _Below("metrics.jsonl")
    results = _Below("results.json")
    images = _Below("images.jsonl.gz")
    last = _Below("checkpoints", "last.ckpt")
    figures = _Below("figures")
    scores = _Below("scores")
    profile = _Below("profile")
    evaluations = _Below("evaluations")

    @property
    def weights(self) -> Path:
        """The last checkpoint, or the weights of a pack (`kdface.runs.pack`)."""
        packed = self.root / "model.safetensors"
        return packed if packed.is_file() and not self.last.is_file() else self.last

    def evaluated(self) -> list[Path]:
        """The results of later evaluations, newest first."""
        found = sorted(self.evaluations.glob("*/results.json"))
        return sorted(found, key=lambda file: -file.stat().st_mtime)

    @property
    def done(self) -> bool:
        """Whether the run has finished."""
        return (self.root / "DONE").is_file()

    def mark_done(self) -> None:
        """Mark the run as finished."""
        write_text(self.root / "DONE", "finished\n")

    def read_config(self) -> dict[str, Any]:
        """The resolved configuration, with current names. Raises `UserError` if the folder is not a run."""
        if not self.config.is_file():
            raise UserError(
                f"{self.root} is not a run folder: it has no config.yaml.",
                expected="a folder written by kdface train",
                fix="ls -d runs/*/*",
            )
        tree = read_yaml(self.config, Config)
        return upgraded(tree)

    @property
    def name(self) -> str:
        """The run's name in loggers."""
        return f"{self.read_config()['name']}/{self.root.name}"

    def read_results(self) -> dict[str, Any]:
        """The results. Raises `UserError` if they cannot be read."""
        fix = f"test the network again: rm -f {self.root}/DONE; kdface run {self.root}"
        return with_current_names(read_json(self.results, Results, fix=fix))

    def read_all_results(self) -> dict[str, Any]:
        """The results, with metrics and operating points of later evaluations of the same network; no metrics if the
        run is not finished. Raises `UserError` if a file cannot be read."""
        results = self.read_results() if self.results.is_file() else {"metrics": {}}
        for later in reversed(self.read_later().values()):
            if self.is_of_end(later, results):
                for key in ("metrics", "operating_points"):
                    results[key] = (later.get(key) or {}) | (results.get(key) or {})
        return results

    def read_later(self) -> dict[Path, dict[str, Any]]:
        """The results of each `kdface evaluate`, by file. Raises `UserError` if one cannot be read."""
        return {file: self.read_evaluation(file) for file in self.evaluated()}

    def read_evaluation(self, file: Path) -> dict[str, Any]:
        """The results of a `kdface evaluate`. Raises `UserError` if they cannot be read."""
        return with_current_names(read_json(file, LaterResults, fix=f"rm -r {file.parent}, and evaluate again"))

    def read_data(self) -> dict[str, Any]:
        """The cards of the run's datasets, empty before its start. Raises `UserError` if they cannot be read."""
        return self._read("data.json", dict[str, Card])

    def read_environment(self) -> dict[str, Any]:
        """The environment of the run. Raises `UserError` if it cannot be read."""
        return self._read("environment.json", Environment)

    def read_origin(self) -> dict[str, Any]:
        """The command that created the run. Raises `UserError` if it cannot be read."""
        return self._read("origin.json", Origin)

    def _read(self, name: str, schema: Any) -> dict[str, Any]:
        path = self.root / name
        if not path.exists():
            return {}
        found: dict[str, Any] = read_json(path, schema, fix=f"rm {path}; kdface run {self.root} writes it again")
        return found

    def is_of_end(self, evaluation: Mapping[str, Any], results: Mapping[str, Any]) -> bool:
        """Whether the results of a `kdface evaluate` belong to the run's final network, not an intermediate one.

        A checkpoint keeps its name while training continues, so its step identifies the tested network. `results` are
        the run's own; for an unfinished run, which has none, the last checkpoint counts as final.
        """
        step = evaluation.get("step")
        return Path(str(evaluation.get("checkpoint"))).name == self.weights.name and step == results.get("step", step)

    def scores_of(self, test: str) -> Path | None:
        """The file of a test's arrays, from training or from a later evaluation of the final network."""
        if (own := self.scores / f"{test}.npz").is_file():
            return own
        for file in self.evaluated():
            later = file.parent / "scores" / f"{test}.npz"
            if later.is_file() and self.is_of_end(self.read_evaluation(file), self.read_results()):
                return later
        return None

    def require_final(self, step: int) -> None:
        """Raise `UserError` if the run is finished but its checkpoint, at this step, is not the final one."""
        final = self.read_results().get("step", step) if self.done and self.results.is_file() else step
        if step != final:
            raise UserError(
                f"{self.root} is marked as finished after {final} steps, but its checkpoint is from step {step}: files "
                "of an unfinished copy have overwritten it.",
                fix=f"copy the whole finished folder, or train the rest: rm {self.root}/DONE; kdface run {self.root}",
            )

    def require_there(self) -> None:
        """Raise `UserError` if the folder was removed, instead of writing a partial one."""
        if not self.config.is_file():
            raise _gone(self.root)

    def require_own_files(self) -> None:
        """Raise `UserError` if a file or folder written by kdface is a link to a place outside the run folder."""
        inside = self.root.resolve()
        own = [self.root / name for name in (*_FILES, *_FOLDERS)]
        for folder in _FOLDERS:
            own += sorted((self.root / folder).rglob("*"))
        for path in own:
            if path.is_symlink() and not path.resolve().is_relative_to(inside):
                raise _link(path)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the folder for this process; others get an error with its id. The lock dies with the process."""
        self.root.mkdir(parents=True, exist_ok=True)
        self.require_own_files()
        with open_own(self.root / ".lock", os.O_RDWR | os.O_CREAT) as lock:
            for last_try in (False, False, False, False, True):  # checking the lock holds it for a moment
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if last_try:
                        by = holder(self) or "another process"
                        raise HeldError(
                            f"{self.root} is being written by {by}.", fix="wait for it, or stop it"
                        ) from None
                time.sleep(0.03)
            lock.seek(0)
            lock.truncate(0)
            lock.write(f"{platform.node()} {os.getpid()}")
            lock.flush()
            yield


@dataclass(frozen=True)
class Holder:
    """A process that holds a run folder, or held it. An earlier version did not write on which machine."""

    pid: int
    host: str = ""

    def __str__(self) -> str:
        return f"process {self.pid}{f' on {self.host}' if self.host else ''}"


def holder(folder: RunFolder) -> Holder | None:
    """Who locked a run folder last; None if its lock does not say."""
    try:
        host, _, pid = read_bytes(folder.root / ".lock", _LOCK).decode().strip().rpartition(" ")
        return Holder(int(pid), printable(host))
    except (OSError, ValueError):
        return None


def held(folder: RunFolder) -> bool:
    """Whether a process holds the run's lock."""
    try:
        with open_own(folder.root / ".lock", os.O_RDONLY) as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except (OSError, UserError):  # missing or unreadable
        return False
    return False


def prepare(root: Path, tree: dict[str, Any], origins: dict[str, Any]) -> RunFolder:
    """Create a run's folder with its configuration, or find the existing one; never modifies a folder of another run.

    A resumed run adopts new values that do not affect its result (location of data, loggers, loader processes); the
    folder's name guarantees that the rest is equal. A finished run is unchanged.
    """
    folder = RunFolder(root)
    if folder.done:
        return folder
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"paths.runs: {error.strerror} ({error.filename}).", fix="paths.runs=ANOTHER_FOLDER") from None
    strange = [entry.name for entry in root.iterdir() if entry.name not in _BEFORE_CONFIG and entry.name[0] != "."]
    if strange and not folder.config.is_file():
        raise UserError(f"{root} exists and is not a kdface run.", fix="paths.runs=ANOTHER_FOLDER")
    with folder.locked():
        if folder.config.is_file():
            before, kept = folder.read_config(), folder.read_origin().get("began_at") or {}
            if rows := settings_that_differ(before, tree):
                key, then, now = rows[0]
                raise UserError(
                    f"{root} contains another run ({key}: {then} there, {now} here).", fix="paths.runs=ANOTHER_FOLDER"
                )
            if fingerprint(before) != fingerprint(tree):  # the same files have moved
                then_at, now_at = dict(paths_in(before)), dict(paths_in(tree))
                kept = {**{key: path for key, path in then_at.items() if now_at.get(key) != path}, **kept}
            origins = {**origins, **({"began_at": kept} if kept else {})}
        for left_over in root.rglob(".*.tmp"):  # left by interrupted writes
            left_over.unlink(missing_ok=True)
        write_json(root / "origin.json", origins)
        write_text(folder.config, config_text(tree))
    return folder


def config_text(tree: Mapping[str, Any]) -> str:
    """The content of config.yaml for a resolved configuration."""
    return yaml.safe_dump(dict(tree), sort_keys=True, allow_unicode=True)


def _runs_below(root: Path) -> list[Path]:
    """The run folders under an arbitrary folder; only a limited number of folders is searched."""
    found = []
    for folder, below, files in itertools.islice(os.walk(root), _LOOKED_THROUGH):
        if "origin.json" in files:
            found.append(Path(folder))
            below.clear()
    return sorted(found)


def find_run(path: str | Path) -> RunFolder:
    """Find a run folder by its path, a file in it (a checkpoint), a folder that contains only that run, or a pack of it
    (`kdface.runs.pack`).

    The name of a run may be shortened to its seed (runs/NAME/seed0) if that is unambiguous.
    """
    given = Path(path).expanduser()
    if given.suffix.lower() == ".zip" and given.is_file():
        from kdface.runs.pack import unpacked

        return RunFolder(unpacked(given))
    try:
        if not given.exists() and len(short := sorted(given.parent.glob(f"{given.name}-*/config.yaml"))) == 1:
            given = short[0].parent
        for candidate in (given, *given.parents) if given.exists() else ():
            if (candidate / "config.yaml").is_file() and (candidate / "origin.json").is_file():
                return RunFolder(candidate)
        runs = _runs_below(given) if given.is_dir() else []
    except OSError as error:
        raise UserError(f"run={path}: {error.strerror}.") from None
    if len(runs) == 1:
        return RunFolder(runs[0])
    if given.is_file():
        raise UserError(
            f"run={path}: the file is in no folder of a run.",
            expected="the folder of one run, written by kdface train, or a checkpoint in it",
            fix="for a checkpoint of your own Trainer: the module that kdface.build returns, and the file as ckpt_path "
            "of Trainer.predict",
        )
    several = ", ".join(str(run) for run in runs[:3])
    raise UserError(
        f"run={path}: the folder contains {f'{len(runs)} runs' if runs else 'no run'}.",
        expected="the folder of one run, written by kdface train, or a checkpoint in it",
        nearest=several + (", ..." if len(runs) > 3 else ""),
    )
