"""Time and memory of a head's training step over its classes, all of them and a tenth, and on paper at ten million.

One process: CosFace under `PartialFC`, forward, loss, backward and SGD with momentum, float32, on a batch of random
embeddings. Each measurement runs in its own process; time is the median of the steps, in seconds of the processor, and
memory the peak of the resident set above what it was before there was a head. Both grow in proportion to the classes of
a rank, so a line through the measured sizes gives what a rank with its part of ten million needs: on paper, on a
processor like this one. What the ranks send each other, the embeddings of the batch and a few numbers a row, does not
grow with the classes.
"""

from __future__ import annotations

import multiprocessing
import resource
import statistics
import time
from multiprocessing.connection import Connection

import numpy as np
import torch

from kdface.heads import CosFace, PartialFC

BATCH, SIZE, STEPS = 64, 256, 5
MEASURED = (20_000, 40_000, 80_000)
PEOPLE = 10_000_000
RANKS = (1, 8, 64)
RATES = (1.0, 0.1)


def _peak() -> float:
    """Peak of the resident set, GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def _measure(answer: Connection, classes: int, rate: float) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    before = _peak()
    head = PartialFC(CosFace(SIZE, classes), rate)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    seconds = []
    for _ in range(STEPS):
        embedding = torch.randn(BATCH, SIZE, requires_grad=True)
        label = torch.randint(classes, (BATCH,))
        began = time.process_time()
        head(embedding, label).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.process_time() - began)
    answer.send((statistics.median(seconds[1:]), _peak() - before))


def measured(classes: int, rate: float) -> tuple[float, float]:
    """Seconds a step and GB, of a head with this many classes in this process."""
    context = multiprocessing.get_context("fork")  # nothing of torch has run here, and imports are shared
    ours, theirs = context.Pipe()
    process = context.Process(target=_measure, args=(theirs, classes, rate))
    process.start()
    found: tuple[float, float] = ours.recv()
    process.join()
    return found


def main() -> None:
    print(f"batch {BATCH}, {SIZE} dimensions, one thread, float32, SGD with momentum")
    print(f"{'classes':>10} {'rate':>5} {'s/step':>9} {'GB':>7} {'weights + gradient + momentum, GB':>36}")
    for rate in RATES:
        rows = []
        for classes in MEASURED:
            seconds, memory = measured(classes, rate)
            rows.append((seconds, memory))
            print(f"{classes:>10} {rate:>5} {seconds:>9.4f} {memory:>7.3f} {3 * 4 * classes * SIZE / 1e9:>36.3f}")
        by_classes = [np.polyfit(MEASURED, [row[place] for row in rows], 1) for place in (0, 1)]
        for ranks in RANKS:
            each = PEOPLE / ranks
            seconds, memory = (float(np.polyval(line, each)) for line in by_classes)
            print(f"  on paper, {PEOPLE:,} classes on {ranks} rank(s): {seconds:.2f} s/step, {memory:.1f} GB per rank")


if __name__ == "__main__":
    main()
