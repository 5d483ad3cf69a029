"""Faces in photographs: boxes with five landmarks, by OpenCV's YuNet."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from kdface.errors import UserError
from kdface.faces import Image, Points, as_seen

_SIDES = (
    640,
    1280,
)  # longest sides in pixels to search at: YuNet finds faces of 10 to 300 pixels
_SCORE = 0.7  # of a detection, 0 to 1
# OpenCV may crash on a damaged ONNX file, so a separate process loads it first.
_TRIAL = """
import sys, cv2, numpy
net = cv2.FaceDetectorYN.create(sys.argv[1], "", (320, 320))
net.setInputSize((64, 64))
net.detect(numpy.zeros((64, 64, 3), numpy.uint8))
"""
_TRIAL_SECONDS = 60.0


@dataclass(frozen=True)
class Face:
    """Attributes:
    points: (5, 2) left eye, right eye, nose, left and right mouth corner as seen in the image, (x, y) in its pixels.
    area: of its box in square pixels.
    score: 0 to 1.
    """

    points: Points
    area: float
    score: float


class Detector(Protocol):
    """Finds faces: (H, W, 3) uint8 RGB -> faces, largest first."""

    def __call__(self, image: Image) -> list[Face]: ...


class YuNet:
    """YuNet (Wu, Peng, Yu, "YuNet: A Tiny Millisecond-level Face Detector", 2023), by OpenCV's `FaceDetectorYN`.

    Searches photographs at a longest side of 640 pixels, then at 1280 if nothing was found.

    Args:
        model: the ONNX file, such as face_detection_yunet_2023mar.onnx from OpenCV's zoo.

    Raises:
        UserError: the file does not exist, or is not such a model.
    """

    def __init__(self, model: Path) -> None:
        if not model.is_file():
            raise UserError(
                f"detector={model}: no such file.",
                expected="the ONNX file of OpenCV's YuNet, such as face_detection_yunet_2023mar.onnx",
            )
        if reason := _trial(model):
            raise UserError(
                f"detector={model} is not a YuNet: {reason}",
                expected="the ONNX file of OpenCV's YuNet, such as face_detection_yunet_2023mar.onnx",
            )
        self._net: Any = cv2.FaceDetectorYN.create(str(model), "", (320, 320), _SCORE)

    def __call__(self, image: Image) -> list[Face]:
        height, width = image.shape[:2]
        for side in _SIDES:
            factor = min(1.0, side / max(height, width))
            size = (max(1, round(width * factor)), max(1, round(height * factor)))
            seen = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if factor < 1 else image
            self._net.setInputSize(size)
            _, rows = self._net.detect(cv2.cvtColor(seen, cv2.COLOR_RGB2BGR))
            if rows is not None and len(rows):
                found = [_face(row, width / size[0], height / size[1]) for row in rows]
                return sorted(found, key=lambda face: -face.area)
            if max(height, width) <= side:
                break
        return []


def _trial(model: Path) -> str:
    """Why a file is not a detector; empty if it works."""
    command = [sys.executable, "-P", "-c", _TRIAL, str(model)]
    try:
        said = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_TRIAL_SECONDS)
    except subprocess.TimeoutExpired:
        return f"OpenCV did not respond within {_TRIAL_SECONDS:g} s."
    if said.returncode < 0:
        return "OpenCV crashes on it."
    lines = said.stderr.strip().splitlines()
    return lines[-1] if said.returncode and lines else ""


def _face(row: Any, across: float, down: float) -> Face:
    """Parse OpenCV's row: box, then the person's right eye, left eye, nose, right and left mouth corner, then score."""
    points = np.asarray(row[4:14], dtype=np.float32).reshape(5, 2) * np.array([across, down], dtype=np.float32)
    return Face(as_seen(points.astype(np.float32)), float(row[2] * across * row[3] * down), float(row[14]))
