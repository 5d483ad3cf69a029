"""Run folders. The package is callable: `kdface.runs(FOLDER)` is a table of the runs below a folder."""

import sys
from types import ModuleType
from typing import Any


class _Room(ModuleType):
    """`kdface.runs` is both this package and a function of the Python interface, as `kdface.load` is."""

    def __call__(self, *given: Any, **named: Any) -> Any:
        from kdface.api import runs

        return runs(*given, **named)


sys.modules[__name__].__class__ = _Room
