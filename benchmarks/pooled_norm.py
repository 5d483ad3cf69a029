"""Time and memory of CKD's training step with pooled batch normalisation, against copying activations together.

The official way lays the flat activations of face and periocular images side by side along space, gives them to one
ordinary `BatchNorm2d` and cuts the result apart. Both ways run the same network (the official pair of ResNet-18 with
1054 classes) over the same layers, from the same weights, on the same batch; the whole step is timed: forward, loss,
backward, SGD. The weights after a step must agree; that is checked in float64. Times are of interleaved repeats in one
process, peaks of memory of two steps in a separate process: first with the allocator as it comes, which gives large
tensors back to the system, then with freed memory kept, as `kdface train` has it.
"""

from __future__ import annotations

import multiprocessing
import statistics
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from kdface.backbones.ckd_resnet import ckd_resnet18
from kdface.backbones.paired import Paired, lockstep
from kdface.backbones.pooled_norm import PooledBatchNorm
from kdface.hardware import keep_freed_memory
from kdface.heads import Softmax
from kdface.losses.distillation import tempered_kl

BATCH, CLASSES, SHARED = 16, 1054, 4
SIZES = {"face": (128, 128), "periocular": (48, 128)}
SMALL = {"face": (32, 32), "periocular": (16, 32)}
REPEATS = 7


class Way(NamedTuple):
    """A way to pool, and the memory layout it runs in."""

    name: str
    official: bool
    layout: torch.memory_format


WAYS = (
    Way("kdface", False, torch.channels_last),
    Way("side by side, channels last", True, torch.channels_last),
    Way("side by side, as published", True, torch.contiguous_format),
)


class SideBySide(nn.Module):
    """The official way: (N, C, H, W) maps, flat and beside each other as (N, C, 1, sum of H W), normalised as one."""

    def __init__(self, norm: _BatchNorm, relu: bool) -> None:
        super().__init__()
        self.norm = norm
        self.relu = relu

    def forward(self, *maps: Tensor) -> tuple[Tensor, ...]:
        flat = self.norm(torch.cat([features.flatten(2)[:, :, None] for features in maps], dim=3))
        parts = flat.split([features.shape[2] * features.shape[3] for features in maps], dim=3)
        results = [part.reshape(each.shape) for part, each in zip(parts, maps, strict=True)]
        return tuple(result.relu() if self.relu else result for result in results)


class Trainer:
    """The pair with its classifiers and optimiser, one way to pool, and one batch."""

    def __init__(self, way: Way, sizes: dict[str, tuple[int, int]], dtype: torch.dtype = torch.float32) -> None:
        torch.manual_seed(0)
        self.pair = Paired({role: ckd_resnet18(image_size=size) for role, size in sizes.items()}, SHARED)
        self.heads = nn.ModuleDict({role: Softmax(512, CLASSES) for role in SIZES})
        self.all = nn.ModuleList([self.pair, self.heads]).to(dtype)
        self.all.to(memory_format=way.layout)  # type: ignore[call-overload]
        self.optimizer = torch.optim.SGD(self.all.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
        self.trunk = _trunk(self.pair, way)
        self.images = {
            role: torch.randn(BATCH, 3, *size).to(dtype).contiguous(memory_format=way.layout)
            for role, size in sizes.items()
        }
        self.label = torch.randint(0, CLASSES, (BATCH,))

    def step(self) -> None:
        self.optimizer.zero_grad()
        logits: list[Tensor] = []
        losses: list[Tensor] = []
        for role, features in zip(SIZES, self.trunk(*self.images.values()), strict=True):
            for _, stage in self.pair.path(role).stages()[SHARED:]:
                features = stage(features)
            output = self.heads[role](features, self.label)
            logits.append(output.logits)
            losses.append(output.loss)
        face, periocular = logits
        losses.append(tempered_kl(periocular, face.detach(), 2.5))
        losses.append(tempered_kl(face, periocular.detach(), 2.5))
        torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()


def _trunk(pair: Paired, way: Way) -> fx.GraphModule:
    """The shared stages for both modalities at once; the graph is the same whatever way they are pooled."""
    stages = nn.Sequential(*(stage for _, stage in pair.path("face").stages()[:SHARED]))
    trunk = lockstep(stages, list(SIZES))
    if way.official:
        for name, module in list(trunk.named_modules()):
            if isinstance(module, PooledBatchNorm):
                parent, _, last = name.rpartition(".")
                setattr(trunk.get_submodule(parent), last, SideBySide(module.norm, module.relu))
    return trunk


def main() -> None:
    threads = torch.get_num_threads()
    print(f"CKD's step, {BATCH} pairs of 128x128 and 48x128, {REPEATS} interleaved repeats, {threads} threads")
    _require_equal()
    _compare(threads, kept=False)
    keep_freed_memory()
    _compare(threads, kept=True)


def _compare(threads: int, kept: bool) -> None:
    print("freed memory kept, as in kdface train:" if kept else "freed memory given back:")
    trainers = {way: Trainer(way, SIZES) for way in WAYS}
    for trainer in trainers.values():
        trainer.step()  # what is allocated once
    seconds: dict[Way, list[float]] = {way: [] for way in WAYS}
    for repeat in range(REPEATS):
        for way in WAYS if repeat % 2 else WAYS[::-1]:
            start = time.perf_counter()
            trainers[way].step()
            seconds[way].append(time.perf_counter() - start)
    del trainers
    peaks = {way: _apart(way, threads, kept) for way in WAYS}
    for way in WAYS:
        print(f"  {way.name:<28} {statistics.median(seconds[way]):6.2f} s  {peaks[way]:6.0f} MiB")
    ours, others = WAYS[0], WAYS[1:]
    for other in others:
        faster = statistics.median(b / a for a, b in zip(seconds[ours], seconds[other], strict=True))
        less = peaks[other] / peaks[ours]
        print(f"  kdface: {faster:.2f} times as fast, {less:.2f} times less memory ({other.name})")


def _require_equal() -> None:
    """One step moves all weights alike: in float64, where rounding hides nothing, on small images."""
    trainers = [Trainer(way, SMALL, torch.float64) for way in WAYS]
    for trainer in trainers:
        trainer.step()
    first, *others = (trainer.all.state_dict() for trainer in trainers)
    for key, value in first.items():
        for way, state in zip(WAYS[1:], others, strict=True):
            difference = float((state[key] - value).abs().max() / value.abs().max().clamp_min(1e-6))
            if difference > 1e-7:
                raise SystemExit(f"after one step {key} differs by {difference:.1e} ({way.name})")


def _apart(way: Way, threads: int, kept: bool) -> float:
    """Peak of memory over two steps above what a bare process with torch holds, in MiB, in a fresh process."""
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_measure, args=(WAYS.index(way), threads, kept, theirs))
    child.start()
    theirs.close()
    peak = float(mine.recv())
    child.join()
    return peak


def _measure(index: int, threads: int, kept: bool, answer: Connection) -> None:
    if kept:
        keep_freed_memory()
    torch.set_num_threads(threads)
    Path("/proc/self/clear_refs").write_text("5")  # `ru_maxrss` would start at the parent's peak
    before = _peak()
    trainer = Trainer(WAYS[index], SIZES)
    for _ in range(2):
        trainer.step()
    answer.send(_peak() - before)


def _peak() -> float:
    """The most memory this process has held since its peak was forgotten, in MiB (Linux)."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM:")).split()[1]) / 1024


if __name__ == "__main__":
    main()
