"""Published numbers with their sources."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kdface.csv_files import read_rows
from kdface.errors import DataError, UserError, nearest

_REQUIRED = ("paper", "table", "value", "spread", "unit", "provenance")
_UNITS = {"percent": 100.0, "ratio": 1.0, "fraction": 1.0}


@dataclass(frozen=True)
class Published:
    """Attributes:
    value, spread: fractions.
    source: the paper and its table.
    provenance: "paper", or another origin of the number.
    """

    value: float
    spread: float | None
    source: str
    provenance: str

    @property
    def primary(self) -> bool:
        """Whether it is from the paper itself."""
        return self.provenance == "paper"

    @property
    def note(self) -> str:
        """The source, with the provenance of a number that is not from the paper itself."""
        return self.source if self.primary else f"{self.source} ({self.provenance})"


class PublishedNumbers:
    """The rows of a CSV file with the columns paper, table, ..., value, spread, unit, provenance.

    `unit` starts with "percent", "ratio" or "fraction". An empty value is unknown.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        found = read_rows(path)
        self.columns = found[0][1] if found else []
        if lacking := [name for name in _REQUIRED if name not in self.columns]:
            raise UserError(f"{path} has no column {lacking[0]!r}.", expected=", ".join(_REQUIRED))
        if len(set(self.columns)) < len(self.columns):
            raise DataError(f"{path}, line 1: two columns have one name.")
        self.rows = []
        for line, row in found[1:]:
            if row and len(row) != len(self.columns):
                raise DataError(f"{path}, line {line}: {len(row)} fields, and the header has {len(self.columns)}.")
            if row:
                self.rows.append(dict(zip(self.columns, row, strict=True)))

    def find(self, where: Mapping[str, str]) -> Published | None:
        """The number whose CSV row matches all these values; None if there is none.

        Raises:
            UserError: a column does not exist, several rows match, or the number cannot be read.
        """
        for name in where:
            if name not in self.columns:
                raise UserError(
                    f"{self.path} has no column {name!r}.",
                    expected=", ".join(self.columns),
                    nearest=nearest(name, self.columns),
                )
        found = [row for row in self.rows if all(row[name] == value for name, value in where.items())]
        if len(found) > 1:
            asked = ", ".join(f"{name}={value}" for name, value in where.items())
            more = [name for name in self.columns if len({row[name] for row in found}) > 1 and name != "value"]
            raise UserError(
                f"{len(found)} published numbers of {self.path} fit {asked}.",
                expected=f"just one; they differ in {', '.join(more) or 'their values'}",
            )
        if not found or not found[0]["value"].strip():
            return None
        row = found[0]
        unit = next((unit for unit in _UNITS if row["unit"].startswith(unit)), None)
        if unit is None:
            expected = 'one that begins with "percent", "ratio" or "fraction"'
            raise UserError(f"{self.path}: unit {row['unit']!r}.", expected=expected)
        try:
            value = float(row["value"]) / _UNITS[unit]
            spread = float(row["spread"]) / _UNITS[unit] if row["spread"].strip() else None
            if not (math.isfinite(value) and math.isfinite(spread or 0)):
                raise ValueError(f"{row['value']} with the spread {row['spread'] or 'none'} is not finite")
        except ValueError as error:
            raise UserError(f"{self.path}: {error}.", expected="a number") from None
        kind = "table " if re.match(r"[0-9IVX]+\b", row["table"]) else ""
        return Published(value, spread, f"{row['paper']}, {kind}{row['table']}", row["provenance"])
