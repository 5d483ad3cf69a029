"""Start-up: importing and composing make hundreds of thousands of objects that stay, and no garbage."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collection() -> Iterator[None]:
    """No cyclic garbage collection inside; it is as it was afterwards.

    The collector goes through what was imported again and again: a fifth of the processor time of importing torch and
    Lightning.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
