"""make bench: speed side by side in one run, as ratios of interleaved repeats, and a table of them at the end.

Peers that are no packages are looked for in the folder KDFACE_PEERS.
"""

from __future__ import annotations

from benchmarks import (
    edc,
    gpu,
    head,
    loading,
    masking,
    measure,
    mining,
    partial_fc,
    pooled_norm,
    protocols,
    report,
    roc,
    startup,
    steps,
    sweep,
    training,
)

TABLED = (head, mining, protocols, roc, steps, loading)

if __name__ == "__main__":
    for part in (startup, training, masking, edc, pooled_norm, partial_fc, sweep, report, gpu):
        print(f"\n{(part.__doc__ or '').splitlines()[0]}", flush=True)
        part.main()
    rows = [row for tabled in TABLED for row in tabled.main()]
    print(f"\nSeconds are those of a processor, one thread.\n\n{measure.table(rows)}")
