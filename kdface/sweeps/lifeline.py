"""Start kdface processes that must not outlive their parent, and describe their exit codes."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
# Signals that do not indicate a bug: the process was stopped, or the machine ran out of memory.
STOPPED_BY = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP})


def own_command(*words: str) -> list[str]:
    """The command of a separate kdface process. `-P`: never import Python files from the current folder."""
    return [sys.executable, "-P", "-m", "kdface", *words]


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent exits for any reason.

    Args:
        parent: process id of the parent as the parent sees it; if it no longer exists, this process exits.
    """
    if not sys.platform.startswith("linux"):
        return  # on other systems a closed pipe serves as the signal
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent:
        os._exit(128 + signal.SIGKILL)


def signal_group(pid: int, number: int) -> None:
    """Signal a process group if it still exists."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def said(code: int) -> str:
    """Describe an exit code; negative codes are signals, as in `subprocess`."""
    if code >= 0:
        return f"exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"{name} (out of memory?)" if -code == signal.SIGKILL else name


def was_stopped(code: int) -> bool:
    """Whether an exit code means that a job was interrupted rather than failed."""
    return -code in STOPPED_BY or code in {128 + int(number) for number in STOPPED_BY}
