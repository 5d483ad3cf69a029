"""Find the rank of this process, and let ranks started by torchrun or srun share a run folder."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

from kdface.config.fingerprint import difference
from kdface.config.settings import Settings
from kdface.errors import UserError
from kdface.runs.folder import RunFolder, config_text

LAUNCHER = "KDFACE_LAUNCHER"  # process id of the launcher, for ranks started by kdface
_PATIENCE = 600.0  # seconds for rank 0 to check its data and write the configuration


def launched_rank() -> int:
    """The global rank of this process according to its launcher, before Lightning starts.

    torchrun sets RANK, srun sets SLURM_PROCID; Lightning sets NODE_RANK and LOCAL_RANK for the ranks it starts.
    """
    found = os.environ
    if "RANK" in found:
        return int(found["RANK"])
    if int(found.get("SLURM_NTASKS", "1")) > 1 and "SLURM_PROCID" in found:
        return int(found["SLURM_PROCID"])
    per_node = int(found.get("LOCAL_WORLD_SIZE", "1"))
    return int(found.get("NODE_RANK", "0")) * per_node + int(found.get("LOCAL_RANK", "0"))


def launched_world() -> int:
    """The number of ranks started by torchrun or srun; 1 if kdface starts them itself."""
    found = os.environ
    if "RANK" in found:
        return int(found.get("WORLD_SIZE", "1"))
    return int(found.get("SLURM_NTASKS", "1")) if "SLURM_PROCID" in found else 1


def require_launched(settings: Settings, seed: int | None) -> None:
    """Raise `UserError` if the number of ranks started by torchrun differs from the configuration, or if each of
    several ranks would draw its own seed."""
    if launched_world() > 1 and seed is None:
        raise UserError("seed=null: each rank would draw a different seed.", fix="seed=0")
    if "RANK" in os.environ and launched_world() != settings.world:
        raise UserError(
            f"{launched_world()} ranks were started, but trainer.devices x trainer.num_nodes = {settings.world}.",
            fix="trainer.devices=RANKS_OF_A_MACHINE trainer.num_nodes=MACHINES",
        )


def await_configuration(folder: RunFolder, tree: Mapping[str, Any], seconds: float = _PATIENCE) -> RunFolder:
    """On a further rank, wait until rank 0 has written the configuration that this rank has composed.

    Raises `UserError` if rank 0 writes none or a different one, because files or variables differ between machines.
    """
    mine = config_text(tree)
    deadline = time.monotonic() + seconds
    while not folder.done:
        written = folder.config.read_text(encoding="utf-8") if folder.config.is_file() else ""
        if written == mine:
            break
        if time.monotonic() > deadline:
            rows = difference(folder.read_config(), tree) if written else []
            differs = f" ({rows[0][0]}: {rows[0][1]} there, {rows[0][2]} here)" if rows else ""
            raise UserError(
                f"rank {launched_rank()} timed out after {seconds:g} s waiting for rank 0 to write its configuration "
                f"to {folder.root}{differs}.",
                fix="see the message of rank 0; use a shared paths.runs and the same paths.data on all machines",
            )
        time.sleep(0.1)
    return folder
