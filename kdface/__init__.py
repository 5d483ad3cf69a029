"""kdface: an experiment framework for face recognition with knowledge distillation.

From Python, each imported lazily on first use:

    cfg = kdface.compose("experiment=demo", "seed=1")        a checked configuration
    module, data = kdface.build(cfg)                          for any pytorch_lightning.Trainer
    recogniser = kdface.load("runs/demo")                     embeds, verifies, identifies
    table = kdface.runs("runs")                               one row per run
"""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kdface.api import build as build
    from kdface.api import compose as compose
    from kdface.api import load as load
    from kdface.runs.rows import runs as runs

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # importing it would check for a newer release online

__version__ = "0.1.0"
_LAZY = ("build", "compose", "load", "runs")


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'kdface' has no attribute {name!r}")
    import importlib

    if name == "runs":  # a callable package
        return importlib.import_module("kdface.runs")
    return getattr(importlib.import_module("kdface.api"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
