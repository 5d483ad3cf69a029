"""What the start of a job costs in a sweep: many short jobs against the seconds that they train, and a lone start.

A job is a tiny network on tiny faces; what it takes besides training is its start: composing, forking, assembling,
evaluating nothing, drawing. The lone start is `kdface run` in a fresh interpreter, imports and all.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.measure import Bound, Line, apart, table
from kdface.hardware import cores

JOBS = 4
SECONDS = 1.0  # of training per job, about
ALLOWED = 2.0  # seconds of a core that a job may cost besides
_PR_SET_CHILD_SUBREAPER = 36
TINY = [
    "dataset=toy_faces",
    "dataset.people=6",
    "dataset.images_per_person=6",
    "dataset.size=[32,32]",
    "evaluation=none",
    "backbone=iresnet_nano",
    "backbone.channels=[8,8,8,8]",
    "backbone.blocks=[1,1,1,1]",
    "backbone.embedding_size=8",
    "loader.batch_size=8",
    "hardware.threads=1",
]


def main() -> list[Line]:
    n_jobs = min(2, cores())
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        environment = {**os.environ, "KDFACE_CACHE": f"{here}/cache"}
        steps = _steps(here, environment)
        words = [*TINY, f"trainer.max_epochs={steps}", f"trainer.max_steps={steps}", f"paths.runs={here}/runs"]
        seeds = ",".join(map(str, range(JOBS)))
        words += ["-m", f"seed={seeds}", f"hydra.launcher.n_jobs={n_jobs}"]
        spent, worked = apart(_spent, words, environment)
        results = [json.loads(file.read_text()) for file in (here / "runs").rglob("seed*/results.json")]
        assert len(results) == JOBS
        trained = [result["train_seconds"] for result in results]
        start = (spent * n_jobs - sum(trained)) / JOBS
        return [
            Bound(
                f"a sweep of {JOBS} tiny jobs, {n_jobs} at once, what is not training, a job",
                *([start], "s", ALLOWED),
                f"jobs of {statistics.mean(trained):.2f} s; the processors worked {worked / JOBS:.2f} s a job in all; "
                f"a lone start {_lone(here, environment):.2f} s",
            )
        ]


def _kdface(*words: str, env: dict[str, str]) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "kdface", *words], env=env, check=True, capture_output=True)
    return time.perf_counter() - began


def _spent(words: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Seconds by the clock, and of the processors, of a `kdface train`, in a process without other children: orphans
    such as the server of a sweep are adopted (Linux) and awaited."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    clock = _kdface("train", *words, env=environment)
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return clock, used.ru_utime + used.ru_stime


def _steps(here: Path, environment: dict[str, str]) -> int:
    """How many steps take about SECONDS."""
    steps = 40
    words = [*TINY, f"trainer.max_epochs={steps}", f"trainer.max_steps={steps}", f"paths.runs={here}/probe"]
    _kdface("train", *words, env=environment)
    (file,) = (here / "probe").rglob("results.json")
    spent = float(json.loads(file.read_text())["train_seconds"])
    return max(1, round(steps * SECONDS / max(0.05, spent)))


def _lone(here: Path, environment: dict[str, str]) -> float:
    """Seconds of `kdface run` on a prepared folder, its training left out."""
    (file,) = (here / "probe").rglob("results.json")
    for left in (file, file.parent / "DONE", file.parent / "checkpoints" / "last.ckpt"):
        left.unlink()
    spent = _kdface("run", str(file.parent), env=environment)
    return spent - float(json.loads(file.read_text())["train_seconds"])


if __name__ == "__main__":
    print(table(main()))
