"""kdface in a process of its own without the seconds of its start: forked from one that has imported everything.

It has its own process id, environment, current folder and output, and takes any signal. What it shares with its
siblings is the interpreter's start: imports and the seed of string hashes. Tests of those start `python -m kdface`.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import runpy
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from kdface.startup import without_collection
from kdface.sweeps.server import _PRELOADED
from tests.drawn import drawn_once

_READ_AT_START = {"MKL_NUM_THREADS", "MPLBACKEND", "OMP_NUM_THREADS", "PYTHONHASHSEED", "PYTHONIOENCODING"}
_PATIENCE = 120.0  # seconds for two ranks


class _Server:
    """The process that all others are forked from, one for each process of tests."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.forked"],
            cwd=Path(__file__).resolve().parents[1],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._unread = b""
        self.begun: list[dict[str, Any]] = []  # process id and output of each kdface, in their order
        self.codes: dict[int, int] = {}  # by the place in that order

    def fork(self, order: dict[str, Any]) -> int:
        """Start a kdface. Its place in the order of all."""
        number = len(self.begun)
        assert self._process.stdin is not None
        self._process.stdin.write((json.dumps(order) + "\n").encode())
        self._process.stdin.flush()
        while number == len(self.begun):
            self.listen(None)
        return number

    def end(self) -> None:
        """Let it end, and with it what it has forked."""
        self._process.communicate()

    def listen(self, seconds: float | None) -> None:
        """Take what the server has said, waiting up to `seconds` for it."""
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], seconds)[0]:
            return
        given = os.read(self._process.stdout.fileno(), 1 << 16)
        assert given, "the server of forked processes has died"
        *lines, self._unread = (self._unread + given).split(b"\n")
        for line in lines:
            said = json.loads(line)
            if "code" in said:
                self.codes[said["number"]] = said["code"]
            else:
                self.begun.append(said)


@functools.cache
def _server() -> _Server:
    server = _Server()
    atexit.register(server.end)
    return server


class Forked:
    """A `python -m kdface WORDS` without its start; the rest as `subprocess.Popen` has it. Its output is kept.

    Args:
        env: variables besides those of this process. Those that the interpreter and its libraries read as they start,
            here and in `os.environ`, are without effect; so is a `sitecustomize` in a folder of PYTHONPATH.
    """

    def __init__(
        self,
        *words: str,
        cwd: Path,
        env: dict[str, str] | None = None,
        start_new_session: bool = False,
        module: str = "kdface",
    ) -> None:
        assert not _READ_AT_START & {*(env or {})}, "start a process of your own: a fork does not read them"
        self.args = words
        order = {
            "module": module,
            "words": words,
            "cwd": str(cwd),
            "environment": {**os.environ, **(env or {})},
            "session": start_new_session,
        }
        self._number = _server().fork(order)
        self.pid = int(_server().begun[self._number]["pid"])
        self._output = Path(_server().begun[self._number]["output"])

    @property
    def returncode(self) -> int | None:
        """None while it runs; negative: the signal that ended it."""
        return _server().codes.get(self._number)

    @property
    def stdout(self) -> str:
        """What it has written so far."""
        return self._output.with_suffix(".out").read_text()

    @property
    def stderr(self) -> str:
        """What it has written so far."""
        return self._output.with_suffix(".err").read_text()

    def poll(self) -> int | None:
        """Its exit code, if it has ended."""
        _server().listen(0)
        return self.returncode

    def wait(self, timeout: float) -> int:
        """Its exit code. One that takes longer is killed, and raises."""
        deadline = time.monotonic() + timeout
        while (code := self.returncode) is None:
            left = deadline - time.monotonic()
            if left < 0:
                self.send_signal(signal.SIGKILL)
                raise subprocess.TimeoutExpired(self.args, timeout, self.stdout, self.stderr)
            _server().listen(left)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):  # it has ended since
                os.kill(self.pid, number)


def on_two_ranks(function: Callable[[int, str], None], folder: Path) -> None:
    """Call a function of a module in two processes, with their rank and a folder where they can meet."""
    words = (function.__module__, function.__name__)
    ranks = [Forked(*words, str(rank), str(folder), cwd=folder, module="tests.rank") for rank in range(2)]
    deadline = time.monotonic() + _PATIENCE
    while None in (codes := [rank.poll() for rank in ranks]) and not any(codes) and time.monotonic() < deadline:
        time.sleep(0.01)
    for rank in ranks:
        rank.send_signal(signal.SIGKILL)
        rank.wait(60)
    assert codes == [0, 0], "\n".join([f"exit codes {codes}; None: not ended", *(rank.stderr for rank in ranks)])


def _serve() -> dict[str, Any] | None:
    """Fork for each line of standard input until there are no more. None, or in a fork what it was given."""
    answers = os.dup(1)
    os.dup2(2, 1)
    with without_collection():
        for module in _PRELOADED:
            importlib.import_module(module)
    Figure.savefig = drawn_once(Path(os.environ["KDFACE_CACHE"]) / "drawn")  # type: ignore[method-assign]
    gc.collect()
    gc.freeze()
    folder = tempfile.mkdtemp(prefix="kdface-said-")
    running: dict[int, int] = {}  # process id -> its place in the order of all
    begun, unread = 0, b""
    while True:
        if select.select([0], [], [], 0.01 if running else None)[0]:
            given = os.read(0, 1 << 16)
            if not given:
                break
            *lines, unread = (unread + given).split(b"\n")
            for line in lines:
                order: dict[str, Any] = {**json.loads(line), "output": f"{folder}/{begun}"}
                for name in (".out", ".err"):
                    Path(order["output"] + name).touch()
                if (pid := os.fork()) == 0:
                    os.close(answers)
                    return order
                running[pid] = begun
                begun += 1
                os.write(answers, (json.dumps({"pid": pid, "output": order["output"]}) + "\n").encode())
        while running:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid in running:
                said = {"number": running.pop(pid), "code": os.waitstatus_to_exitcode(status)}
                os.write(answers, (json.dumps(said) + "\n").encode())
    for pid in running:
        os.kill(pid, signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)
    return None


def _become(order: dict[str, Any]) -> None:
    """As `python -m kdface` finds itself: its folder first among those that modules are looked for in."""
    if order["session"]:
        os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for target, name in ((1, ".out"), (2, ".err")):
        os.dup2(os.open(order["output"] + name, os.O_WRONLY), target)
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["environment"])
    sys.path[:0] = [os.getcwd(), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    sys.argv = [order["module"], *order["words"]]
    gc.unfreeze()


if __name__ == "__main__" and (given := _serve()) is not None:
    _become(given)
    runpy.run_module(given["module"], run_name="__main__", alter_sys=True)
