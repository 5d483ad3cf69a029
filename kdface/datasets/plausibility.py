"""Check whether five landmarks can be a face's, by comparing their shape with the template's."""

from __future__ import annotations

import numpy as np

from kdface.faces import Points, similarity, template_points

# Root mean square distance from the template after the best similarity transform, in eye distances. MTCNN landmarks in
# photographs reach 0.31, for the faces turned furthest; exchanging any two of them gives 0.49 or more.
MOST_OFF = 0.4
# Ratio of the points' spread across their best-fit line to that along it: 0.46 to 1 on the same photographs.
FLATTEST = 0.2
_EXCHANGED = [1, 0, 2, 4, 3]


def implausible(landmarks: Points, size: tuple[int, int]) -> str:
    """Why five landmarks are not those of a face, or an empty string.

    Invariant to rotation, scale and position: only the shape counts.

    Args:
        landmarks: (5, 2), (x, y) in pixels.
        size: (height, width) of the crop, whose template they are compared with.
    """
    if landmarks.shape != (5, 2) or not np.isfinite(landmarks).all():
        return "the landmarks are not five finite points"
    if not ((landmarks >= 0) & (landmarks < (size[1], size[0]))).all(axis=1).any():
        return "all landmarks lie outside the image"
    spread = np.linalg.svd(landmarks - landmarks.mean(axis=0), compute_uv=False)
    if spread[1] < FLATTEST * spread[0]:
        return "the landmarks lie nearly in one line"
    off = _off(landmarks, size)
    if off <= MOST_OFF:
        return ""
    if _off(landmarks[_EXCHANGED], size) <= MOST_OFF:
        return "left and right are exchanged, or the landmarks are mirrored"
    return f"the landmarks are {off:.2f} of the distance of the eyes away from a face's (at most {MOST_OFF:g})"


def _off(landmarks: Points, size: tuple[int, int]) -> float:
    template = template_points(size).astype(np.float64)
    matrix = similarity(landmarks, template_points(size))
    moved = landmarks @ matrix[:, :2].T + matrix[:, 2]
    return float(np.sqrt(((moved - template) ** 2).sum(1).mean()) / np.linalg.norm(template[1] - template[0]))
