"""Crops from photographs, aligned by five landmarks each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2

from kdface.csv_files import csv_text
from kdface.datasets.detector import Detector
from kdface.datasets.images import decode, read_bytes
from kdface.datasets.landmarks import HEADER, Landmarks
from kdface.errors import DataError
from kdface.faces import Image, Points, align

Find = Callable[[str, Image], tuple[Points, int]]  # key, photograph -> landmarks, and the number of faces


@dataclass
class Cut:
    """Results of `cut`.

    Attributes:
        landmarks: key -> (5, 2) in pixels of the photograph, for each crop written.
        without: key -> why there is no crop.
        several: key -> number of faces; the largest is cropped.
    """

    landmarks: dict[str, Points] = field(default_factory=dict)
    without: dict[str, str] = field(default_factory=dict)
    several: dict[str, int] = field(default_factory=dict)


def by_detector(detector: Detector) -> Find:
    """The largest face that a detector finds. Raises `DataError` if it finds none."""

    def find(key: str, image: Image) -> tuple[Points, int]:
        faces = detector(image)
        if not faces:
            raise DataError(f"{key}: no face was found.")
        return faces[0].points, len(faces)

    return find


def by_landmarks(rows: dict[str, Landmarks]) -> Find:
    """The landmarks of a file (`kdface.datasets.landmarks`), by key."""

    def find(key: str, image: Image) -> tuple[Points, int]:
        if key not in rows:
            raise DataError(f"{key}: no landmark row.")
        return rows[key].within(*image.shape[:2]), 1

    return find


def cut(files: dict[str, Path], names: dict[str, Path], find: Find, size: tuple[int, int], into: Cut) -> Iterator[str]:
    """Write a crop for each photograph, key by key, and record the results in `into`.

    Args:
        files: key -> photograph.
        names: key -> file of the crop, .png.
        find: locates its face.
        size: (height, width) of the crops.
    """
    for key, file in files.items():
        try:
            image = decode(read_bytes(file), key)
            points, count = find(key, image)
            crop = align(image, points, size)
        except (DataError, ValueError) as error:  # coinciding landmarks have no transform
            into.without[key] = error.problem if isinstance(error, DataError) else f"{key}: {error}"
        else:
            names[key].parent.mkdir(parents=True, exist_ok=True)
            names[key].write_bytes(cv2.imencode(".png", cv2.cvtColor(crop, cv2.COLOR_RGB2BGR))[1].tobytes())
            into.landmarks[key] = points
            if count > 1:
                into.several[key] = count
        yield key


def crop_names(keys: list[str], root: Path) -> dict[str, Path]:
    """A .png path for each key below `root`; keys that differ only in their suffix keep it in the name."""
    stems = [str(Path(key).with_suffix("")) for key in keys]
    times = Counter(stems)
    return {
        key: root / (f"{stem}.png" if times[stem] == 1 else f"{key}.png") for key, stem in zip(keys, stems, strict=True)
    }


def table(landmarks: dict[str, Points]) -> str:
    """Landmarks as the CSV text that `kdface.datasets.landmarks.read_landmarks` reads."""
    rows = [[key, *(f"{value:.3f}" for value in points.ravel())] for key, points in sorted(landmarks.items())]
    return csv_text([HEADER, *rows])
