"""Five-point landmarks in a CSV file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kdface.csv_files import read_rows
from kdface.datasets.folders import missing
from kdface.errors import DataError
from kdface.faces import Points

_PARTS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
HEADER = ("file", *(f"{part}_{axis}" for part in _PARTS for axis in "xy"))

# Detectors extrapolate the points of a face cut by the border, so a point may be slightly outside the image: by at
# most this fraction of its side. Landmarks in pixels of another scale or crop are further out.
_MARGIN = 0.1


@dataclass(frozen=True)
class Landmarks:
    """One row: its location, its points, and why it is unusable (empty if usable)."""

    source: str
    points: Points
    problem: str = ""

    def require_usable(self) -> None:
        """Raise `DataError` naming file and line if the row is unusable."""
        if self.problem:
            raise DataError(f"{self.source}: {self.problem}.", expected=",".join(HEADER))

    def within(self, height: int, width: int) -> Points:
        """The (5, 2) points. Raises `DataError` naming file and line if they do not fit an image of this size."""
        self.require_usable()
        sides = np.array([width, height])
        if (self.points < -_MARGIN * sides).any() or (self.points > (1 + _MARGIN) * sides).any():
            far = self.points[np.abs(self.points / sides - 0.5).max(axis=1).argmax()]
            raise DataError(
                f"{self.source}: landmark ({far[0]:g}, {far[1]:g}) lies outside the image, "
                f"which is {width} wide and {height} high.",
                expected="x and y in pixels of this image file",
            )
        return self.points.copy()


def read_landmarks(path: Path) -> dict[str, Landmarks]:
    """Read `file,left_eye_x,left_eye_y,...,mouth_right_y`, one row per image, with this header line; commas or tabs.

    `file` is "person/file.jpg" under the image folder; x and y are pixels of that image, left and right as
    seen in it. Rows with unusable numbers are kept, so that the error is raised on access to their image.

    Raises:
        UserError: no such file.
        DataError: another header, no rows, or a row without an image name.
    """
    if not path.is_file():
        raise missing(path, "a CSV file with the header " + ",".join(HEADER))
    rows = read_rows(path)
    header = rows[0][1] if rows else []
    if tuple(field.strip() for field in header) != HEADER:
        raise DataError(f"{path}, line 1: the header is {','.join(header)[:200]!r}.", expected=",".join(HEADER))
    found: dict[str, Landmarks] = {}
    for line, row in rows[1:]:
        if not any(field.strip() for field in row):
            continue
        source = f"{path}, line {line}"
        key = row[0].strip()
        parts = key.split("/")
        if len(parts) != 2 or any(part in ("", ".", "..") for part in parts):
            raise DataError(f"{source}: {key!r} does not name an image.", expected="person/file.jpg")
        if key in found:
            found[key] = Landmarks(source, found[key].points, f"a second row for {key}")
        else:
            found[key] = _parse(source, row[1:])
    if not found:
        raise DataError(f"{path}: no landmark rows under the header.")
    return found


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _parse(source: str, fields: list[str]) -> Landmarks:
    nothing = np.full((5, 2), np.nan, dtype=np.float32)
    if len(fields) != 10:
        return Landmarks(source, nothing, f"{len(fields)} numbers after the file name instead of 10")
    try:
        points = np.array([float(field) for field in fields], dtype=np.float32).reshape(5, 2)
    except ValueError:
        wrong = next(field for field in fields if not _is_number(field))
        return Landmarks(source, nothing, f"{wrong!r} is not a number")
    if not np.isfinite(points).all():
        return Landmarks(source, points, "a landmark is not a finite number")
    if len(set(map(tuple, points.tolist()))) < 5:
        return Landmarks(source, points, "two landmarks coincide")
    return Landmarks(source, points)
