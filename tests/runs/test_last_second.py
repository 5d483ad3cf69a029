"""Killed at any moment between the last checkpoint and DONE, the same command finishes the run as if it never was."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.conftest import TINY, command
from tests.forked import Forked

KILLS = 12


@pytest.mark.slow
def test_a_kill_between_the_last_checkpoint_and_done(tmp_path: Path) -> None:
    def words(name: str) -> list[str]:
        return ["train", *TINY, "trainer.max_steps=4", f"name={name}", f"paths.runs={tmp_path}/runs"]

    for name in ("first", "whole"):  # the first draws figures, of which later ones are copies
        assert command(*words(name), cwd=tmp_path).returncode == 0
    (calm,) = tmp_path.glob("runs/whole/*")
    whole = json.loads((calm / "results.json").read_text())
    # Seconds after the last checkpoint in which results, figures and DONE are written.
    within = (calm / "DONE").stat().st_mtime - (calm / "checkpoints" / "last.ckpt").stat().st_mtime
    draw, before_done = random.Random(7), 0
    for kill in range(KILLS):
        name = f"killed{kill}"
        run = Forked(*words(name), cwd=tmp_path, start_new_session=True)
        while run.poll() is None and not list(tmp_path.glob(f"runs/{name}/*/checkpoints/last.ckpt")):
            time.sleep(0.005)
        time.sleep(draw.uniform(0, within))
        before_done += not list(tmp_path.glob(f"runs/{name}/*/DONE"))
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)
        run.wait(60)
        again = command(*words(name), cwd=tmp_path)
        assert again.returncode == 0, again.stderr
        (folder,) = tmp_path.glob(f"runs/{name}/*")
        assert (folder / "DONE").exists()
        assert json.loads((folder / "results.json").read_text())["metrics"] == whole["metrics"]
        records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        counts = Counter((record["test"], record["step"]) for record in records if record["kind"] == "evaluation")
        assert set(counts.values()) == {1}
    assert before_done >= KILLS // 3  # or the kills came too late to show anything
