"""make bench: speed side by side in one run, as ratios of interleaved repeats."""

from __future__ import annotations

from benchmarks import mining, training

if __name__ == "__main__":
    training.main()
    mining.main()
