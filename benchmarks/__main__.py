"""make bench: speed side by side in one run, as ratios of interleaved repeats, and a table of them at the end.

Peers that are no packages are looked for in the folder KDFACE_PEERS; one that is not there is said. KDFACE_BENCH_LONG=1
adds the largest sizes and the parts that look into one thing closely.
"""

from __future__ import annotations

import os
import time

from benchmarks import (
    edc,
    embedding,
    gpu,
    growth,
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

TABLED = (training, steps, loading, head, mining, protocols, roc, startup, sweep, embedding, report)
CLOSELY = (masking, edc, pooled_norm, partial_fc, gpu)

if __name__ == "__main__":
    rows: list[measure.Line] = []
    for part in TABLED:
        start = time.perf_counter()
        found = part.main()
        rows += found
        print(f"{part.__name__} ({time.perf_counter() - start:.0f} s)\n{measure.table(found)}\n", flush=True)
    growth.main()
    for part in CLOSELY if os.environ.get("KDFACE_BENCH_LONG") else ():
        print(f"\n{(part.__doc__ or '').splitlines()[0]}", flush=True)
        part.main()
    print(f"\nSeconds are those of a processor, one thread, if nothing else is said.\n\n{measure.table(rows)}")
