"""Run folders. The package is callable: `kdface.runs(FOLDER)` returns a table of the runs under a folder."""

import sys
from types import ModuleType
from typing import Any


class _Room(ModuleType):
    """Makes `kdface.runs` both this package and a function of the Python API, like `kdface.load`."""

    def __call__(self, *given: Any, **named: Any) -> Any:
        from kdface.runs.rows import runs

        return runs(*given, **named)


sys.modules[__name__].__class__ = _Room
