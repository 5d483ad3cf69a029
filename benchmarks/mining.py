"""Time and memory of mining semi-hard triplets from a batch of 45 people with 40 images, against another library.

Three miners see the same float64 embeddings on one thread, each in its own process so that peaks of memory do not
mix, and interleaved: kdface's hardest semi-hard negative of each pair, kdface's every semi-hard negative, and
pytorch-metric-learning's `TripletMarginMiner`, which gives every one. The last two must give the same triplets, and the
hardest of each pair among them must be the first's; that is checked. Distances are part of what is timed.
"""

from __future__ import annotations

import multiprocessing
import statistics
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from kdface.losses import AllSemiHard, SemiHard, squared_distances

PEOPLE, IMAGES, SIZE = 45, 40, 128
MARGIN = 0.2
REPEATS = 3
NAMES = ("kdface, hardest", "kdface, every", "pytorch-metric-learning")


class Mined(NamedTuple):
    """Seconds, the peak of memory above the inputs in MiB, and the triplets as sorted numbers (a N + p) N + n."""

    seconds: float
    peak: float
    codes: Tensor


def main() -> None:
    try:
        import pytorch_metric_learning  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError:
        print("mining: needs pytorch-metric-learning (pip install --no-deps pytorch-metric-learning); left out")
        return
    print(f"semi-hard triplets of {PEOPLE} x {IMAGES} embeddings of length {SIZE}, {REPEATS} interleaved repeats")
    print(f"pytorch-metric-learning {pytorch_metric_learning.__version__}, torch {torch.__version__}, one thread")
    found: dict[str, list[Mined]] = {name: [] for name in NAMES}
    for repeat in range(REPEATS):
        for name in NAMES:
            found[name].append(_apart(name, repeat))
        _require_equal({name: runs[-1].codes for name, runs in found.items()}, repeat)
    for name, runs in found.items():
        seconds, peak = statistics.median(run.seconds for run in runs), statistics.median(run.peak for run in runs)
        print(f"  {name:<24} {seconds:7.2f} s  {peak:7.0f} MiB above the inputs  {len(runs[0].codes):>9,} triplets")
    for name in NAMES[:2]:
        pairs = list(zip(found[name], found[NAMES[2]], strict=True))
        faster = statistics.median(other.seconds / ours.seconds for ours, other in pairs)
        smaller = statistics.median(other.peak / ours.peak for ours, other in pairs)
        print(f"{name}: {faster:.0f} times faster, {smaller:.0f} times less memory (median ratios)")


def _apart(name: str, seed: int) -> Mined:
    """One miner, measured in a fresh process."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_measure, args=(name, seed, theirs))
    child.start()
    theirs.close()
    seconds, peak, codes = ours.recv()
    child.join()
    return Mined(seconds, peak, torch.tensor(codes))


def _measure(name: str, seed: int, answer: Connection) -> None:
    torch.set_num_threads(1)
    embedding, labels = _batch(seed)
    if name == NAMES[2]:
        from pytorch_metric_learning.distances import (  # type: ignore[import-not-found,import-untyped,unused-ignore]
            LpDistance,
        )
        from pytorch_metric_learning.miners import (  # type: ignore[import-not-found,import-untyped,unused-ignore]
            TripletMarginMiner,
        )

        miner = TripletMarginMiner(margin=MARGIN, type_of_triplets="semihard", distance=LpDistance(power=2))
        before, start = _start_peak(), time.perf_counter()
        triplets = miner(embedding, labels)
    else:
        rule = SemiHard() if name == NAMES[0] else AllSemiHard()
        before, start = _start_peak(), time.perf_counter()
        triplets = rule(squared_distances(embedding), labels, MARGIN, torch.Generator())
    seconds, peak = time.perf_counter() - start, _peak() - before
    anchor, positive, negative = (each.long() for each in triplets)
    codes = ((anchor * len(labels) + positive) * len(labels) + negative).sort().values
    answer.send((seconds, peak, codes.numpy()))


def _batch(seed: int) -> tuple[Tensor, Tensor]:
    """Unit embeddings whose distances overlap between people, as they do early in training, and labels."""
    draws = torch.Generator().manual_seed(seed)
    labels = torch.arange(PEOPLE).repeat_interleave(IMAGES)
    centres = torch.randn(PEOPLE, SIZE, generator=draws, dtype=torch.float64)
    noise = torch.randn(len(labels), SIZE, generator=draws, dtype=torch.float64)
    return normalize(centres[labels] + 1.3 * noise), labels


def _start_peak() -> float:
    """Forget the peak so far and return what is held now, in MiB (Linux). `ru_maxrss` would start at the parent's."""
    Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _peak() -> float:
    """The most memory this process has held since `_start_peak`, in MiB."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM:")).split()[1]) / 1024


def _require_equal(codes: dict[str, Tensor], seed: int) -> None:
    """The miners must have found the same triplets."""
    hardest, every, other = (codes[name] for name in NAMES)
    if not torch.equal(every, other):
        raise SystemExit(f"kdface finds {len(every)} semi-hard triplets, the other library {len(other)}")
    size = PEOPLE * IMAGES
    distances = squared_distances(_batch(seed)[0])[other // size // size, other % size]
    nearest_first = distances.argsort(stable=True)
    nearest_first = nearest_first[(other // size)[nearest_first].argsort(stable=True)]
    pair = (other // size)[nearest_first]
    begins = torch.cat([torch.ones(1, dtype=torch.bool), pair[1:] != pair[:-1]])
    if not torch.equal(hardest, other[nearest_first[begins]]):
        raise SystemExit(
            "kdface's hardest semi-hard triplets are not the hardest of those that the other library finds"
        )


if __name__ == "__main__":
    main()
