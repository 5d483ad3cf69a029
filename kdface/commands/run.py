"""kdface run: train the run configured in FOLDER, such as runs/NAME/seed0-1a2b3c4d. Ranks and sweeps call this."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge

from kdface.atomic import write_json
from kdface.commands.arguments import Parser, is_override, require_only
from kdface.config.fingerprint import shown_otherwise
from kdface.errors import DataError
from kdface.runs.environment import changed_code
from kdface.runs.folder import HeldError, RunFolder, config_text, find_run
from kdface.runs.named import require_one_run
from kdface.runs.ranks import LAUNCHER, launched_rank
from kdface.startup import without_collection
from kdface.sweeps import marks
from kdface.sweeps.engine import BUSY
from kdface.sweeps.lifeline import die_with_parent
from kdface.training.identity import (
    changed_during,
    note_data,
    require_same_data,
    require_same_teachers,
    sets_of,
    step_of,
)

if TYPE_CHECKING:
    from kdface.assembly.job import Job

# Overrides allowed when a run resumes.
_OTHER: dict[str, Any] = {
    "trainer.devices": Annotated[int, Ge(0)],
    "trainer.num_nodes": Annotated[int, Ge(0)],
    "dataset.on_error": Literal["raise", "skip"],
}


def run(words: list[str]) -> int:
    """Train the run in a folder; overrides may change its ranks. With `-` instead of a folder, serve the commands of
    another kdface process."""
    given = Parser("run", __doc__, "FOLDER", keys=_OTHER, overrides=is_override).read(words)
    require_only(
        given.overrides, tuple(_OTHER), ": a resumed run can change only its ranks and the handling of broken images"
    )
    (folder,) = given.things
    if "LOCAL_RANK" in os.environ and LAUNCHER in os.environ:  # the launcher may have exited by now
        die_with_parent(int(os.environ[LAUNCHER]))
    if folder == "-":
        from kdface.cli import main
        from kdface.sweeps.server import serve

        return serve(main)  # also returns in each fork, with the exit code of its command
    try:
        return execute(find_run(folder), given.values)
    except HeldError as error:
        print(f"error: {error}", file=sys.stderr)
        return BUSY


def execute(
    folder: RunFolder,
    others: Mapping[str, int | str] = MappingProxyType({}),
    asked: Mapping[str, Any] | None = None,
    job: Job | None = None,
) -> int:
    """Train to the end, or report that the run is finished. Only rank 0 locks the folder and prints.

    Args:
        folder: a prepared run folder.
        others: override trainer.devices, trainer.num_nodes and dataset.on_error. config.yaml, which names the run, does
            not change; environment.json and results.json record them.
        job: its objects, if already built.
        asked: the current configuration, with the current location of the data; None: the run's own.
    """
    from kdface.reports.summary import summary

    config = folder.read_config()
    require_one_run(folder, config)
    if folder.done:
        require_same_teachers([folder])
        require_same_data([(folder, config if asked is None else asked)])
        if launched_rank() == 0:
            print(f"this run is finished: {folder.root}")
            if changed := changed_code(folder):
                print(f"the code of {', '.join(changed)} has changed since; name=NAME trains a new run")
            if asked is not None and (changed := shown_otherwise(config, asked)):
                print(f"{', '.join(changed)} would not change its result; name=NAME trains a new run with it")
            print(summary(folder))
        return 0
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("kdface").setLevel(logging.INFO)
    with contextlib.ExitStack() as stack:
        if launched_rank() == 0:  # rank 0 holds the lock for all ranks
            stack.enter_context(folder.locked())
            marks.forget_failure(folder)
        elif "LOCAL_RANK" in os.environ:
            die_with_parent(os.getppid())  # without its launcher, a rank would wait half an hour for the others
        if "LOCAL_RANK" not in os.environ:
            os.environ[LAUNCHER] = str(os.getpid())  # for the ranks that Lightning starts from here
            stack.callback(os.environ.pop, LAUNCHER, None)
        try:
            return _train(folder, config, others, job)
        except DataError as error:
            marks.note_failure(folder, str(error))
            goes_on = f"rerun the same command to resume{f' from step {step}' if (step := step_of(folder)) else ''}"
            fix = error.fix or f"repair it and {goes_on}; or leave broken images out: dataset.on_error=skip"
            raise DataError(error.problem, expected=error.expected, origin=error.origin, fix=fix) from None
        except Exception as error:
            marks.note_failure(folder, str(error) or type(error).__name__)
            raise


@without_collection()
def _train(folder: RunFolder, tree: dict[str, Any], others: Mapping[str, int | str], job: Job | None) -> int:
    from kdface.assembly.assemble import assemble
    from kdface.config.check import check_tree
    from kdface.reports.draw import draw_run
    from kdface.reports.summary import plan, summary
    from kdface.terminal import shown
    from kdface.training.train import train

    for key, value in others.items():
        group, _, name = key.partition(".")
        tree = {**tree, group: {**tree[group], name: value}}
    if job is None or job.config != tree:
        check_tree(tree)
        job = assemble(tree)
    rank_zero = launched_rank() == 0
    check_tests(tree, {"evaluation": job.data.test, "validation": job.data.validation})
    if rank_zero:
        _warn_of_shared_people(job)
        note_data(folder, job)
        marks.note_plan(folder, job.method.total_steps)
        if (tree.get("extras") or {}).get("print_config"):
            print(config_text(tree), file=sys.stderr)
        print(f"run folder: {shown(folder.root)}\n{plan(job)}", file=sys.stderr)
    # Lightning starts further ranks with this command line: they read this folder instead of composing.
    sys.argv = [sys.argv[0], "run", str(folder.root), *(f"{key}={value}" for key, value in others.items())]

    def draw() -> None:
        try:
            draw_run(folder, job.data.training)
        except Exception as error:  # a failed plot must not lose the results
            logging.getLogger("kdface").warning("the figures could not be drawn: %s", error)

    train(job, folder, draw, partial(marks.note_failure, folder))
    if rank_zero:
        if changed := changed_during(job, folder):  # the results mix both versions
            logging.getLogger("kdface").warning("the data changed during this run: %s", "; ".join(changed))
            write_json(folder.results, {**folder.read_results(), "changed_during": changed})
        folder.mark_done()
        print(summary(folder))
    return 0


def check_tests(tree: Mapping[str, Any], groups: Mapping[str, Mapping[str, Any]]) -> None:
    """Check the test sets as configured. Only rank 0 raises; images are left out on every rank."""
    from kdface.training.test_sets import check_test_sets

    on_error = tree["dataset"]["on_error"]
    protocols = {f"{group}.{name}": protocol for group, found in groups.items() for name, protocol in found.items()}
    if on_error == "skip" or launched_rank() == 0:
        check_test_sets(protocols, on_error, (tree.get("data") or {}).get("verify") == "full")


def _warn_of_shared_people(job: Any) -> None:
    from kdface.datasets.checks import shared_people
    from kdface.evaluation import Calibration

    strangers = {name: protocol for name, protocol in job.data.test.items() if not isinstance(protocol, Calibration)}
    for name, faces in sets_of(strangers).items():  # Calibration is meant for people of the training set
        if shared := shared_people(job.data.training.faces, faces):
            logging.getLogger("kdface").warning(
                "%d people of %s are also in the training set (%s, ...): its results will be optimistic",
                len(shared),
                f"evaluation.{name}",
                shared[0][0],
            )
