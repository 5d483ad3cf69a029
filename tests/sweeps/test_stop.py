"""Whom `kdface sweep stop` signals, by what the lock of a run folder says."""

from __future__ import annotations

import fcntl
import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from kdface.errors import UserError
from kdface.runs.folder import RunFolder, holder
from kdface.sweeps import stop as stopping
from kdface.sweeps.ledger import Entry, Ledger
from tests.conftest import Kdface


@pytest.mark.parametrize("host", [platform.node(), "elsewhere", ""])
def test_a_process_is_signalled_on_the_machine_of_its_lock_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setattr(stopping, "_PATIENCE", 1.0)
    ledger = Ledger.of(tmp_path / "runs", ["m"], ["seed"])
    entry = Entry("m/seed0-00000000", point={"seed": "0"})
    ledger.write(entry)
    folder = ledger.folder(entry)
    folder.root.mkdir(parents=True)
    folder.config.write_text(yaml.safe_dump({"name": "m"}))
    of_that_number = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", "kdface"])
    try:
        with open(folder.root / ".lock", "w") as lock:
            lock.write(f"{host} {of_that_number.pid}".strip())  # without a machine: by an earlier version
            lock.flush()
            fcntl.flock(lock, fcntl.LOCK_EX)
            said = stopping.stop(ledger)
            here = host == platform.node()
            assert of_that_number.poll() is None or here
            by = f"process {of_that_number.pid}{f' on {host}' if host else ''}"
            assert f"m/seed0-00000000 ({by})" in said
            with pytest.raises(UserError, match=f"is being written by {by}."), folder.locked():
                pass
        if here:
            assert of_that_number.wait(10) == -signal.SIGTERM
    finally:
        of_that_number.kill()
        of_that_number.wait()


def test_a_lock_says_who_holds_it_and_where(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert holder(folder) is None
    with folder.locked():
        by = holder(folder)
    assert by is not None and by.host == platform.node() and f" on {platform.node()}" in str(by)


def test_another_users_sweep_is_not_counted_as_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kdface: Kdface
) -> None:
    def refuse(pid: int, number: int) -> None:
        raise PermissionError

    monkeypatch.setattr("os.kill", refuse)
    ledger = Ledger.of(tmp_path / "runs", ["m"], ["seed"])
    with ledger.attended():
        said = kdface("sweep", "stop", str(ledger.root))
    assert said.code == 2 and "0 process(es) were asked to stop" in said.err
    assert f"belongs to another user: process {os.getpid()} on {platform.node()}" in said.err


def test_marks_of_killed_parents_are_removed_and_those_of_starting_ones_are_not(tmp_path: Path) -> None:
    ledger = Ledger.of(tmp_path / "runs", ["m"], ["seed"])
    parents, node = ledger.root / "parents", platform.node()
    for pid, text in ((1, f"{node} 1"), (2, ""), (3, "")):
        (parents / f"{node}-{pid}").mkdir(parents=True)
        (parents / f"{node}-{pid}" / ".lock").write_text(text)
    (parents / f"{node}-{os.getpid()}").touch()  # by an earlier version
    with open(parents / f"{node}-2" / ".lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # its holder has not written its name yet
        with ledger.attended():
            assert {by.pid for by in ledger.parents()} == {2, os.getpid()}
    assert sorted(mark.name for mark in parents.iterdir()) == [f"{node}-2", f"{node}-3"]
