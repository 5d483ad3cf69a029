"""Ranks that die or freeze end a run with one message; ranks of one machine listen on its loopback address alone."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kdface.errors import UserError
from kdface.lightning.local_ddp import loopback_store
from kdface.training.rank_watch import ended, lost, taken_over, watched
from tests.conftest import UNTESTED, command
from tests.forked import Forked

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="ranks are watched by /proc")


@contextlib.contextmanager
def _child() -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        yield child
    finally:
        child.kill()
        child.wait()


def _exited(code: int) -> subprocess.Popen[bytes]:
    child = subprocess.Popen([sys.executable, "-c", f"raise SystemExit({code})"])
    child.wait()
    return child


def _until(true: object, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_frozen_rank_is_lost_after_its_time_and_one_that_goes_on_is_not() -> None:
    with _child() as child:
        since: dict[int, float] = {}
        assert lost({1: child}, since, frozen=0.2) is None
        os.kill(child.pid, signal.SIGSTOP)
        _until(lambda: lost({1: child}, since, frozen=1000) is None and since)
        time.sleep(0.25)
        found = lost({1: child}, since, frozen=0.2)
        assert found is not None and found.problem == f"rank 1 (process {child.pid}) has been stopped for 0.2 s."
        os.kill(child.pid, signal.SIGCONT)
        _until(lambda: lost({1: child}, since, frozen=0) is None)
        assert not since


def test_how_a_rank_ended_is_said_whoever_waited_for_it() -> None:
    with _child() as child:
        assert ended(child) == ""
        child.kill()
        child.wait()
        assert ended(child) == "was killed by a signal (SIGKILL)"
    assert ended(_exited(2)).startswith("exited with code 2")


def test_well_ended_and_interrupted_ranks_are_not_lost() -> None:
    assert [ended(_exited(code)) for code in (0, 130)] == ["", ""]


def test_lightning_takes_a_rank_for_running_and_still_signals_it() -> None:
    with _child() as child:
        launched: list[Any] = [child]
        assert taken_over(launched) == taken_over(launched) == {1: child}
        launched[0].send_signal(signal.SIGTERM)
        assert child.wait() == -signal.SIGTERM
        launched[0].poll()
        assert launched[0].returncode is None


def test_a_broken_connection_is_one_message() -> None:
    with pytest.raises(UserError, match="rank 1 lost its connection to another rank"), watched(1, 2):
        raise RuntimeError("[gloo/pair.cc:1] Connection closed by peer [127.0.0.1]:1")
    with pytest.raises(RuntimeError, match="other"), watched(1, 2):
        raise RuntimeError("other")
    with pytest.raises(RuntimeError, match="closed by peer"), watched(0, 1):
        raise RuntimeError("Connection closed by peer")


def test_the_store_of_ranks_listens_on_loopback_alone() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    main = loopback_store(port, 2, main=True)
    other = loopback_store(port, 2, main=False)
    other.set("key", "value")
    assert main.get("key") == b"value"
    listening = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        rows = [row.split() for row in Path(table).read_text().splitlines()[1:]] if Path(table).exists() else []
        listening += [row[1].split(":")[0] for row in rows if row[3] == "0A" and int(row[1].split(":")[1], 16) == port]
    assert listening == ["0100007F"]  # 127.0.0.1


def test_a_killed_rank_ends_the_run_with_its_name_and_the_same_command_finishes(tmp_path: Path) -> None:
    words = [
        "train",
        *UNTESTED,
        "trainer.max_epochs=60",
        "trainer.devices=2",
        "name=killed",
        f"paths.runs={tmp_path}/runs",
    ]
    words += ["resume.every_n_train_steps=20"]
    run = Forked(*words, cwd=tmp_path)
    _until(lambda: run.poll() is not None or list(tmp_path.glob("runs/killed/*/checkpoints/last.ckpt")), 120)
    (pid,) = map(int, Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split())
    os.kill(pid, signal.SIGKILL)
    code = run.wait(60)
    assert f"error: rank 1 (process {pid}) was killed by a signal (SIGKILL)." in run.stderr
    assert code == 1 and "Traceback" not in run.stderr
    again = command(*words, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert len(list(tmp_path.glob("runs/killed/*/DONE"))) == 1


def test_a_rank_that_dies_before_it_is_looked_at_is_told(tmp_path: Path) -> None:
    """Nothing but its parent's own list tells of it: the environment and the command line of the dead are empty."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal\nif os.environ.get('LOCAL_RANK') == '1': os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    words = (
        "train",
        *UNTESTED,
        "trainer.max_steps=1",
        "trainer.devices=2",
        "name=killed",
        f"paths.runs={tmp_path}/runs",
    )
    said = command(*words, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)})
    assert re.search(r"^error: rank 1 \(process \d+\) was killed by a signal \(SIGKILL\)\.$", said.stderr, re.MULTILINE)
    assert said.returncode == 1 and "Traceback" not in said.stderr
    (marks,) = tmp_path.glob("runs/killed/*/failed.json")
    assert "was killed by a signal (SIGKILL)" in json.loads(marks.read_text())["error"]
