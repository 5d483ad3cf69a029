"""How time and memory grow with classes, pairs, batch and image size, beside the proportion that is necessary.

Each measurement has a process of its own; processor seconds, one thread, MiB above what is given. `power` is the slope
between the last two sizes in logarithms: 1 is in proportion. `python -m benchmarks.growth FILE.svg` draws it.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from benchmarks.measure import apart, peak, start_peak
from kdface.augmentations import Standard
from kdface.backbones.iresnet import iresnet_nano
from kdface.datasets import ToyFaces
from kdface.datasets.loading import BatchOrder, ResumableLoader, TrainingSet, shuffled
from kdface.evaluation.curves import eer, roc_corners
from kdface.hardware import keep_freed_memory
from kdface.heads import CosFace

Measured = tuple[float, float]


def classes(number: int) -> Measured:
    """A margin head's forward and backward, batch 64, 128 dimensions."""
    head = CosFace(128, number)
    head.keeps_logits = head.keeps_cosine = False
    embedding, label = torch.randn(64, 128, requires_grad=True), torch.randint(number, (64,))
    return _spent(lambda: head(embedding, label).loss.backward())


def pairs(number: int) -> Measured:
    """ROC and equal error rate of float32 scores, one in a hundred genuine."""
    rng = np.random.default_rng(0)
    same = rng.random(number, dtype=np.float32) < 0.01
    scores = rng.standard_normal(number, dtype=np.float32)
    scores[same] += 2
    return _spent(lambda: eer(roc_corners(scores, same)))


def batch(number: int) -> Measured:
    """A training step of the demo's network at 64 x 64."""
    return _step(number, 64)


def side(number: int) -> Measured:
    """The same of 32 images, by the pixels of a side; the necessary power is 2."""
    return _step(32, number)


def workers(number: int) -> Measured:
    """Seconds (not of a processor) of loading 512 toy faces, drawn anew, by as many worker processes; the necessary
    power is -1 up to the number of cores. The memory is that of the parent alone."""
    order = BatchOrder(shuffled(512, 32, 0))
    loader = ResumableLoader(TrainingSet(ToyFaces(people=16, images_per_person=32), Standard(), 0), order, number)
    return _spent(lambda: [None for _ in loader], time.perf_counter)


SIZES: dict[Callable[[int], Measured], tuple[int, ...]] = {
    classes: (1_000, 100_000, 1_000_000),
    pairs: (10_000, 1_000_000, 10_000_000, 100_000_000),
    batch: (8, 32, 128),
    side: (32, 64, 128),
    workers: (1, 2),
}


def main(drawing: str | None = None) -> None:
    found = {
        measure.__name__: [(size, apart(_measure, measure, size)) for size in sizes] for measure, sizes in SIZES.items()
    }
    print("| grows with | seconds at each size | power of the last step | MiB |\n|---|---|---|---|")
    for name, rows in found.items():
        sizes, seconds, memory = (
            ", ".join(format(value, form) for value in values)
            for values, form in (
                ([size for size, _ in rows], ","),
                ([spent for _, (spent, _) in rows], ".3g"),
                ([most for _, (_, most) in rows], ".0f"),
            )
        )
        (small, (before, _)), (large, (after, _)) = rows[-2:]
        power = math.log(after / before) / math.log(large / small)
        print(f"| {name} {sizes} | {seconds} | {power:.2f} | {memory} |")
    if drawing:
        draw(found, Path(drawing))


def draw(found: dict[str, list[tuple[int, Measured]]], file: Path) -> None:
    """Seconds and MiB over each size, logarithmic; dashed: in proportion (to the area, for the side)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.6 * len(found), 4.6), layout="constrained")
    for column, (name, rows) in enumerate(found.items()):
        sizes = [size for size, _ in rows]
        for line, what in enumerate(("seconds", "MiB")):
            axes = figure.add_subplot(2, len(found), 1 + column + line * len(found))
            values = [max(each[line], 1e-5) for _, each in rows]
            power = {"side": 2, "workers": -1 if what == "seconds" else 0}.get(name, 1)
            axes.loglog(sizes, [values[-1] * (size / sizes[-1]) ** power for size in sizes], "--", color="0.6")
            axes.loglog(sizes, values, "o-")
            low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values) * 1.01))
            axes.set_ylim(10.0**low, 10.0**high)
            axes.minorticks_off()
            axes.set_xticks(sizes, [f"{size:.0e}".replace("e+0", "e") if size >= 1000 else str(size) for size in sizes])
            axes.set_xlabel(name)
            axes.set_ylabel(what)
            axes.grid(alpha=0.3)
    figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)


def _measure(measure: Callable[[int], Measured], size: int) -> Measured:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    return measure(size)


def _step(images: int, side: int) -> Measured:
    keep_freed_memory()
    network = iresnet_nano(image_size=(side, side)).train()
    pixels = torch.randn(images, 3, side, side)
    return _spent(lambda: network(pixels).square().sum().backward())


def _spent(work: Callable[[], object], clock: Callable[[], float] = time.process_time) -> Measured:
    """The second pass's seconds, the peak of both."""
    before = start_peak()
    work()
    start = clock()
    work()
    return clock() - start, peak() - before


if __name__ == "__main__":
    main(*sys.argv[1:2])
