"""The user's own packages: named in `$KDFACE_PLUGINS` and installed, on PYTHONPATH, or in the current folder.

Nothing else is imported from the current folder, so that data there never runs as code.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType


def plugins() -> list[str]:
    """The packages trusted by the user: `$KDFACE_PLUGINS`."""
    return [name.strip() for name in os.environ.get("KDFACE_PLUGINS", "").split(",") if name.strip()]


class CurrentFolder(MetaPathFinder):
    """Finds the user's packages in the current folder if they are not available elsewhere."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find modules of the user's packages, and no others, in the current folder."""
        if path is not None or fullname not in plugins():
            return None
        return PathFinder.find_spec(fullname, [os.getcwd()], target)


sys.meta_path.append(CurrentFolder())
