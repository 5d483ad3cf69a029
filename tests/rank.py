"""One of two ranks, in a process that `tests.forked.on_two_ranks` forks: calls FUNCTION of MODULE."""

from __future__ import annotations

import importlib
import sys

module, function, rank, folder = sys.argv[1:]
getattr(importlib.import_module(module), function)(int(rank), folder)
