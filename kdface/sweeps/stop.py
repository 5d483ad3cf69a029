"""Stop a sweep from another process: first the processes that run it, then jobs without one."""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import shutil
import signal
import time
from pathlib import Path

from kdface.errors import UserError
from kdface.runs.folder import RunFolder, holder
from kdface.sweeps.ledger import Entry, Ledger, State

log = logging.getLogger("kdface")

_PATIENCE = 30.0  # seconds for the last job to release its folder


def stop(ledger: Ledger) -> str:
    """Ask all processes of a sweep to stop, wait for them, and describe the outcome. Stopped jobs can be resumed.

    Raises:
        UserError: the outcome, if a process that runs the sweep belongs to another user.
    """
    parents = ledger.parents()
    asked, refused = 0, []
    for by in parents:
        if by.host == platform.node() and by.pid > 0:
            try:
                asked += _terminate(by.pid)
            except PermissionError:
                refused.append(by)
    cancelled = _queued(ledger)
    if cancelled:
        from kdface.sweeps.slurm import cancel

        cancel(cancelled)
    deadline = time.monotonic() + (0 if refused and not asked else _PATIENCE)
    signalled: set[int] = set()
    while (left := _running(ledger)) and time.monotonic() < deadline:
        if time.monotonic() > deadline - _PATIENCE / 2:  # signal jobs directly if their parent does not stop them
            jobs = {pid for entry in left if (pid := _process(ledger.folder(entry))) is not None}
            for pid in jobs - signalled:
                with contextlib.suppress(PermissionError):  # reported as still running
                    _terminate(pid)
            signalled |= jobs
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


def _terminate(pid: int) -> bool:
    """Send SIGTERM. Returns whether the process exists. Raises `PermissionError` if it belongs to another user."""
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        return False
    return True


def _running(ledger: Ledger) -> list[Entry]:
    return [entry for entry in ledger.entries(log.warning) if ledger.state(entry) is State.RUNNING]


def _queued(ledger: Ledger) -> list[str]:
    """The tickets of this sweep that are still in SLURM's queue."""
    tickets = {entry.ticket for entry in ledger.entries(log.warning) if entry.ticket}
    if not tickets or shutil.which("squeue") is None:
        return []
    from kdface.sweeps.slurm import queued

    return sorted(tickets & queued(ledger.root.name).keys())


def _process(folder: RunFolder) -> int | None:
    """The process that holds a run folder, if it is a kdface process on this machine."""
    by = holder(folder)
    if by is None or by.host != platform.node():
        return None
    try:
        called = Path(f"/proc/{by.pid}/cmdline").read_bytes()
    except OSError:
        return None
    return by.pid if b"kdface" in called else None
