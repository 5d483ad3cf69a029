"""Run jobs as tasks of a SLURM array, submitted by submitit. The queue outlives this process, which can reattach.

A job's ticket, its id in the queue, is stored in the ledger. squeue reports whether it waits or runs, so no accounting
database is needed; whether it is finished is read from its run folder, as for all backends.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Gt

from kdface.errors import UserError
from kdface.runs.folder import RunFolder
from kdface.sweeps import marks
from kdface.sweeps.child import run_child, stop_running
from kdface.sweeps.engine import BUSY, Backend, Ended, Job
from kdface.sweeps.ledger import Ledger
from kdface.sweeps.lifeline import said, was_stopped
from kdface.sweeps.slots import AT_ONCE, SEARCHED_AT_ONCE, share

_ASK = 2.0  # seconds between calls of squeue
_ANSWER = 60.0  # timeout of squeue in seconds
_SILENT = 1800.0  # seconds without an answer until a sweep gives up; its jobs stay in the queue
_WARNED = 120  # seconds before its time limit at which a job is asked to save and is requeued
_TRIES = 3  # times a job may run out of time without a newer checkpoint
_CORES = 4  # default per rank
_REQUEUES = 1000  # times a job may run out of time
_NEVER = ("PartitionConfig", "PartitionNodeLimit", "PartitionTimeLimit", "BadConstraints")  # permanent reasons
_ASKED_TO_STOP = (-signal.SIGTERM, 128 + signal.SIGTERM, 128 + signal.SIGINT)
_UNTIL_KILLED = 600.0  # seconds; SIGKILL follows SIGTERM after the grace time of the cluster


class Task:
    """A task of the array. SLURM may stop it at any time, and then requeues it.

    Args:
        folder: the run folder.
        saving: seconds for the run to save its step when its time is up.
        stuck: consecutive earlier attempts that ended without a newer checkpoint.
    """

    def __init__(self, folder: str, saving: float, stuck: int = 0) -> None:
        self.folder = RunFolder(Path(folder))
        self.saving = saving
        self.stuck = stuck
        self._found: int | None = None

    def __call__(self) -> int:
        if self.stuck >= _TRIES:
            marks.note_failure(
                self.folder,
                f"ran out of time {self.stuck} times without a newer checkpoint: a step, the startup, or the "
                "evaluation takes longer than hydra.launcher.minutes",
            )
            return 1
        self._found = self._saved()
        code = run_child(str(self.folder.root))
        if code in _ASKED_TO_STOP:
            time.sleep(_UNTIL_KILLED)  # a preempted task that exits on its own would not be requeued
        if code not in (0, BUSY) and not was_stopped(code):
            marks.note_failure(self.folder, said(code))
        return code

    def checkpoint(self) -> Any:
        """Called shortly before the time limit; returns the task to requeue."""
        import submitit

        stop_running(self.saving)
        stuck = self.stuck + 1 if self._saved() == self._found else 0
        return submitit.helpers.DelayedSubmission(Task(str(self.folder.root), self.saving, stuck))

    def _saved(self) -> int | None:
        """The modification time of the checkpoint, in nanoseconds."""
        return self.folder.last.stat().st_mtime_ns if self.folder.last.is_file() else None


class Slurm(Backend):
    """See conf/hydra/launcher/slurm.yaml for the arguments; `devices` is the largest number of ranks of a job."""

    def __init__(
        self,
        ledger: Ledger,
        devices: int,
        *,
        n_jobs: Annotated[int, Ge(1)] | None = None,
        partition: str | None = None,
        minutes: Annotated[int, Ge(1)] = 1440,
        cores: Annotated[int, Ge(1)] | None = None,
        gpus: Annotated[int, Ge(0)] | None = None,
        memory_gb: Annotated[float, Gt(0)] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        if shutil.which("sbatch") is None:  # check this before asking for a package that would not help
            raise UserError(
                "hydra/launcher=slurm: SLURM is not available here (no sbatch).",
                expected="a machine with a working sbatch",
                fix="hydra/launcher=process",
            )
        try:
            import submitit
        except ImportError:
            raise UserError(
                "hydra/launcher=slurm: submitit is not installed.", fix='pip install "kdface[slurm]"'
            ) from None
        options = options or {}
        self.ledger = ledger
        self.capacity = sys.maxsize  # the queue accepts all jobs; SLURM runs n_jobs at a time
        self.at_once = n_jobs or SEARCHED_AT_ONCE
        wanted_gpus = int(share(gpus, devices, 1, "hydra.launcher.gpus"))
        if gpus is None and (
            any(option.startswith(("gpus", "gres")) for option in options) or not _has_gpus(partition)
        ):
            wanted_gpus = 0
        self.running: dict[str, Job] = {}
        self._asked = 0.0
        self._heard: float | None = None  # time of the last answer
        self._queue: dict[str, str] = {}
        self._executor = submitit.AutoExecutor(
            folder=ledger.root / "slurm" / "%j", cluster="slurm", slurm_max_num_timeout=_REQUEUES
        )
        warned = min(_WARNED, minutes * 30)
        self._saving = 0.75 * warned
        chosen = {"slurm_partition": partition, "gpus_per_node": wanted_gpus, "mem_gb": memory_gb}
        self._executor.update_parameters(
            name=ledger.root.name,
            timeout_min=minutes,
            cpus_per_task=int(share(cores, devices, _CORES, "hydra.launcher.cores")),
            slurm_array_parallelism=n_jobs or AT_ONCE,
            slurm_signal_delay_s=warned,
            slurm_additional_parameters={"requeue": True, "open_mode": "append", **options},
            **{key: value for key, value in chosen.items() if value},
        )

    def start(self, jobs: Sequence[Job]) -> None:
        """Submit jobs as one array."""
        try:
            with self._executor.batch():
                submitted = [self._executor.submit(Task(str(job.folder.root), self._saving)) for job in jobs]
        except Exception as error:
            raise UserError(f"sbatch rejected the jobs: {_last_line(error)}", fix="see hydra.launcher.*") from None
        tickets = [task.job_id for task in submitted]
        for job, ticket in zip(jobs, tickets, strict=True):
            self.ledger.write(replace(self.ledger.find(job.entry.run) or job.entry, ticket=ticket))
            self.running[ticket] = job
        self._queue |= dict.fromkeys(tickets, "")
        self._asked = self._heard = time.monotonic()

    def ended(self, seconds: float) -> list[Ended]:
        """Jobs that have left the queue, with exit codes from their run folders."""
        time.sleep(seconds)
        queue = self._ask()
        found: list[Ended] = []
        for ticket, job in list(self.running.items()):
            if ticket in queue and not job.folder.done:
                continue
            del self.running[ticket]
            if job.folder.done:
                found.append((job, 0))
            elif marks.held(job.folder):
                found.append((job, BUSY))
            else:
                found.append((job, 1 if marks.failure(job.folder) is not None else -int(signal.SIGTERM)))
        return found

    def adopt(self, job: Job) -> bool:
        """Whether a job of an earlier command is still in the queue."""
        entry = self.ledger.find(job.entry.run)
        if entry is None or not entry.ticket or job.folder.done or entry.ticket not in self._ask():
            return False
        self.running[entry.ticket] = job
        return True

    def waiting(self) -> dict[int, str]:
        """Pending jobs with SLURM's reasons."""
        return {job.number: _told(why) for ticket, job in self.running.items() if (why := self._queue.get(ticket))}

    def stop(self, job: Job) -> None:
        """Cancel a job."""
        cancel([ticket for ticket, started in self.running.items() if started == job])

    def close(self) -> None:
        """Report that jobs stay in the queue, and how to cancel them."""
        if self.running:
            print(
                f"{len(self.running)} job(s) stay in SLURM's queue: rerun the same command to wait for them, "
                f"or cancel them with kdface sweep stop {self.ledger.root}",
                file=sys.stderr,
            )

    def _ask(self) -> dict[str, str]:
        """The last known state of the queue; a missing answer does not affect jobs."""
        if time.monotonic() - self._asked > _ASK:
            try:
                self._queue = queued(self.ledger.root.name)
                self._heard = time.monotonic()
            except UserError as error:
                if self._heard is None or time.monotonic() - self._heard > _SILENT:
                    raise
                print(f"{error.problem} Retrying.", file=sys.stderr)
            self._asked = time.monotonic()
        return self._queue


def queued(name: str) -> dict[str, str]:
    """Ticket -> reason why a job of this name is pending, or empty if it runs.

    Raises `UserError` if squeue does not answer.
    """
    try:
        said = subprocess.run(
            ["squeue", "--noheader", "--array", "--me", "--name", name, "--format", "%i %t %r"],
            capture_output=True,
            text=True,
            timeout=_ANSWER,
        )
    except subprocess.TimeoutExpired:
        raise UserError(f"squeue did not answer within {_ANSWER:g} s.", fix="is slurmctld running?") from None
    if said.returncode:
        raise UserError(f"squeue failed: {said.stderr.strip()}.", fix="is slurmctld running?")
    found = (line.split(maxsplit=2) for line in said.stdout.splitlines() if line.strip())
    return {ticket: reason if state == "PD" else "" for ticket, state, reason in found}


def _told(reason: str) -> str:
    fix = ": no machine satisfies it, see hydra.launcher.cores, gpus, memory_gb and minutes"
    return reason + fix if reason in _NEVER else reason


def _has_gpus(partition: str | None) -> bool:
    """Whether a partition, or the cluster, lists GPUs."""
    words = ["sinfo", "--noheader", "--format", "%G", *(["--partition", partition] if partition else [])]
    try:
        return "gpu" in subprocess.run(words, capture_output=True, text=True, timeout=_ANSWER).stdout
    except subprocess.TimeoutExpired:
        return False


def cancel(tickets: Sequence[str]) -> None:
    """Cancel jobs by ticket."""
    subprocess.run(["scancel", *tickets], check=False)


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
