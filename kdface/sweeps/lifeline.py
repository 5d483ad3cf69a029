"""How kdface starts itself: processes that must not outlive their parent, and names for the signals that end them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
# A process that one of these ended did nothing wrong: it was stopped, or the machine ran out of memory.
STOPPED_BY = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP})


def own_command(*words: str) -> list[str]:
    """kdface as a separate process. `-P`: a Python file that lies in the current folder is never imported."""
    return [sys.executable, "-P", "-m", "kdface", *words]


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent ends, however it ends.

    Args:
        parent: the parent's process id, seen by the parent itself; where it is gone already, this process ends here.
    """
    if not sys.platform.startswith("linux"):
        return  # elsewhere the end of a pipe tells
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent:
        os._exit(128 + signal.SIGKILL)


def signal_group(pid: int, number: int) -> None:
    """Signal a process and all that it started; one that is gone is gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def said(code: int) -> str:
    """An exit code as people read it; negative codes are signals, as in `subprocess`."""
    if code >= 0:
        return f"exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"{name} (out of memory?)" if -code == signal.SIGKILL else name


def was_stopped(code: int) -> bool:
    """Whether an exit code means that a job was interrupted, not that it failed."""
    return -code in STOPPED_BY or code in {128 + int(number) for number in STOPPED_BY}
