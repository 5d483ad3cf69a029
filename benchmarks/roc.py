"""ROC and EER of many scores against scikit-learn's `roc_curve`: time and memory, in processes of their own.

Of every hundred pairs one is genuine, as in comparisons of all images with all. Both give the curve's corners and an
equal error rate from them; scikit-learn's is that of the nearest vertex, so the two may differ by a step of the curve,
which is checked.
"""

from __future__ import annotations

import os
import statistics
import time
from importlib.util import find_spec

import numpy as np

from benchmarks.measure import Bound, LeftOut, Line, Row, apart, peak, ratios, start_peak
from kdface.evaluation.curves import eer, roc_corners

PAIRS = 5_000_000
LONG = (20_000_000, 84_000_000)
MOST = 1024.0  # MiB that 84 million float32 scores may take besides
REPEATS = 2


def main() -> list[Line]:
    rows: list[Line] = []
    if find_spec("sklearn") is None:
        rows.append(LeftOut("ROC and EER beside scikit-learn", "pip install scikit-learn"))
    else:
        pairs = (PAIRS, *LONG) if os.environ.get("KDFACE_BENCH_LONG") else (PAIRS,)
        rows += [_row(number, bits) for number in pairs for bits in (32, 64)]
    seconds, memory, _, sort = apart(measure, "kdface", LONG[-1], 32)
    return [
        *rows,
        Bound(
            f"memory of ROC and EER of {LONG[-1]:,} float32 scores, above them",
            *([memory], "MiB", MOST, f"{seconds:.1f} s, of which one numpy.sort would take {sort:.1f} s"),
        ),
    ]


def _row(number: int, bits: int) -> Row:
    ours, theirs = [], []
    for _ in range(REPEATS):
        ours.append(apart(measure, "kdface", number, bits))
        theirs.append(apart(measure, "scikit-learn", number, bits))
        if abs(ours[-1][2] - theirs[-1][2]) > 100 / number + 1e-3:
            raise SystemExit(f"the equal error rates are {ours[-1][2]} and {theirs[-1][2]}")
    mine, memory, _, sort = (statistics.median(column) for column in zip(*ours, strict=True))
    other, their_memory, *_ = (statistics.median(column) for column in zip(*theirs, strict=True))
    return Row(
        f"ROC and EER of {number:,} float{bits} scores",
        "scikit-learn's roc_curve",
        mine,
        other,
        "s",
        ratios([our[0] for our in ours], [their[0] for their in theirs]),
        5,
        f"{memory:.0f} and {their_memory:.0f} MiB above the scores",
        f"one numpy.sort, {sort:.2f} s: {sort / mine:.0%}",
    )


def measure(name: str, number: int, bits: int) -> tuple[float, float, float, float]:
    """Processor seconds, MiB above the scores, EER, and processor seconds of sorting a copy of the scores."""
    rng = np.random.default_rng(0)
    same = rng.random(number, dtype=np.float32) < 0.01
    scores = rng.standard_normal(number, dtype=np.float32)
    scores[same] += 2
    if bits == 64:
        scores = scores.astype(np.float64)
    if name == "scikit-learn":
        from sklearn.metrics import roc_curve  # type: ignore[import-untyped,unused-ignore]

        before, start = start_peak(), time.process_time()
        far, tar, _ = roc_curve(same, scores)
        at = int(np.argmin(np.abs(far - (1 - tar))))
        rate = float(far[at] + 1 - tar[at]) / 2
    else:
        before, start = start_peak(), time.process_time()
        rate = eer(roc_corners(scores, same))
    spent, most, start = time.process_time() - start, peak() - before, time.process_time()
    if name == "kdface":
        scores.sort()
    return spent, most, rate, time.process_time() - start


if __name__ == "__main__":
    from benchmarks.measure import table

    print(table(main()))
