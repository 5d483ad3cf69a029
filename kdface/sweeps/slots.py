"""Divide a machine among parallel jobs: a slot is a group of cores and GPUs."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass

from kdface.errors import UserError
from kdface.hardware import cores, may_have_gpu

# Variables that define a rank; a job starts its own ranks and must not inherit its parent's.
RANK_VARIABLES = (
    "RANK",
    "LOCAL_RANK",
    "NODE_RANK",
    "GROUP_RANK",
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
    "SLURM_NTASKS",
    "SLURM_PROCID",
    "SLURM_LOCALID",
    "SLURM_NTASKS_PER_NODE",
    "SLURM_TASKS_PER_NODE",
    "KDFACE_LAUNCHER",
)


@dataclass(frozen=True)
class Slot:
    """The resources of one job: processor numbers, and GPUs as named in CUDA_VISIBLE_DEVICES (none: not set)."""

    cores: tuple[int, ...]
    gpus: tuple[str, ...] = ()

    def environment(self, devices: int) -> dict[str, str]:
        """The environment of a job with `devices` ranks: threads, port, GPUs."""
        found = {"OMP_NUM_THREADS": str(max(1, len(self.cores) // devices)), "MASTER_PORT": str(free_port())}
        if self.gpus:
            found["CUDA_VISIBLE_DEVICES"] = ",".join(self.gpus)
        return found


def divide(n_jobs: int | None, devices: int) -> list[Slot]:
    """The slots of this machine.

    Args:
        n_jobs: parallel jobs; None: one per group of `devices` GPUs, or one without GPUs.
        devices: largest number of ranks of a job.

    Raises `UserError` if a job has more ranks than there are GPUs; without GPUs, ranks share the cores.
    """
    gpus = visible_gpus()
    if 0 < len(gpus) < devices:
        raise UserError(
            f"trainer.devices = {devices}, but this machine has {len(gpus)} GPU(s).",
            fix=f"trainer.devices={len(gpus)}",
        )
    groups = [tuple(gpus[i : i + devices]) for i in range(0, len(gpus) - devices + 1, devices)]
    count = n_jobs or len(groups) or 1
    shares = shared_out(usable_cores(), count)
    return [Slot(share, groups[i % len(groups)] if groups else ()) for i, share in enumerate(shares)]


def shared_out(cores: list[int], count: int) -> list[tuple[int, ...]]:
    """Assign contiguous cores to `count` slots; with more slots than cores, one core to each in turn."""
    if count > len(cores):
        return [(cores[i % len(cores)],) for i in range(count)]
    return [tuple(cores[i * len(cores) // count : (i + 1) * len(cores) // count]) for i in range(count)]


AT_ONCE, SEARCHED_AT_ONCE = 64, 8  # default numbers of cluster jobs; a search learns from finished ones


def share(given: float | None, devices: int, of_a_rank: int, key: str) -> float:
    """The resources requested for a job with `devices` ranks: the given number, or `of_a_rank` per rank.

    Raises `UserError` if it is less than one per rank, unless 0.
    """
    if given is None:
        return devices * of_a_rank
    if 0 < given < devices and devices > 1:
        raise UserError(f"{key} = {given:g}, but trainer.devices = {devices}.", fix=f"{key}={devices}, or {key}=null")
    return given


def visible_gpus() -> list[str]:
    """The GPUs available to this process, as named in CUDA_VISIBLE_DEVICES."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [part.strip() for part in given.split(",") if part.strip() and part.strip() != "-1"]
    if not may_have_gpu():  # a CPU-only sweep need not import torch
        return []
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]


def free_port() -> int:
    """An unused TCP port of the loopback interface."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def usable_cores() -> list[int]:
    """The numbers of the processors available to this process."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(cores()))
