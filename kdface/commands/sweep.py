"""kdface sweep: show, stop or retry the jobs of a sweep; DIR is a folder under runs/sweeps."""

from __future__ import annotations

from kdface.commands.arguments import Arguments, Parser, act, is_override, is_search_path
from kdface.errors import UserError
from kdface.startup import without_collection


def run(words: list[str]) -> int:
    """Run `kdface sweep status | retry | stop DIR` and return the exit code."""
    retried = "Rerun failed jobs unchanged, on the launcher used last, or on that of overrides of hydra/launcher."
    return act(
        "sweep",
        __doc__,
        words,
        status=(Parser("sweep status", "Print the states of the jobs; write results.csv.", "DIR"), _status),
        retry=(Parser("sweep retry", retried, "DIR", overrides=is_override), _retry),
        stop=(Parser("sweep stop", "Stop the sweep and its jobs.", "DIR"), _stop),
    )


def _status(given: Arguments) -> int:
    from kdface.sweeps.ledger import Ledger
    from kdface.sweeps.table import status, write_results

    ledger = Ledger.at(given.things[0])
    print(status(ledger))
    write_results(ledger)
    return 0


def _stop(given: Arguments) -> int:
    from kdface.sweeps.ledger import Ledger
    from kdface.sweeps.stop import stop

    print(stop(Ledger.at(given.things[0])))
    return 0


def sweep(arguments: Arguments) -> int:
    """`kdface train -m`: run all jobs of a sweep, even if some fail. Lists failed jobs; exit code 1 if there are any.

    Hydra runs only here; every job is a separate process that reads its resolved configuration. All jobs are composed
    and checked before the first one starts. The ledger (`kdface.sweeps.ledger`) records the jobs of the sweep, so the
    same or an overlapping command runs only missing jobs and resumes interrupted ones.
    """
    with without_collection():
        from kdface.commands.session import Session
        from kdface.config.compose import hydra_context

    with hydra_context(arguments.config_dirs) as hydra:
        session = Session(hydra, arguments)
        with without_collection():
            session.check()
        session.run()
    return session.tell()


def _retry(given: Arguments) -> int:
    """Rerun failed jobs from the configurations in their run folders."""
    from kdface.commands.session import checked_node, drive_in, launcher_words, needed, tell
    from kdface.config.compose import hydra_context, load
    from kdface.config.settings import num_devices
    from kdface.sweeps.engine import Job, Listed
    from kdface.sweeps.ledger import Ledger, State
    from kdface.terminal import shown

    ledger, overrides = Ledger.at(given.things[0]), given.overrides
    failed = [entry for entry in ledger.entries() if ledger.state(entry) is State.FAILED]
    print(f"retrying {len(failed)} failed jobs" if failed else "no job of this sweep failed", flush=True)
    if not failed:
        return 0
    elsewhere = any(override.lstrip("+").startswith("hydra/launcher=") for override in overrides)
    known = [word for word in ledger.launcher if not elsewhere or is_search_path(word)]
    where = [*known, *launcher_words(overrides)]
    if len(launcher_words(overrides)) != len(overrides):
        raise UserError(
            f"kdface sweep retry: {' '.join(overrides)}: failed jobs are retried unchanged.",
            expected="overrides of hydra/launcher and hydra.launcher only",
        )
    folders = [folder for folder in ledger.config_dirs if folder.is_dir()]
    with hydra_context(folders) as hydra:
        launcher = checked_node(load(hydra, where), "launcher")
    ledger.note_launcher(where, folders)
    jobs, trees = [], []
    for number, entry in enumerate(failed):
        folder = ledger.folder(entry)
        trees.append(folder.read_config())
        jobs.append(Job(number, entry, folder, lambda: None, num_devices(trees[-1]["trainer"]), retry=True))
    needs = {job.number: needed(tree, job, jobs) for tree, job in zip(trees, jobs, strict=True)}
    devices = max(job.devices for job in jobs)
    watcher = drive_in(ledger, Listed(jobs, needs), launcher, devices, len(jobs))
    return tell(watcher.failed, watcher.unfinished, shown(ledger.root))
