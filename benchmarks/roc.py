"""ROC and EER of many scores against scikit-learn's `roc_curve`: time and memory, in processes of their own.

Of every hundred pairs one is genuine, as in comparisons of all images with all. Both give the curve's corners and an
equal error rate from them; scikit-learn's is that of the nearest vertex, so the two may differ by a step of the curve,
which is checked.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import time
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from kdface.evaluation.curves import eer, roc_corners

PAIRS = (1_000_000, 5_000_000, 20_000_000)
REPEATS = 3


def main() -> None:
    try:
        import sklearn  # type: ignore[import-untyped,unused-ignore]
    except ImportError:
        print("roc: needs scikit-learn; left out")
        return
    print(f"scikit-learn {sklearn.__version__}, NumPy {np.__version__}; processor seconds, MiB above the scores")
    pairs = (*PAIRS, 84_000_000) if os.environ.get("KDFACE_BENCH_LONG") else PAIRS
    for number in pairs:
        for bits in (32, 64):
            ours, theirs = [], []
            for _ in range(REPEATS):
                ours.append(_apart("kdface", number, bits))
                theirs.append(_apart("scikit-learn", number, bits))
                if abs(ours[-1][2] - theirs[-1][2]) > 100 / number + 1e-3:
                    raise SystemExit(f"the equal error rates are {ours[-1][2]} and {theirs[-1][2]}")
            ratios = [other[0] / mine[0] for mine, other in zip(ours, theirs, strict=True)]
            seconds, peak = (statistics.median(each[place] for each in ours) for place in (0, 1))
            peer, peer_peak = (statistics.median(each[place] for each in theirs) for place in (0, 1))
            print(
                f"  {number:>11,} x float{bits}  kdface {seconds:6.2f} s {peak:6.0f} MiB   scikit-learn {peer:6.2f} s "
                f"{peer_peak:6.0f} MiB   {statistics.median(ratios):.1f} x ({min(ratios):.1f} to {max(ratios):.1f})"
            )


def _apart(name: str, number: int, bits: int) -> tuple[float, float, float]:
    """Processor seconds, MiB above the scores, EER."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_measure, args=(name, number, bits, theirs))
    child.start()
    theirs.close()
    found: tuple[float, float, float] = ours.recv()
    child.join()
    return found


def _measure(name: str, number: int, bits: int, answer: Connection) -> None:
    rng = np.random.default_rng(0)
    same = rng.random(number, dtype=np.float32) < 0.01
    scores = rng.standard_normal(number, dtype=np.float32)
    scores[same] += 2
    if bits == 64:
        scores = scores.astype(np.float64)
    if name == "scikit-learn":
        from sklearn.metrics import roc_curve  # type: ignore[import-untyped,unused-ignore]

        before, start = _start_peak(), time.process_time()
        far, tar, _ = roc_curve(same, scores)
        at = int(np.argmin(np.abs(far - (1 - tar))))
        rate = float(far[at] + 1 - tar[at]) / 2
    else:
        before, start = _start_peak(), time.process_time()
        rate = eer(roc_corners(scores, same))
    answer.send((time.process_time() - start, _peak() - before, rate))


def _start_peak() -> float:
    """Forget the peak so far and return what is held now, in MiB (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _peak() -> float:
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM:")).split()[1]) / 1024


if __name__ == "__main__":
    main()
