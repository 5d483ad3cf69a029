"""Time and memory of mining semi-hard triplets from a batch of 45 people with 40 images, against another library.

Three miners see the same float64 embeddings on one thread, each in its own process so that peaks of memory do not
mix, and interleaved: kdface's hardest semi-hard negative of each pair, kdface's every semi-hard negative, and
pytorch-metric-learning's `TripletMarginMiner`, which gives every one. The last two must give the same triplets, and the
hardest of each pair among them must be the first's; that is checked. Distances are part of what is timed.
"""

from __future__ import annotations

import statistics
import time
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from benchmarks.measure import LeftOut, Row, apart, peak, ratios, start_peak
from kdface.hardware import keep_freed_memory
from kdface.losses import AllSemiHard, SemiHard, squared_distances

PEOPLE, IMAGES, SIZE = 45, 40, 128
MARGIN = 0.2
REPEATS = 2
NAMES = ("kdface, hardest", "kdface, every", "pytorch-metric-learning")


class Mined(NamedTuple):
    """Processor seconds, MiB above the inputs at the peak, and the triplets as sorted numbers (a N + p) N + n."""

    seconds: float
    peak: float
    codes: Tensor


def main() -> list[Row | LeftOut]:
    if find_spec("pytorch_metric_learning") is None:
        return [LeftOut("semi-hard mining", "pip install --no-deps pytorch-metric-learning")]
    found: dict[str, list[Mined]] = {name: [] for name in NAMES}
    for repeat in range(REPEATS):
        for name in NAMES:
            seconds, most, codes = apart(_measure, name, repeat)
            found[name].append(Mined(seconds, most, torch.from_numpy(codes)))
        _require_equal({name: runs[-1].codes for name, runs in found.items()}, repeat)
    other = found[NAMES[2]]
    theirs, their_peak = _medians(other)
    rows: list[Row | LeftOut] = []
    for name in NAMES[:2]:
        mine, my_peak = _medians(found[name])
        what = f"semi-hard mining {PEOPLE * IMAGES:,} x {SIZE}, {name.partition(', ')[2]}"
        faster = ratios([run.seconds for run in found[name]], [run.seconds for run in other])
        memory = f"{my_peak:.0f} and {their_peak:.0f} MiB"
        rows.append(Row(what, f"{NAMES[2]}, every", mine, theirs, "s", faster, 60, memory))
    return rows


def _medians(runs: list[Mined]) -> tuple[float, float]:
    return statistics.median(run.seconds for run in runs), statistics.median(run.peak for run in runs)


def _measure(name: str, seed: int) -> tuple[float, float, NDArray[np.int64]]:
    torch.set_num_threads(1)
    keep_freed_memory()  # as a training of kdface does, and for each miner
    embedding, labels = _batch(seed)
    if name == NAMES[2]:
        from pytorch_metric_learning.distances import (  # type: ignore[import-not-found,import-untyped,unused-ignore]
            LpDistance,
        )
        from pytorch_metric_learning.miners import (  # type: ignore[import-not-found,import-untyped,unused-ignore]
            TripletMarginMiner,
        )

        miner = TripletMarginMiner(margin=MARGIN, type_of_triplets="semihard", distance=LpDistance(power=2))

        def mine() -> Any:
            return miner(embedding, labels)
    else:
        rule = SemiHard() if name == NAMES[0] else AllSemiHard()

        def mine() -> Any:
            return rule(squared_distances(embedding), labels, MARGIN, torch.Generator())

    before = start_peak()
    mine()
    start = time.process_time()
    triplets = mine()
    seconds, most = time.process_time() - start, peak() - before
    anchor, positive, negative = (triplet.long() for triplet in triplets)
    codes = ((anchor * len(labels) + positive) * len(labels) + negative).sort().values
    return seconds, most, codes.numpy()


def _batch(seed: int) -> tuple[Tensor, Tensor]:
    """Unit embeddings whose distances overlap between people, as they do early in training, and labels."""
    draws = torch.Generator().manual_seed(seed)
    labels = torch.arange(PEOPLE).repeat_interleave(IMAGES)
    centres = torch.randn(PEOPLE, SIZE, generator=draws, dtype=torch.float64)
    noise = torch.randn(len(labels), SIZE, generator=draws, dtype=torch.float64)
    return normalize(centres[labels] + 1.3 * noise), labels


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
    from benchmarks.measure import table

    print(table(main()))
