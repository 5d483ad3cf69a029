"""kdface train -m, and kdface sweep status | retry | stop DIR.

Hydra runs only here; every job is a separate process that reads its resolved configuration. All jobs are composed
and checked before the first one starts. The ledger (`kdface.sweeps.ledger`) records the jobs of the sweep, so the
same or an overlapping command runs only missing jobs and resumes interrupted ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdface.commands.arguments import Arguments, is_search_path
from kdface.errors import UserError, nearest
from kdface.startup import without_collection

if TYPE_CHECKING:
    from kdface.sweeps.ledger import Ledger

_USAGE = "kdface sweep status|retry|stop DIR, DIR being a folder under runs/sweeps"


def run(words: list[str]) -> int:
    """Run `kdface sweep status | retry | stop DIR` and return the exit code."""
    from kdface.sweeps.ledger import Ledger

    match words:
        case ["status", path]:
            from kdface.sweeps.table import status, write_results

            ledger = Ledger.at(path)
            print(status(ledger))
            write_results(ledger)
            return 0
        case ["stop", path]:
            from kdface.sweeps.stop import stop

            print(stop(Ledger.at(path)))
            return 0
        case ["retry", path, *overrides]:
            return _retry(Ledger.at(path), overrides)
        case [other, *_] if other not in ("status", "retry", "stop"):
            near = nearest(other, ("status", "retry", "stop"))
            raise UserError(
                f"kdface sweep has no {other!r}.", expected=_USAGE, nearest=f"kdface sweep {near} DIR" if near else ""
            )
        case _:
            raise UserError(f"kdface sweep {' '.join(words)}: invalid arguments.", expected=_USAGE)


def sweep(arguments: Arguments) -> int:
    """Run all jobs of a sweep, even if some fail. Lists failed jobs and returns exit code 1 if there are any."""
    with without_collection():
        from kdface.commands.session import Session
        from kdface.config.compose import hydra_context

    with hydra_context(arguments.config_dirs) as hydra:
        session = Session(hydra, arguments)
        with without_collection():
            session.check()
        session.run()
    return session.tell()


def _retry(ledger: Ledger, overrides: list[str]) -> int:
    """Rerun failed jobs from the configurations in their run folders, on the launcher used last."""
    from kdface.commands.session import checked_node, drive_in, launcher_words, needed, tell
    from kdface.config.compose import hydra_context, load
    from kdface.config.settings import num_devices
    from kdface.sweeps.engine import Job, Listed
    from kdface.sweeps.ledger import State
    from kdface.terminal import shown

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
