"""A preloaded process that forks once per command, so that commands start without import time.

The protocol is JSON lines: {"id", "words", "log", "cwd", "cores", "environment"} starts `kdface WORDS`, {"stop": id}
sends it SIGTERM. The server answers {"id", "code"} as commands end (negative codes are signals). Before a fork it only
imports: no CUDA context, no random numbers, and no threads except those of OpenBLAS, which stops them itself before a
fork. The server dies with its parent, and its commands die with it.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import logging
import os
import select
import signal
import sys
from collections.abc import Callable
from typing import Any

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
    answers = os.dup(1)  # output of libraries during import must not be read as an answer
    os.dup2(2, 1)
    with without_collection():
        for module in _PRELOADED:
            importlib.import_module(module)
    gc.freeze()  # garbage collection would copy the memory pages shared with jobs
    children: dict[int, int] = {}  # process id -> job id
    unread = b""
    while True:
        if select.select([0], [], [], _POLL)[0]:
            given = os.read(0, 1 << 16)
            if not given:
                break
            *lines, unread = (unread + given).split(b"\n")
            for line in lines:
                order = json.loads(line)
                if "stop" in order:
                    for pid, number in children.items():
                        if number == order["stop"]:
                            os.kill(pid, signal.SIGTERM)  # its ranks and loader processes stop with it
                    continue
                pid = os.fork()
                if pid == 0:
                    os.close(answers)
                    _become(order)
                    ended.append(main(order["words"]))
                    return ended[0]
                with contextlib.suppress(OSError):  # the child does the same; either may be first
                    os.setpgid(pid, pid)
                children[pid] = order["id"]
        while children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid in children:
                signal_group(pid, signal.SIGKILL)  # leftover ranks and loader processes
                answer = {"id": children.pop(pid), "code": os.waitstatus_to_exitcode(status)}
                os.write(answers, (json.dumps(answer) + "\n").encode())
    for pid in children:
        signal_group(pid, signal.SIGKILL)
    return 0


def _become(order: dict[str, Any]) -> None:
    """Turn a fork into a command with its own process group, log, folder, cores and environment."""
    server = os.getppid()
    with contextlib.suppress(OSError):
        os.setpgid(0, 0)
    die_with_parent(server)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.close(log)
    os.close(nothing)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # text streams both
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, order["cores"])
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["environment"])
    sys.modules["torch"].set_num_threads(int(os.environ["OMP_NUM_THREADS"]))  # torch read it on import
