"""Processor seconds from a command to its answer: import, help, doctor, a typo, and the first step of a tiny run.

Each is a fresh interpreter; children's time is counted. The floors beside them are `import torch` and
`import pytorch_lightning` alone, which a run cannot do without.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time

REPEATS = 3
ALLOWED = {"import kdface": 0.2, "kdface --help": 0.5, "kdface doctor": 1.0, "a typo": 1.5}
_RUN = ("experiment=demo", "dataset.people=8", "dataset.images_per_person=4", "loader.batch_size=8", "evaluation=none")
# The first optimiser step ends the process.
_FIRST_STEP = f"""
import os, sys
import torch.optim
step = torch.optim.SGD.step
def first(self, *given, **named):
    step(self, *given, **named)
    os._exit(0)
torch.optim.SGD.step = first
from kdface.cli import main
main(["train", *{_RUN!r}, "trainer.max_steps=1"])
"""
COMMANDS: dict[str, list[str]] = {
    "import kdface": ["-c", "import kdface"],
    "kdface --help": ["-m", "kdface", "--help"],
    "kdface doctor": ["-m", "kdface", "doctor"],
    "a typo": ["-m", "kdface", "train", "experiment=demo", "head.margn=3"],
    "first step": ["-c", _FIRST_STEP],
    "import torch": ["-c", "import torch"],
    "import pytorch_lightning": ["-c", "import pytorch_lightning"],
}


def main() -> None:
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    for _ in range(REPEATS):
        for name, words in COMMANDS.items():
            found[name].append(spent(words))
    for name, each in found.items():
        seconds = [cpu for cpu, _ in each]
        limit = f"   allowed {ALLOWED[name]:.1f}" if name in ALLOWED else ""
        print(
            f"  {name:<26} {statistics.median(seconds):6.2f} processor s ({min(seconds):.2f} to {max(seconds):.2f})  "
            f"{statistics.median(wall for _, wall in each):6.2f} s{limit}"
        )


def spent(words: list[str]) -> tuple[float, float]:
    """Processor seconds and seconds of a fresh interpreter with these arguments, in an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "KDFACE_CACHE": f"{folder}/cache", "OMP_NUM_THREADS": "1"}
        environment.pop("KDFACE_DATA", None)
        before, start = os.times(), time.perf_counter()
        subprocess.run([sys.executable, *words], cwd=folder, env=environment, capture_output=True)
        wall, after = time.perf_counter() - start, os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return cpu, wall


if __name__ == "__main__":
    main()
