"""A preloaded process that forks once per command, so that commands start without import time.

Its standard input is a connection. An `Order` starts a command, the number of one sends it SIGTERM, and the server
answers (number, exit code; negative: a signal) as commands end. Before a fork it only imports: no CUDA context, no
random numbers, and no threads except those of OpenBLAS, which stops them itself before a fork. The server dies with its
parent, and its commands die with it.

`multiprocessing`'s fork server does not serve here: it blocks until its imports are done, cannot be ended, imports the
caller's script into each job, starts their loaders as its own children, and leaves files when it is killed.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection

from kdface.startup import without_collection
from kdface.sweeps.lifeline import die_with_parent, signal_group

_POLL = 0.02  # seconds between checks for ended jobs
# Imports of a job, including those that torch and Lightning defer until first use.
_PRELOADED = (
    "kdface.commands.evaluate",
    "kdface.commands.run",
    "kdface.assembly.assemble",
    "kdface.config.check",
    "kdface.config.origin",
    "kdface.config.schema",
    "kdface.reports.draw",
    "kdface.reports.summary",
    "kdface.training.train",
    "fontTools.subset",
    "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_pdf",
    "omegaconf",
    "torch._dynamo",
    "torch.optim.lr_scheduler",
)


@dataclass(frozen=True)
class Order:
    """A command to start, and where: its log, current folder, processors and environment."""

    number: int
    words: Sequence[str]
    log: str
    cwd: str
    cores: Sequence[int]
    environment: Mapping[str, str]


def serve(main: Callable[[list[str]], int]) -> int:
    """Serve until standard input is closed. Returns the exit code; in each fork, that of `main` with its command."""
    ended: list[int] = []

    @atexit.register  # before the imports, so that it runs after their own handlers
    def leave() -> None:
        """Exit without destroying what was imported, which would copy its memory pages: 0.3 s of a job.

        Skips handlers registered before: those of `logging`, which is closed here, and of `kdface.cli.console`.
        """
        if ended:
            logging.shutdown()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(ended[0])

    die_with_parent(os.getppid())
    with without_collection():
        for module in _PRELOADED:
            importlib.import_module(module)
    gc.freeze()  # garbage collection would copy the memory pages shared with jobs
    order = _forked(Connection(os.dup(0)))
    if order is None:
        return 0
    _become(order)
    ended.append(main(list(order.words)))
    return ended[0]


def _forked(parent: Connection) -> Order | None:
    """Serve until the connection is closed. None; in each fork, its order."""
    children: dict[int, int] = {}  # process id -> number of its order
    with contextlib.suppress(EOFError, ConnectionError):  # the parent has closed it
        while True:
            said = parent.recv() if parent.poll(_POLL) else None
            if isinstance(said, Order):
                pid = os.fork()
                if pid == 0:
                    parent.close()
                    return said
                with contextlib.suppress(OSError):  # the child does the same; either may be first
                    os.setpgid(pid, pid)
                children[pid] = said.number
            for pid, number in children.items():
                if number == said:
                    os.kill(pid, signal.SIGTERM)  # its ranks and loader processes stop with it
            while children:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    break
                if pid in children:
                    signal_group(pid, signal.SIGKILL)  # leftover ranks and loader processes
                    parent.send((children.pop(pid), os.waitstatus_to_exitcode(status)))
    for pid in children:
        signal_group(pid, signal.SIGKILL)
    return None


def _become(order: Order) -> None:
    """Turn a fork into a command with its own process group, log, folder, cores and environment."""
    server = os.getppid()
    with contextlib.suppress(OSError):
        os.setpgid(0, 0)
    die_with_parent(server)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with open(os.devnull, "rb") as nothing, open(order.log, "ab") as log:
        for source, target in ((nothing, 0), (log, 1), (log, 2)):
            os.dup2(source.fileno(), target)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # text streams both
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, order.cores)
    os.chdir(order.cwd)
    os.environ.clear()
    os.environ.update(order.environment)
    sys.modules["torch"].set_num_threads(int(os.environ["OMP_NUM_THREADS"]))  # torch read it on import
