"""A release of IJB in small: lists as they lie in `meta`, and if wished generated faces beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from kdface.faces import ARCFACE_112

Face = tuple[int, int, float]  # template, medium, detector's score


def write(
    root: Path,
    faces: Sequence[Face],
    pairs: Sequence[tuple[int, int, int]],
    galleries: Sequence[Mapping[int, int]],
    probes: Mapping[int, int],
    release: str = "ijbb",
) -> Path:
    """Write the lists; face i is file `(i + 1).jpg`. `galleries` and `probes` are template -> subject."""
    meta = root / "meta"
    meta.mkdir(parents=True)
    (root / "loose_crop").mkdir()
    points = " ".join(f"{value:.2f}" for value in (ARCFACE_112 + 20).ravel())
    named = list(enumerate(faces, 1))
    lists = {
        "name_5pts_score.txt": [f"{i}.jpg {points} {score}" for i, (_, _, score) in named],
        "face_tid_mid.txt": [f"{i}.jpg {template} {medium}" for i, (template, medium, _) in named],
        "template_pair_label.txt": [" ".join(map(str, pair)) for pair in pairs],
        "1N_gallery_S1.csv": _csv(galleries[0]),
        "1N_gallery_S2.csv": _csv(galleries[1]),
        "1N_probe_mixed.csv": _csv(probes),
    }
    for name, rows in lists.items():
        (meta / f"{release}_{name}").write_text("\n".join(rows) + "\n")
    return root


def _csv(templates: Mapping[int, int]) -> list[str]:
    rows = [f"{template},{subject},img/{i}.jpg,{i}" for template, subject in templates.items() for i in range(2)]
    return ["TEMPLATE_ID,SUBJECT_ID,FILENAME,SIGHTING_ID", *rows]


def draw(root: Path, count: int) -> list[NDArray[np.uint8]]:
    """Crops of 152 x 160 pixels for the faces, as they are read back."""
    crops = []
    for number in range(1, count + 1):
        coarse = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        _, encoded = cv2.imencode(".jpg", cv2.resize(coarse, (160, 152), interpolation=cv2.INTER_CUBIC))
        (root / "loose_crop" / f"{number}.jpg").write_bytes(encoded.tobytes())
        crops.append(np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), dtype=np.uint8)[:, :, ::-1])
    return crops
