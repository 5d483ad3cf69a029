"""What a dataset must be, checked where it is built and where its images are read."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator

import numpy as np

from kdface.errors import DataError, UserError
from kdface.faces import FaceSet, Preprocessing, Sample

_MEMBERS = ("name", "preprocessing", "people", "labels", "keys", "__len__", "__getitem__")


def require_faces(faces: FaceSet, key: str) -> None:
    """Raise `UserError` if a dataset's attributes break the contract of `FaceSet`; reads no image.

    The datasets of kdface keep it, so only others are checked.

    Args:
        faces: the dataset, as it was built.
        key: its key in the configuration, such as evaluation.lfw.dataset.
    """
    if type(faces).__module__.startswith("kdface."):
        return
    for found, expected in _faults(faces):
        raise UserError(f"{key}: {type(faces).__name__} {found}.", expected=expected)


def require_image(faces: FaceSet, key: str) -> None:
    """Raise `UserError` if the first image of a dataset breaks the contract; a broken one is told where it is needed.

    `key` is that of the configuration, as for `require_faces`.
    """
    if len(faces):
        with contextlib.suppress(DataError):
            read_sample(faces, 0, key)


def read_sample(faces: FaceSet, index: int, key: str = "") -> Sample:
    """A sample of a set. Raises `UserError` if it is no `Sample` with an image (H, W, 3) uint8 of the set's size."""
    sample, where = faces[index], f"{key}: {type(faces).__name__}" if key else type(faces).__name__
    if not isinstance(sample, Sample):
        raise UserError(
            f"{where} returns a {type(sample).__name__} for {faces.keys[index]}.",
            expected="kdface.faces.Sample(image, label, key)",
        )
    image, shape = sample.image, (*faces.preprocessing.size, 3)
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.shape != shape:
        raise UserError(
            f"{where} has an image of {_kind(image)}, {sample.key}.",
            expected=f"an array of uint8, {shape}: RGB in 0..255, of the size of the set's preprocessing",
        )
    return sample


def _faults(faces: FaceSet) -> Iterator[tuple[str, str]]:
    """What was found and what was expected, for each fault."""
    missing = [member for member in _MEMBERS if not hasattr(faces, member)]
    if missing:
        yield f"has no {', '.join(missing)}", f"a kdface.faces.FaceSet, which has {', '.join(_MEMBERS)}"
    name, people, labels, keys, size = faces.name, faces.people, faces.labels, faces.keys, len(faces)
    if not isinstance(name, str) or not name:
        yield f"has the name {name!r}", "a string that names it in records and reports"
    if not isinstance(faces.preprocessing, Preprocessing):
        yield f"has a {type(faces.preprocessing).__name__} as preprocessing", "kdface.faces.Preprocessing(size=(H, W))"
    if isinstance(people, str) or not all(isinstance(person, str) for person in people):
        yield "has people that are no strings", "people: the list of their names, by label"
    if len(keys) != size:
        yield f"has {len(keys)} keys for {size} images", "keys: one unique string for each image"
    for key in keys:
        if not isinstance(key, str):
            yield f"has the key {key!r}", "keys: one unique string for each image"
    if len(set(keys)) != size:
        twice, count = Counter(keys).most_common(1)[0]
        yield f"has {count} images with the key {twice!r}", "keys: one unique string for each image"
    wanted = f"labels: an array of integers ({size},), each the place of a name among the {len(people)} people"
    if not isinstance(labels, np.ndarray) or labels.dtype.kind not in "iu" or labels.shape != (size,):
        yield f"has labels that are {_kind(labels)}", wanted
    elif size and not 0 <= labels.min() <= labels.max() < len(people):
        yield f"has labels from {labels.min()} to {labels.max()}", wanted


def _kind(value: object) -> str:
    return f"{value.dtype} of {value.shape}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"
