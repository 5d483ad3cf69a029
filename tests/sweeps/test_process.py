"""The fork server: jobs start without imports, die with it, and a dead rank takes its job down."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.conftest import TINY
from tests.forked import Forked


def _ranks(folder: Path) -> list[int]:
    """The processes of further ranks: their launcher started each with the run folder on its command line."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = file.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if "run" in words and str(folder) in words:
            found.append(int(file.parent.name))
    return found


def test_a_rank_that_dies_takes_its_job_down_with_its_error_shown(tmp_path: Path) -> None:
    words = ["train", "-m", *TINY, "trainer.devices=2", "trainer.max_epochs=10000", f"paths.runs={tmp_path}/runs"]
    parent = Forked(*words, "head.margin=1.4,1.2", cwd=tmp_path)
    try:
        while parent.poll() is None and not list(tmp_path.rglob("metrics.jsonl")):
            time.sleep(0.05)
        (metrics,) = tmp_path.rglob("metrics.jsonl")
        (rank,) = _ranks(metrics.parent)
        os.kill(rank, signal.SIGKILL)
        killed = time.monotonic()
        marks = metrics.parent / "failed.json"
        while not marks.is_file() and time.monotonic() < killed + 60:
            time.sleep(0.1)
        assert time.monotonic() < killed + 60
        lost = f"rank 1 (process {rank}) was killed by a signal (SIGKILL)"
        assert lost in json.loads(marks.read_text())["error"]
        while not any(line.startswith("[1]") for line in parent.stdout.splitlines()):  # until the first job is reported
            assert parent.poll() is None
            time.sleep(0.05)
        said = parent.stdout + parent.stderr
        assert "failed (" in said and lost in said
    finally:
        parent.send_signal(signal.SIGTERM)
        parent.wait(60)


def test_a_job_in_a_sweep_imports_nothing_that_the_server_has_not(tmp_path: Path) -> None:
    """What would be imported in every job anew is imported once, before the fork; and no thread is there to be lost."""
    code = (
        "import sys, os, importlib\n"
        "from kdface.sweeps.server import _PRELOADED\n"
        "for name in _PRELOADED: importlib.import_module(name)\n"
        "assert len(os.listdir('/proc/self/task')) == 1, 'a thread was started before the fork'\n"
        "before = set(sys.modules)\n"
        "from kdface.cli import main\n"
        f"main({['train', *TINY, 'trainer.max_steps=1', f'paths.runs={tmp_path}/runs']!r})\n"
        "late = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print('late', sorted(late & {'pytorch_lightning', 'scipy', 'cv2', 'albumentations', 'matplotlib'}))\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert said.returncode == 0, said.stderr
    assert "late []" in said.stdout
