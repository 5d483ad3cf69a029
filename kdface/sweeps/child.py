"""A job started by somebody else's worker (SLURM, Ray): a plain child process that dies with that worker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from kdface.sweeps.lifeline import die_with_parent
from kdface.sweeps.slots import RANK_VARIABLES, claimed_cores


def run_child(folder: str, cores: int | None = None) -> int:
    """`kdface run FOLDER`, its output appended to the folder's output.log. Returns its exit code.

    Args:
        folder: the run folder.
        cores: keep to so many processors that no other such job of this machine has; None: to those of the worker.
    """
    if cores is None:
        return _run(folder, None)
    with claimed_cores(cores) as mine:
        return _run(folder, mine)


def _run(folder: str, cores: list[int] | None) -> int:
    worker = os.getpid()

    def prepare() -> None:
        die_with_parent(worker)
        for number in (signal.SIGUSR1, signal.SIGUSR2):  # a cluster's warnings are for the worker
            signal.signal(number, signal.SIG_IGN)
        if cores is not None and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, cores)

    environment = {key: value for key, value in os.environ.items() if key not in RANK_VARIABLES}
    if cores is not None:
        environment["OMP_NUM_THREADS"] = str(len(cores))
    with open(os.path.join(folder, "output.log"), "ab") as log:
        return subprocess.run(
            [sys.executable, "-m", "kdface", "run", folder],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            preexec_fn=prepare,
        ).returncode
