"""make bench: speed side by side in one run, as ratios of interleaved repeats."""

from __future__ import annotations

from benchmarks import (
    edc,
    gpu,
    masking,
    mining,
    partial_fc,
    pooled_norm,
    report,
    roc,
    startup,
    sweep,
    training,
)

if __name__ == "__main__":
    for part in (startup, training, mining, roc, masking, edc, pooled_norm, partial_fc, sweep, report, gpu):
        print(f"\n{(part.__doc__ or '').splitlines()[0]}")
        part.main()
