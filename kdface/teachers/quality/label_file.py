"""Quality scores from a file, computed elsewhere."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kdface.csv_files import read_rows
from kdface.errors import DataError
from kdface.faces import FaceSet
from kdface.teachers.frozen import Teacher
from kdface.teachers.quality.source import Options

_HEADER = ["key", "quality"]
_SHOWN = 3  # missing keys shown in a message


@dataclass(frozen=True)
class LabelFile(Options):
    """Scores from a CSV file (UTF-8) with the header `key,quality` and one row per image.

    Keys are those of the dataset. Rows with other keys are ignored.

    Attributes:
        path: the file.
        flip: in the file, lower is better.

    Raises:
        DataError: the file or a line cannot be read, a key is duplicate, or images of the set have no row.
    """

    path: Path
    flip: bool = False

    def __call__(self, teacher: Teacher, faces: FaceSet) -> NDArray[np.float64]:
        known = self._read()
        missing = [key for key in faces.keys if key not in known]
        if missing:
            shown = ", ".join(missing[:_SHOWN]) + (", ..." if len(missing) > _SHOWN else "")
            there = f"; the file has {', '.join(list(known)[:_SHOWN])}, ..." if known else "; the file has no rows"
            raise DataError(
                f"{self.path}: {len(missing)} of the {len(faces)} images of {faces.name} have no row ({shown}).",
                expected=f"the dataset's keys{there}",
            )
        found = np.array([known[key] for key in faces.keys])
        return -found if self.flip else found

    def _read(self) -> dict[str, float]:
        rows = read_rows(self.path)
        header = rows[0][1] if rows else []
        if header != _HEADER:
            raise DataError(f"{self.path}: the first line is {','.join(header)[:80]!r}.", expected=",".join(_HEADER))
        known: dict[str, float] = {}
        for line, row in rows[1:]:
            key, value = self._parsed(row, line)
            if key in known:
                raise DataError(f"{self.path}, line {line}: duplicate key {key}.")
            known[key] = value
        return known

    def _parsed(self, row: list[str], line: int) -> tuple[str, float]:
        try:
            key, text = row
            value = float(text)
        except ValueError:
            key, value = "", math.nan
        if not math.isfinite(value):
            raise DataError(
                f"{self.path}, line {line}: {','.join(row)[:80]!r} cannot be used.",
                expected="a key and a finite number",
            )
        return key, value
