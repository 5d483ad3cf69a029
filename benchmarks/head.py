"""Time and memory of a margin head on 512 embeddings and 100,000 classes, against the head as it is usually written.

Usually: the cosines of normalised embeddings and weights, a copy with the margin at the own class, the scale, and
`CrossEntropyLoss`. Forward and backward, float32, one thread, ArcFace. Both must give the same loss and gradients.
"""

from __future__ import annotations

import statistics
import time

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, normalize

from benchmarks.measure import Row, apart, peak, ratios, start_peak
from kdface.heads import ArcFace

BATCH, CLASSES, SIZE = 512, 100_000, 512
SCALE, MARGIN = 64.0, 0.5
REPEATS, PASSES = 2, 2


def main() -> list[Row]:
    found: dict[str, list[tuple[float, float, float]]] = {"kdface": [], "usual": []}
    for repeat in range(REPEATS):
        for name in found if repeat % 2 else reversed(found):
            found[name].append(apart(measure, name))
        losses = [runs[-1][2] for runs in found.values()]
        if abs(losses[0] - losses[1]) > 1e-4 * losses[0]:
            raise SystemExit(f"the losses are {losses[0]} and {losses[1]}")
    (ours, usual) = ([run[0] for run in runs] for runs in found.values())
    memory = [statistics.median(run[1] for run in runs) for runs in found.values()]
    bound = 3 * apart(_product)
    mine = statistics.median(ours)
    return [
        Row(
            f"margin head, forward and backward, {BATCH} x {CLASSES:,}",
            "the head as usually written",
            mine,
            statistics.median(usual),
            "s",
            ratios(ours, usual),
            2.5,
            f"{memory[0]:.0f} and {memory[1]:.0f} MiB, {memory[0] / memory[1]:.2f} x (wanted 0.3 x)",
            f"three matrix products, {bound:.2f} s: {bound / mine:.0%}",
        )
    ]


def measure(name: str) -> tuple[float, float, float]:
    """Processor seconds of a pass, MiB above weights and inputs, loss."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    head = ArcFace(SIZE, CLASSES, scale=SCALE, margin=MARGIN)
    head.keeps_logits = head.keeps_cosine = False  # as the methods with a margin head set them
    embedding = torch.randn(BATCH, SIZE, requires_grad=True)
    label = torch.randint(CLASSES, (BATCH,))
    spent = []
    before = start_peak()
    for _ in range(PASSES):
        embedding.grad = head.weight.grad = None
        start = time.process_time()
        if name == "kdface":
            loss = head(embedding, label).loss
        else:
            loss = usual(embedding, head.weight, label)
        loss.backward()
        spent.append(time.process_time() - start)
    return spent[-1], peak() - before, float(loss.detach())


def usual(embedding: Tensor, weight: Tensor, label: Tensor) -> Tensor:
    """ArcFace as one writes it."""
    cosine = linear(normalize(embedding), normalize(weight)).clamp(-1, 1)
    own = cosine.gather(1, label[:, None])
    logits = cosine.clone()
    logits.scatter_(1, label[:, None], torch.cos(torch.acos(own) + MARGIN))
    loss: Tensor = nn.CrossEntropyLoss()(logits * SCALE, label)
    return loss


def _product() -> float:
    """Processor seconds of one product of the batch and all classes."""
    torch.set_num_threads(1)
    left, right, out = torch.randn(BATCH, SIZE), torch.randn(CLASSES, SIZE), torch.empty(CLASSES, BATCH)
    spent = []
    for _ in range(3):
        start = time.process_time()
        torch.mm(right, left.T, out=out)
        spent.append(time.process_time() - start)
    return min(spent)


if __name__ == "__main__":
    from benchmarks.measure import table

    print(table(main()))
