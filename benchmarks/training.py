"""Images per second of a kdface run and of a bare PyTorch loop over the same network, head and batches.

The bare loop is what one writes by hand: loader, forward, backward, step; no Lightning, no record, no checkpoint.
Both start from the same weights and see the same batches, so their losses must agree; that is checked.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.measure import Line, Row, ratios, table
from kdface.assembly.assemble import assemble
from kdface.assembly.job import Job
from kdface.config.compose import compose
from kdface.datasets.loading import BatchOrder, ResumableLoader
from kdface.hardware import forward_context
from kdface.runs.checkpoint import read_checkpoint
from kdface.runs.folder import RunFolder
from kdface.training.train import train
from kdface.training.trainer import machine

REPEATS = 7
STEPS = 14
WARMUP = 4  # steps not counted
BATCH = 64


def main() -> list[Line]:
    overrides = [
        "experiment=demo",
        "dataset.people=40",  # more images than steps see: no epoch ends within what is timed
        "evaluation=none",
        f"trainer.max_steps={STEPS}",
        f"loader.batch_size={BATCH}",
        "evaluate_untrained=false",
        f"trainer.log_every_n_steps={STEPS - WARMUP}",
    ]
    tree = compose(overrides).tree
    profile, threads = machine(assemble(tree).settings)
    ours, bare = [], []
    for repeat in range(REPEATS + 1):  # the first one warms caches up and is not counted
        with tempfile.TemporaryDirectory() as folder:
            run = RunFolder(Path(folder))
            run.config.touch()  # by which a run is known to be there
            if repeat % 2:  # each goes first as often as the other, so that a drifting machine favours neither
                kdface = _time_run(assemble(tree), run)
                loop, weights = _time_loop(assemble(tree))
            else:
                loop, weights = _time_loop(assemble(tree))
                kdface = _time_run(assemble(tree), run)
            _require_equal(read_checkpoint(run.last)["state_dict"], weights)
        if repeat:
            ours.append(kdface)
            bare.append(loop)
    return [
        Row(
            f"training, iResNet-nano, 64 x 64, batch {BATCH}, {threads} threads, profile {profile.name}, of seconds",
            "a hand-tuned loop of the same precision and layout",
            *(statistics.median(ours), statistics.median(bare), "images/s", ratios(bare, ours), 0.98),
        )
    ]


class _Clock:
    """Seconds between the end of step WARMUP and the end of the last step."""

    def __init__(self) -> None:
        self.step = 0
        self.start = self.end = 0.0

    def tick(self) -> None:
        self.step += 1
        if self.step == WARMUP:
            self.start = time.perf_counter()
        self.end = time.perf_counter()

    @property
    def rate(self) -> float:
        return (self.step - WARMUP) * BATCH / (self.end - self.start)


def _time_run(job: Job, folder: RunFolder) -> float:
    """A whole run through the public entry, timed from within by the head, which both sides call once a step."""
    clock = _Clock()
    job.method.head.register_forward_hook(lambda *_: clock.tick())  # type: ignore[union-attr]
    train(job, folder)
    return clock.rate


def _time_loop(job: Job) -> tuple[float, dict[str, Tensor]]:
    profile, _ = machine(job.settings)
    method: Any = job.method
    method.use_memory_format(profile.channels_last)
    clock = _Clock()
    method.head.register_forward_hook(lambda *_: clock.tick())
    optimizer = method.optimization.optimizer(method.parameters())
    plan = method.optimization
    schedule = plan.schedule(optimizer, plan.total_steps, plan.steps_per_epoch)
    loader = ResumableLoader(job.data.training, BatchOrder(job.data.order), job.settings.loader.num_workers)
    method.train()
    done = 0
    while done < STEPS:
        for batch in loader:
            with forward_context(profile):
                embedding = method.backbone(method.pixels(batch.views["image"]))
                loss = method.head(embedding, batch.label).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            done += 1
            if done == STEPS:
                break
    return clock.rate, method.state_dict()


def _require_equal(ours: dict[str, Tensor], bare: dict[str, Tensor]) -> None:
    """The two must have done the same work."""
    for name, value in bare.items():
        if not torch.equal(ours[name], value):
            raise SystemExit(f"the run and the loop ended with other weights ({name}): they did not do the same work")


if __name__ == "__main__":
    print(table(main()))
