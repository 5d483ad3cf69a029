"""Commands forked from one server: each in the folder and environment of its caller; a server that dies is replaced."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from kdface.sweeps import warm
from kdface.sweeps.slots import divide
from kdface.sweeps.warm import Call, called


def test_one_server_serves_each_caller_in_its_folder_and_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    servers = []
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "here.yaml").write_text("no table")
    for name in ("one", "two"):
        folder = tmp_path / name
        (folder / f"{name}-data").mkdir(parents=True)
        monkeypatch.chdir(folder)
        monkeypatch.setenv("KDFACE_DATA", str(folder / f"{name}-data"))
        words = ("table", "here.yaml"), ("doctor",)
        calls = [Call(words[0], folder / "wrong.log"), Call(words[1], folder / "doctor.log")]
        assert [(call.words, code) for call, code in called([calls], divide(1, 1))] == [(words[0], 2), (words[1], 0)]
        assert f"{name}-data" in (folder / "doctor.log").read_text()
        # the file lies in the first folder only, and is no table
        assert ("there is no table definition" in (folder / "wrong.log").read_text()) == (name == "two")
        servers.append(warm.take())
        servers[-1].close()
    assert servers[0] is servers[1]


def test_a_killed_server_takes_what_it_runs_with_it_and_the_next_one_has_another(tmp_path: Path) -> None:
    listing = [Call(("list", "head"), tmp_path / f"{number}.log") for number in range(3)]
    calls = called([listing[:2], listing[2:]], divide(1, 1))
    assert next(calls) == (listing[0], 0)
    (server,) = [
        int(file.parent.name) for file in Path("/proc").glob("[0-9]*/stat") if _is_server_of_this_process(file)
    ]
    os.kill(server, signal.SIGKILL)
    assert list(calls) == [(listing[1], -signal.SIGKILL), (listing[2], 0)]
    assert list(called([listing[:1]], divide(1, 1))) == [(listing[0], 0)]


def _is_server_of_this_process(stat: Path) -> bool:
    try:
        parent = stat.read_text().rpartition(")")[2].split()[1]
        return parent == str(os.getpid()) and (stat.parent / "cmdline").read_bytes().endswith(b"\0run\0-\0")
    except OSError:
        return False


def test_a_server_whose_start_of_a_command_was_interrupted_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self: warm.Server, message: object) -> None:
        raise KeyboardInterrupt

    server = warm.take()
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(warm.Server, "_say", interrupted)
        server.start(1, ["list"], tmp_path / "1.log", divide(1, 1)[0])
    process = server._process
    server.close()
    assert process is not None and process.poll() is not None
    assert server not in warm._spare
