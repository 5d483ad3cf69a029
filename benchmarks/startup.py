"""Processor seconds from a command to its answer: import, help, doctor, a typo, and the first step of a tiny run.

Each is a fresh interpreter; children's time is counted. The limits are `import torch` and `import pytorch_lightning`
alone, which a run cannot do without.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time

from benchmarks.measure import Bound, Line, Row, ratios, table

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
# The least that a program of Hydra and Lightning does until then, as lightning-hydra-template does it and more.
_TEMPLATE = """
import os
import hydra, torch
import pytorch_lightning as pl
class Module(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(8, 8)
    def training_step(self, batch, index):
        return self.layer(batch[0]).square().mean()
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)
    def on_train_batch_end(self, *given):
        os._exit(0)
with hydra.initialize(version_base=None):
    hydra.compose(overrides=["+trainer.max_steps=1"])
data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.randn(64, 8)), batch_size=8)
pl.Trainer(max_steps=1, accelerator="cpu", logger=False, enable_progress_bar=False).fit(Module(), data)
"""
COMMANDS: dict[str, list[str]] = {
    "import kdface": ["-c", "import kdface"],
    "kdface --help": ["-m", "kdface", "--help"],
    "kdface doctor": ["-m", "kdface", "doctor"],
    "a typo": ["-m", "kdface", "train", "experiment=demo", "head.margn=3"],
    "first step": ["-c", _FIRST_STEP],
    "bare": ["-c", _TEMPLATE],
    "import torch": ["-c", "import torch"],
    "import pytorch_lightning": ["-c", "import pytorch_lightning"],
}


def main() -> list[Line]:
    found: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(REPEATS):
        for name, words in COMMANDS.items():
            found[name].append(spent(words)[0])
    rows: list[Line] = [Bound(name, found[name], "s", most) for name, most in ALLOWED.items()]
    first, bare, imports = found["first step"], found["bare"], found["import pytorch_lightning"]
    return [
        *rows,
        Row(
            "command to the first step of a tiny run",
            "a bare program of Hydra and Lightning",
            statistics.median(first),
            statistics.median(bare),
            "s",
            ratios(first, bare),
            2,
            "",
            f"`import pytorch_lightning` {statistics.median(imports):.1f} s, `import torch` "
            f"{statistics.median(found['import torch']):.1f} s",
        ),
    ]


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
    print(table(main()))
