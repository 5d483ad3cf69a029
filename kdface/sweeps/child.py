"""Run a job from a worker of SLURM or Ray, as a child process that dies with the worker."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time

from kdface.hardware import CORES, cores
from kdface.sweeps.lifeline import die_with_parent, own_command
from kdface.sweeps.slots import RANK_VARIABLES

_running: list[int] = []  # process id of the running child


def run_child(folder: str, count: int | None = None) -> int:
    """Run `kdface run FOLDER`, appending its output to the folder's output.log. Returns its exit code.

    Args:
        folder: the run folder.
        count: number of processors it may use; None: those of the worker.
    """
    worker = os.getpid()

    def prepare() -> None:
        die_with_parent(worker)
        for number in (signal.SIGUSR1, signal.SIGUSR2):  # a cluster's warnings; handled once training has started
            signal.signal(number, signal.SIG_IGN)

    environment = {key: value for key, value in os.environ.items() if key not in RANK_VARIABLES}
    if count is not None:
        environment |= dict.fromkeys((CORES, "OMP_NUM_THREADS"), str(min(count, cores())))
    with (
        open(os.path.join(folder, "output.log"), "ab") as log,
        subprocess.Popen(
            own_command("run", folder),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            preexec_fn=prepare,
        ) as process,
    ):
        _running.append(process.pid)
        try:
            return process.wait()
        except BaseException:
            process.kill()
            raise
        finally:
            _running.remove(process.pid)


def stop_running(seconds: float) -> None:
    """Ask the child of this process to save and stop, and wait up to `seconds`. For signal handlers: it does not reap
    the child, which the waiting code does."""
    with contextlib.suppress(ProcessLookupError, ChildProcessError):  # already ended and reaped
        for pid in list(_running):
            os.kill(pid, signal.SIGTERM)
            deadline = time.monotonic() + seconds
            while not os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) and time.monotonic() < deadline:
                time.sleep(0.1)
