"""Every random draw is a pure function of (run seed, purpose, epoch, sample key).

No global generator is used, so the number of workers, the number of ranks and resuming have no effect.
"""

from __future__ import annotations

import hashlib

import numpy as np


def derive(*parts: int | str) -> int:
    """A 64-bit integer that depends only on the parts (their BLAKE2b hash)."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def generator(*parts: int | str) -> np.random.Generator:
    """A NumPy generator seeded by `derive(*parts)`, e.g. `generator(seed, "augment", epoch, sample.key)`."""
    return np.random.Generator(np.random.Philox(key=derive(*parts)))
