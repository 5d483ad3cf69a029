"""Attributes that share a line of a docstring, `low, high: text`, stay together on the API pages."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

_SHARED = re.compile(r"^( +\w+(?:, \w+)+)(?=: )", flags=re.MULTILINE)


class SharedNames(Extension):  # type: ignore[misc]  # griffe comes with the site alone
    """Joins such names by a space that does not break: griffe takes what follows any other for a type."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Called for each object once it is read."""
        if obj.docstring is not None:
            obj.docstring.value = _SHARED.sub(
                lambda names: names[1].replace(", ", ",\N{NO-BREAK SPACE}"), obj.docstring.value
            )
