"""Packages of the user's own: named in `$KDFACE_PLUGINS`, installed, on PYTHONPATH or in the current folder.

The current folder is not searched for anything else: what lies in it is data, and nothing of it runs unasked.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType


def plugins() -> list[str]:
    """The packages that the user trusts: `$KDFACE_PLUGINS`."""
    return [name.strip() for name in os.environ.get("KDFACE_PLUGINS", "").split(",") if name.strip()]


class CurrentFolder(MetaPathFinder):
    """Finds the user's packages in the current folder, if no other place has them."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find the modules that a user's own choices name, and no others, in the current folder."""
        if path is not None or fullname not in plugins():
            return None
        return PathFinder.find_spec(fullname, [os.getcwd()], target)


sys.meta_path.append(CurrentFolder())
