"""Seconds of `kdface report` of 160 finished runs of 40 configurations: copies of one run, their margins changed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from benchmarks.measure import Bound, Line, table
from benchmarks.startup import spent
from benchmarks.sweep import TINY

CONFIGURATIONS, SEEDS = 40, 4
ALLOWED = 10.0
_TESTED = [
    "evaluation=toy_pairs",
    "evaluation.toy_pairs.dataset.size=[32,32]",
    "evaluation.toy_pairs.folds=2",
    "evaluation.toy_pairs.pairs_per_fold=100",
]


def main() -> list[Line]:
    with tempfile.TemporaryDirectory() as folder:
        runs = _runs(Path(folder))
        seconds, _ = spent(["-m", "kdface", "report", str(runs)])
        assert (runs / "report.html").is_file()
    return [Bound(f"`kdface report` of {CONFIGURATIONS * SEEDS} runs", [seconds], "s", ALLOWED)]


def _runs(here: Path) -> Path:
    words = [*(word for word in TINY if word != "evaluation=none"), *_TESTED, "trainer.max_epochs=2"]
    environment = {**os.environ, "KDFACE_CACHE": f"{here}/cache"}
    command = [sys.executable, "-m", "kdface", "train", *words, f"paths.runs={here}/one"]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    (one,) = (file.parent for file in (here / "one").rglob("config.yaml"))
    for number in range(CONFIGURATIONS):
        for seed in range(SEEDS):
            copy = here / "runs" / "many" / f"seed{seed}-{number:08x}"
            shutil.copytree(one, copy)
            tree = yaml.safe_load((copy / "config.yaml").read_text())
            tree["head"]["margin"], tree["seed"] = 1.3 + 0.01 * number, seed
            (copy / "config.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    return here / "runs"


if __name__ == "__main__":
    print(table(main()))
