"""Single-machine DDP that communicates only over the loopback address."""

from __future__ import annotations

import atexit
import os
import socket
from datetime import timedelta
from typing import Any

import torch
from pytorch_lightning.strategies import DDPStrategy
from torch.distributed import TCPStore  # type: ignore[attr-defined]  # public, but not exported

_HERE = "127.0.0.1"
_TIMEOUT = timedelta(minutes=30)  # torch's default for unresponsive ranks


class LocalDDP(DDPStrategy):
    """Lightning's DDP. If it launches all ranks itself, on this machine, store and gloo listen on loopback only.

    Torch's default store listens on every interface, without authentication.

    Args:
        timeout: for collectives that a rank does not join.
        kwargs: see `pytorch_lightning.strategies.DDPStrategy`.
    """

    def __init__(self, timeout: timedelta = _TIMEOUT, **kwargs: Any) -> None:
        super().__init__(timeout=timeout, **kwargs)
        self.timeout = timeout

    def setup_distributed(self) -> None:
        """As `DDPStrategy`, on the loopback interface if all ranks are on this machine."""
        environment = self.cluster_environment
        here = environment is not None and self.num_nodes == 1 and not environment.creates_processes_externally
        if environment is not None and here and not torch.distributed.is_initialized():
            self.set_world_ranks()
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
            rank, world = environment.global_rank(), environment.world_size()
            cuda = self.root_device.type == "cuda"
            torch.distributed.init_process_group(
                self.process_group_backend or ("nccl" if cuda else "gloo"),
                store=loopback_store(environment.main_port, world, main=rank == 0, timeout=self.timeout),
                rank=rank,
                world_size=world,
                timeout=self.timeout,
                device_id=self.root_device if cuda else None,
            )
            atexit.register(_leave)  # its threads must not outlive the interpreter
        super().setup_distributed()


def loopback_store(port: int, world: int, *, main: bool, timeout: timedelta = _TIMEOUT) -> TCPStore:
    """The key-value store for rendezvous; `main` serves it, bound to 127.0.0.1."""
    listener = None
    if main:
        server = socket.socket()
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((_HERE, port))
        server.listen()
        listener = server.detach()
    return TCPStore(_HERE, port, world, main, timeout, wait_for_workers=False, master_listen_fd=listener)


def _leave() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
