"""kdface run FOLDER: train the run whose configuration lies in FOLDER. Ranks and sweeps call this."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from kdface.commands.taught import require_same_teachers
from kdface.errors import DataError, UserError
from kdface.runs.folder import HeldError, RunFolder, config_text, find_run, write_json
from kdface.runs.identity import changed_during, note_data, require_same_data, step_of
from kdface.runs.named import require_one_run
from kdface.runs.ranks import LAUNCHER, launched_rank
from kdface.startup import without_collection
from kdface.sweeps import marks
from kdface.sweeps.engine import BUSY
from kdface.sweeps.lifeline import die_with_parent

if TYPE_CHECKING:
    from kdface.runs.job import Job

# What a run may go on with: its values, where they are not numbers.
_OTHER: dict[str, tuple[str, ...]] = {
    "trainer.devices": (),
    "trainer.num_nodes": (),
    "dataset.on_error": ("raise", "skip"),
}


class BusyError(UserError):
    """Another process holds the run folder."""


def run(words: list[str]) -> int:
    """Train the run in a folder, on other ranks than it was configured for where overrides say so. `-` in the place of
    the folder: serve another kdface, which sends one command after the other."""
    if not words or "=" in words[0]:
        raise UserError(
            "kdface run takes one run folder.", fix="kdface run runs/NAME/seed0-1a2b3c4d [trainer.devices=1]"
        )
    others = _others(words[1:])
    if "LOCAL_RANK" in os.environ and LAUNCHER in os.environ:  # it may have ended while this rank was starting
        die_with_parent(int(os.environ[LAUNCHER]))
    if words[0] == "-":
        from kdface.cli import main
        from kdface.sweeps.server import serve

        given = serve()  # comes back in each fork, with its command
        return 0 if given is None else main(given)
    try:
        return execute(find_run(words[0]), others)
    except BusyError as error:
        print(f"error: {error}", file=sys.stderr)
        return BUSY


def _others(words: Sequence[str]) -> dict[str, int | str]:
    """What a run may go on with: another number of ranks, and broken images left out or not."""
    found: dict[str, int | str] = {}
    for word in words:
        key, _, value = word.partition("=")
        if key not in _OTHER or not (value in _OTHER[key] if _OTHER[key] else value.isdigit()):
            raise UserError(
                f"{word}: a run goes on as it is configured, except for its ranks and its broken images.",
                expected=" or ".join(f"{key}={'|'.join(values) or 'N'}" for key, values in _OTHER.items()),
                origin=f"command line: {word}",
            )
        found[key] = int(value) if value.isdigit() else value
    return found


def execute(
    folder: RunFolder,
    others: Mapping[str, int | str] = MappingProxyType({}),
    asked: Mapping[str, Any] | None = None,
    job: Job | None = None,
) -> int:
    """Train to the end, or say that it is done. Only rank 0 holds the folder's lock and speaks.

    Args:
        folder: a prepared run folder.
        others: trainer.devices, trainer.num_nodes and dataset.on_error in the place of the configured ones. config.yaml
            stays what names the run; environment.json and results.json tell of them.
        job: its objects, if they are built already.
        asked: the configuration that asked for it, which says where its data lies now; None: its own.
    """
    from kdface.reports.summary import summary

    config = folder.read_config()
    require_one_run(folder, config)
    if folder.done:
        require_same_teachers([folder])
        require_same_data([(folder, config if asked is None else asked)])
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
                raise BusyError(error.problem, fix=error.fix) from None
            marks.forget_failure(folder)
        elif "LOCAL_RANK" in os.environ:
            die_with_parent(os.getppid())  # a rank without its launcher would wait for the others for half an hour
        if "LOCAL_RANK" not in os.environ:
            os.environ[LAUNCHER] = str(os.getpid())  # of the ranks that Lightning starts from here
            stack.callback(os.environ.pop, LAUNCHER, None)
        try:
            return _train(folder, others, job)
        except DataError as error:
            marks.note_failure(folder, str(error))
            goes_on = f"the same command goes on{f' from step {step}' if (step := step_of(folder)) else ''}"
            fix = error.fix or f"repair it, and {goes_on}; or leave broken images out: dataset.on_error=skip"
            raise DataError(error.problem, expected=error.expected, origin=error.origin, fix=fix) from None
        except Exception as error:
            marks.note_failure(folder, str(error) or type(error).__name__)
            raise


def _train(folder: RunFolder, others: Mapping[str, int | str], job: Job | None) -> int:
    with without_collection():
        from kdface.config.assemble import assemble
        from kdface.config.check import check_tree
        from kdface.config.origin import Origins
        from kdface.config.schema import Configuration
        from kdface.reports.draw import draw_run
        from kdface.reports.summary import plan, shown, summary
        from kdface.runs.train import train

    tree = folder.read_config()
    for key, value in others.items():
        group, _, name = key.partition(".")
        tree[group] = {**tree[group], name: value}
    check_tree(tree, Configuration, Origins())
    if job is None or job.config != tree:
        job = assemble(tree)
    rank_zero = launched_rank() == 0
    check_tests(tree, {"evaluation": job.protocols, "validation": job.data.validation})
    if rank_zero:
        _warn_of_shared_people(job)
        note_data(folder, job)
        marks.note_plan(folder, job.method.total_steps)
        if (tree.get("extras") or {}).get("print_config"):
            print(config_text(tree), file=sys.stderr)
        print(f"run folder: {shown(folder.root)}\n{plan(job)}", file=sys.stderr)
    # A further rank is started with this command line, so it reads this folder and composes nothing.
    sys.argv = [sys.argv[0], "run", str(folder.root), *(f"{key}={value}" for key, value in others.items())]

    def draw() -> None:
        try:
            draw_run(folder, job.data.training)
        except Exception as error:  # the numbers are there; a picture must not withhold them
            logging.getLogger("kdface").warning("the figures could not be drawn: %s", error)

    train(job, folder, draw, partial(marks.note_failure, folder))
    if rank_zero:
        _note_changes(folder, changed_during(job, folder))
        folder.mark_done()
        print(summary(folder))
    return 0


def check_tests(tree: Mapping[str, Any], groups: Mapping[str, Mapping[str, Any]]) -> None:
    """Look at the test sets as a configuration asks; only rank 0 raises, and what is left out is so on every rank."""
    from kdface.runs.test_sets import check_test_sets

    on_error = tree["dataset"]["on_error"]
    protocols = {f"{group}.{name}": protocol for group, found in groups.items() for name, protocol in found.items()}
    if on_error == "skip" or launched_rank() == 0:
        check_test_sets(protocols, on_error, (tree.get("data") or {}).get("verify") == "full")


def _note_changes(folder: RunFolder, changed: Sequence[str]) -> None:
    """Tell and keep that data was changed in the middle of a run: what came out is of both versions."""
    if changed:
        logging.getLogger("kdface").warning("the data was changed while this run was going on: %s", "; ".join(changed))
        write_json(folder.results, {**folder.read_results(), "changed_during": list(changed)})


def _warn_of_shared_people(job: Any) -> None:
    from kdface.datasets.checks import shared_people
    from kdface.evaluation import Calibration

    strangers = {name: protocol for name, protocol in job.protocols.items() if not isinstance(protocol, Calibration)}
    for name, faces in sets_of(strangers).items():  # people of the training set are what Calibration is about
        if shared := shared_people(job.data.training.faces, faces):
            logging.getLogger("kdface").warning(
                "%d people of %s are in the training set too (%s, ...): its numbers will flatter",
                len(shared),
                f"evaluation.{name}",
                shared[0][0],
            )


def sets_of(protocols: dict[str, Any]) -> dict[str, Any]:
    """The test sets of protocols by name: NAME, and NAME.SET for its second one and further ones."""
    sets = {}
    for name, protocol in protocols.items():
        for place, faces in enumerate(protocol.datasets):
            sets[f"{name}.{faces.name}" if place else name] = faces
    return sets
