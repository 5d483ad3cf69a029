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

from kdface.runs.folder import RunFolder, holder
from kdface.sweeps.ledger import Entry, Ledger, State

log = logging.getLogger("kdface")

_PATIENCE = 30.0  # seconds for the last job to release its folder


def stop(ledger: Ledger) -> str:
    """Ask all processes of a sweep to stop, wait for them, and describe the outcome. Stopped jobs can be resumed."""
    parents = ledger.parents()
    here = [by for by in parents if by.host == platform.node() and by.pid > 0]
    for by in here:
        _terminate(by.pid)
    cancelled = _queued(ledger)
    if cancelled:
        from kdface.sweeps.slurm import cancel

        cancel(cancelled)
    deadline = time.monotonic() + _PATIENCE
    signalled: set[int] = set()
    while (left := _running(ledger)) and time.monotonic() < deadline:
        if time.monotonic() > deadline - _PATIENCE / 2:  # signal jobs directly if their parent does not stop them
            jobs = {pid for entry in left if (pid := _process(ledger.folder(entry))) is not None}
            for pid in jobs - signalled:
                _terminate(pid)
            signalled |= jobs
        time.sleep(0.2)
    lines = [f"{len(here)} process(es) were asked to stop, {len(cancelled)} job(s) of a cluster cancelled"]
    lines += [f"not stopped, running on another machine: {by}" for by in parents if by.host != platform.node()]
    for job in left:
        holds = holder(ledger.folder(job))
        lines.append(f"still running: {job.title}, {job.run}{f' ({holds})' if holds is not None else ''}")
    return "\n".join(lines)


def _terminate(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGTERM)


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
