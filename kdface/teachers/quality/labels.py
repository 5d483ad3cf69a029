"""Quality labels from scores: cached on disk, checked for their direction, scaled to [0, 1]."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
import logging
from dataclasses import fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from kdface.atomic import write_binary
from kdface.datasets.cache import cache_folder
from kdface.datasets.checks import fingerprint
from kdface.datasets.derived import changes
from kdface.errors import UserError
from kdface.faces import FaceSet
from kdface.stored import arrays_in
from kdface.teachers.frozen import QualitySource, Teacher, fingerprint_of
from kdface.teachers.quality import mates, source
from kdface.teachers.quality.mates import mated_cosine, rows_of_people
from kdface.teachers.quality.source import embedding_once, unit_embeddings

log = logging.getLogger("kdface")


class QualityLabels(NamedTuple):
    """Result of `quality_labels`.

    Attributes:
        quality: (N,) in [0, 1], higher is better; (q - min q) / (max q - min q).
        rho: Spearman's rank correlation of the scores with the mean mated cosine; NaN if nobody has two images, or one
            of the two is constant.
        compared: number of images that rho is based on, those of people with at least two.
    """

    quality: NDArray[np.float32]
    rho: float
    compared: int


class _Scores(NamedTuple):
    """Raw scores (N,), and their correlation with the mated cosine."""

    scores: NDArray[np.float64]
    rho: float
    compared: int


def quality_labels(
    quality: QualitySource,
    teacher: Teacher,
    faces: FaceSet,
    folder: Path | None = None,
    check_direction: bool = True,
) -> QualityLabels:
    """Compute the quality labels of a set of faces with a source and its network.

    Scores of dataclass sources are cached in a file, whose name is the SHA-256 of the source (class, code, options, and
    the bytes of files they name), the weights (including the head's, if used), the data, what alters the stored images
    (`kdface.datasets.derived.changes`; augmented views are not cached) and both preprocessings.

    Warns if the direction of the scores cannot be checked (see `QualityLabels.rho`; with up to four images no order is
    significantly wrong).

    Args:
        quality: the source.
        teacher: the network.
        faces: aligned crops.
        folder: for the file; by default the cache folder (`kdface.datasets.cache`).
        check_direction: reject scores in the wrong direction; false: only warn.

    Raises:
        UserError: all scores are equal, or some are not finite; or they decrease with the mated cosine:
            rho < -2 / sqrt(compared), more than two standard errors of unrelated ranks.
    """
    if is_dataclass(quality) and changes(faces) is not None:
        path = (folder or cache_folder()) / f"quality-{type(quality).__name__}-{_digest(quality, teacher, faces)}.npz"
        found = _load(path, len(faces))
        if found is None:
            found = _make(quality, teacher, faces)
            _save(path, found)
    else:
        found = _make(quality, teacher, faces)
    _check_direction(found, quality, faces, check_direction)
    low, high = float(found.scores.min()), float(found.scores.max())
    if not high > low:
        raise UserError(
            f"{_name(quality)} gives every image of {faces.name} the score {low:.6g}: there is no quality to learn.",
            fix="use another quality source, or another teacher",
        )
    scaled = (found.scores / 2 - low / 2) / (high / 2 - low / 2)  # halves: the difference of two doubles may overflow
    return QualityLabels(scaled.astype(np.float32), found.rho, found.compared)


def identity(teacher: Teacher) -> str:
    """SHA-256 of a teacher: its weights and, with a quality source, everything its labels depend on."""
    return _sha256(json.dumps(_taught_by(teacher.quality, teacher), sort_keys=True).encode())


def _taught_by(quality: QualitySource | None, teacher: Teacher) -> dict[str, object]:
    """Inputs of `identity` and of the cache file's name: weights, source, options, and what the source uses of the
    network apart from its weights (`network_options`) and of its head."""
    about: dict[str, object] = {"weights": teacher.fingerprint}
    if quality is not None:
        about["source"] = f"{type(quality).__module__}.{type(quality).__qualname__}"
    if head := _head(quality, teacher):
        about["head"] = head
    if is_dataclass(quality):
        about["options"] = {field.name: _option(getattr(quality, field.name)) for field in fields(quality)}
    if asked := getattr(quality, "network_options", None):
        about["network"] = asked(teacher)
    return about


@embedding_once()  # most sources need the same embeddings as the check of their direction
def _make(quality: QualitySource, teacher: Teacher, faces: FaceSet) -> _Scores:
    scores = np.asarray(quality(teacher, faces), dtype=np.float64)
    if scores.shape != (len(faces),):
        raise ValueError(f"{_name(quality)} returned scores of shape {scores.shape}, expected ({len(faces)},)")
    bad = ~np.isfinite(scores)
    if bad.any():
        raise teacher.unusable(
            f"{bad.sum()} of {len(faces)} scores of {faces.name} by {_name(quality)} are not finite, the first that of "
            f"{faces.keys[int(bad.argmax())]}"
        )
    return _Scores(scores, *_agreement(scores, teacher, faces))


def _agreement(scores: NDArray[np.float64], teacher: Teacher, faces: FaceSet) -> tuple[float, int]:
    """(rho, compared) of `QualityLabels`."""
    groups = rows_of_people(faces)
    compared = sum(len(rows) for rows in groups if len(rows) > 1)
    if compared == 0:
        return float("nan"), 0
    mated = mated_cosine(unit_embeddings(teacher, faces), groups)
    used = np.isfinite(mated)
    if np.ptp(mated[used]) == 0 or np.ptp(scores[used]) == 0:
        return float("nan"), compared
    return float(spearmanr(scores[used], mated[used]).statistic), compared


def _check_direction(found: _Scores, quality: QualitySource, faces: FaceSet, refuse: bool) -> None:
    if found.compared <= 4 or np.isnan(found.rho):
        why = (
            f"{found.compared} of {len(faces)} images have another one of the same person"
            if found.compared <= 4
            else f"the scores, or the mean mated cosines, of {found.compared} images are all equal"
        )
        log.warning("%s on %s: not checked that higher scores mean better images: %s", _name(quality), faces.name, why)
        return
    if not found.rho < -2.0 / found.compared**0.5:
        return
    told = (
        f"{_name(quality)} runs the wrong way: over {found.compared} images, the higher its score, the less an image "
        f"resembles others of the same person (Spearman's rho {found.rho:.3f})."
    )
    if not refuse:
        log.warning("%s method.check_direction=false: used as is", told)
        return
    flip = f"teacher.quality.flip={str(not quality.flip).lower()}, " if hasattr(quality, "flip") else ""
    raise UserError(
        told,
        expected="higher scores for better images",
        fix=f"{flip}another source of quality, or method.check_direction=false",
    )


def _digest(quality: QualitySource, teacher: Teacher, faces: FaceSet) -> str:
    """SHA-256 of everything the scores depend on, including the order of the images."""
    assert is_dataclass(quality)
    kind = type(quality)
    about: dict[str, object] = {
        "taught_by": _taught_by(quality, teacher),
        "code": [_sha256(Path(inspect.getfile(part)).read_bytes()) for part in (kind, source, mates)],
        "preprocessing": teacher.preprocessing.to_dict(),
        "faces": [fingerprint(faces), faces.preprocessing.to_dict(), _sha256("\n".join(faces.keys).encode())],
    }
    if changed := changes(faces):
        about["changes"] = changed
    return _sha256(json.dumps(about, sort_keys=True).encode())


def _head(quality: QualitySource | None, teacher: Teacher) -> str:
    """SHA-256 of the teacher's head, if the source uses it."""
    asks = getattr(quality, "asks_head", False)
    return fingerprint_of(teacher.head) if asks and teacher.head is not None else ""


def _option(value: object) -> str:
    if isinstance(value, Path) and value.is_file():
        return _sha256(value.read_bytes())
    return repr(value)


def _load(path: Path, images: int) -> _Scores | None:
    try:
        file = arrays_in(path)
        scores, rho, compared = file["scores"], float(file["rho"]), int(file["compared"])
    except (ValueError, KeyError, TypeError):
        return None  # missing, truncated or not finite: recompute
    usable = scores.shape == (images,) and scores.dtype == np.float64 and np.isfinite(scores).all()
    return _Scores(scores, rho, compared) if usable else None


def _save(path: Path, found: _Scores) -> None:
    with contextlib.suppress(OSError):  # read-only home or full disk: keep the scores in memory
        write_binary(path, partial(np.savez, scores=found.scores, rho=found.rho, compared=found.compared))


def _name(quality: QualitySource) -> str:
    return str(getattr(quality, "__name__", type(quality).__name__))


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
