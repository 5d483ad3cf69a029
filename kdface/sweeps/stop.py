"""Stop a sweep from another process: the processes that run it, and its jobs on this machine."""

from __future__ import annotations

import logging
import os
import platform
import shutil
import signal
import time
from collections.abc import Iterable
from pathlib import Path

from kdface.errors import UserError
from kdface.runs.folder import Holder, holder
from kdface.sweeps.ledger import Entry, Ledger, State

log = logging.getLogger("kdface")

_PATIENCE = 30.0  # seconds for the last job to release its folder


def stop(ledger: Ledger) -> str:
    """Ask all processes of a sweep to stop, wait for them, and describe the outcome. Stopped jobs can be resumed.

    Raises:
        UserError: the outcome, if a process that runs the sweep belongs to another user.
    """
    parents = ledger.parents()
    asked, refused = _terminate(parents)
    cancelled = _queued(ledger)
    if cancelled:
        from kdface.sweeps.slurm import cancel

        cancel(cancelled)
    deadline = time.monotonic() + (0 if refused and not asked else _PATIENCE)
    signalled: set[Holder] = set()
    while (left := _running(ledger)) and time.monotonic() < deadline:
        found = {by for entry in left if (by := holder(ledger.folder(entry))) is not None and _is_kdface(by)}
        _terminate(found - signalled)  # also jobs that were started by hand; a second SIGTERM changes nothing
        signalled |= found
        time.sleep(0.2)
    lines = [f"{asked} process(es) were asked to stop, {len(cancelled)} job(s) of a cluster cancelled"]
    lines += [f"not stopped, running on another machine: {by}" for by in parents if by.host != platform.node()]
    for job in left:
        holds = holder(ledger.folder(job))
        lines.append(f"still running: {job.title}, {job.run}{f' ({holds})' if holds is not None else ''}")
    if refused:
        names = ", ".join(map(str, refused))
        raise UserError("\n".join([f"not stopped: belongs to another user: {names}.", *lines]))
    return "\n".join(lines)


def _terminate(processes: Iterable[Holder]) -> tuple[int, list[Holder]]:
    """Send SIGTERM to processes on this machine. Returns the number of existing ones, and those of another user."""
    asked, refused = 0, []
    for by in processes:
        if by.host == platform.node() and by.pid > 0:
            try:
                os.kill(by.pid, signal.SIGTERM)
                asked += 1
            except ProcessLookupError:  # it has ended
                pass
            except PermissionError:
                refused.append(by)
    return asked, refused


def _running(ledger: Ledger) -> list[Entry]:
    return [entry for entry in ledger.entries(log.warning) if ledger.state(entry) is State.RUNNING]


def _queued(ledger: Ledger) -> list[str]:
    """The tickets of this sweep that are still in SLURM's queue."""
    tickets = {entry.ticket for entry in ledger.entries(log.warning) if entry.ticket}
    if not tickets or shutil.which("squeue") is None:
        return []
    from kdface.sweeps.slurm import queued

    return sorted(tickets & queued(ledger.root.name).keys())


def _is_kdface(by: Holder) -> bool:
    try:
        return b"kdface" in Path(f"/proc/{by.pid}/cmdline").read_bytes()
    except OSError:
        return False
