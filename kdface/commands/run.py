"""kdface run FOLDER: train the run whose configuration lies in FOLDER. Ranks and sweeps call this."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from kdface.commands.taught import require_same_teachers
from kdface.errors import UserError
from kdface.runs.folder import HeldError, RunFolder, find_run, write_json
from kdface.runs.ranks import LAUNCHER, launched_rank
from kdface.sweeps import marks
from kdface.sweeps.engine import BUSY
from kdface.sweeps.lifeline import die_with_parent

_RANKS = ("trainer.devices", "trainer.num_nodes")


class BusyError(UserError):
    """Another process holds the run folder."""


def run(words: list[str]) -> int:
    """Train the run in a folder, on other ranks than it was configured for where overrides say so. `-` in the place of
    the folder: serve a sweep, which sends one folder after the other."""
    if not words or "=" in words[0]:
        raise UserError(
            "kdface run takes one run folder.", mend="kdface run runs/NAME/seed0-1a2b3c4d [trainer.devices=1]"
        )
    ranks = _ranks(words[1:])
    if "LOCAL_RANK" in os.environ and LAUNCHER in os.environ:  # it may have ended while this rank was starting
        die_with_parent(int(os.environ[LAUNCHER]))
    path: str | None = words[0]
    if path == "-":
        from kdface.sweeps.server import serve

        path = serve()  # comes back in each job, with its folder
    if path is None:
        return 0
    try:
        return execute(find_run(path), ranks)
    except BusyError as error:
        print(f"error: {error}", file=sys.stderr)
        return BUSY


def _ranks(words: Sequence[str]) -> dict[str, int]:
    """What a run may go on with: another number of ranks."""
    found = {}
    for word in words:
        key, _, value = word.partition("=")
        if key not in _RANKS or not value.isdigit():
            raise UserError(
                f"{word}: a run goes on as it is configured, but for its ranks.",
                expected=" or ".join(f"{each}=N" for each in _RANKS),
                origin=f"command line: {word}",
            )
        found[key.partition(".")[2]] = int(value)
    return found


def execute(folder: RunFolder, ranks: Mapping[str, int] = MappingProxyType({})) -> int:
    """Train to the end, or say that it is done. Only rank 0 holds the folder's lock and speaks.

    Args:
        folder: a prepared run folder.
        ranks: trainer.devices, trainer.num_nodes in the place of the configured ones. config.yaml stays what names the
            run; environment.json tells of them.
    """
    from kdface.reports.summary import summary

    if folder.done:
        require_same_teachers([folder])
        if launched_rank() == 0:
            print(f"this run is finished: {folder.root}")
            print(summary(folder))
        return 0
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("kdface").setLevel(logging.INFO)
    with contextlib.ExitStack() as stack:
        if launched_rank() == 0:  # rank 0 holds the lock for all
            try:
                stack.enter_context(folder.locked())
            except HeldError as error:
                raise BusyError(error.problem, mend=error.mend) from None
            marks.forget_failure(folder)
        elif "LOCAL_RANK" in os.environ:
            die_with_parent(os.getppid())  # a rank without its launcher would wait for the others for half an hour
        if "LOCAL_RANK" not in os.environ:
            os.environ[LAUNCHER] = str(os.getpid())  # of the ranks that Lightning starts from here
            stack.callback(os.environ.pop, LAUNCHER, None)
        try:
            return _train(folder, ranks)
        except Exception as error:
            marks.note_failure(folder, str(error) or type(error).__name__)
            raise


def _train(folder: RunFolder, ranks: Mapping[str, int]) -> int:
    from kdface.config.assemble import assemble
    from kdface.config.check import check_tree
    from kdface.config.origin import Origins
    from kdface.config.schema import Configuration
    from kdface.reports.draw import draw_run
    from kdface.reports.summary import shown, summary
    from kdface.runs.train import train

    tree = folder.read_config()
    tree["trainer"] = {**tree["trainer"], **ranks}
    check_tree(tree, Configuration, Origins())
    job = assemble(tree)
    rank_zero = launched_rank() == 0
    if rank_zero:
        _note_data(folder, job)
        marks.note_plan(folder, job.optimization.total_steps)
        print(f"run folder: {shown(folder.root)}", file=sys.stderr)
    # A further rank is started with this command line, so it reads this folder and composes nothing.
    sys.argv = [sys.argv[0], "run", str(folder.root), *(f"trainer.{key}={value}" for key, value in ranks.items())]
    train(job, folder)
    if rank_zero:
        try:
            draw_run(folder, job.training)
        except Exception as error:  # the numbers are there; a picture must not withhold them
            logging.getLogger("kdface").warning("the figures could not be drawn: %s", error)
        folder.mark_done()
        print(summary(folder))
    return 0


def _note_data(folder: RunFolder, job: Any) -> None:
    """Write data.json at the first start; later, refuse to go on with other data."""
    import json

    from kdface.datasets.checks import card, shared_people
    from kdface.evaluation import Calibration
    from kdface.teachers.quality.labels import identity

    tests = {f"evaluation.{name}": faces for name, faces in sets_of(job.protocols).items()}
    strangers = {name: each for name, each in job.protocols.items() if not isinstance(each, Calibration)}
    sets = {"train": job.training.faces, **tests}
    for name, faces in sets_of(strangers).items():  # people of the training set are what Calibration is about
        if shared := shared_people(job.training.faces, faces):
            logging.getLogger("kdface").warning(
                "%d people of %s are in the training set too (%s, ...): its numbers will flatter",
                len(shared),
                f"evaluation.{name}",
                shared[0][0],
            )
    path = folder.root / "data.json"
    now = {name: card(faces) for name, faces in sets.items()}
    if job.method.teacher is not None:
        now["teacher"] = {"fingerprint": identity(job.method.teacher)}
    if not path.is_file():
        write_json(path, now)
        return
    before = json.loads(path.read_text(encoding="utf-8"))
    for name, each in now.items():
        if before.get(name, {}).get("fingerprint") != each["fingerprint"]:
            raise UserError(
                f"the data of {folder.root} has changed since the run began ({name}: fingerprint "
                f"{before.get(name, {}).get('fingerprint', 'none')[:12]} then, {each['fingerprint'][:12]} now).",
                mend=f"restore the data, or start anew: rm -r {folder.root}",
            )


def sets_of(protocols: dict[str, Any]) -> dict[str, Any]:
    """The test sets of protocols by name: NAME, and NAME.SET for its second one and further ones."""
    sets = {}
    for name, protocol in protocols.items():
        for place, faces in enumerate(protocol.datasets):
            sets[f"{name}.{faces.name}" if place else name] = faces
    return sets
