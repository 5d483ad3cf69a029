"""Dataset checks: integrity, contents, overlap with other datasets, and fingerprints.

All functions accept any `FaceSet`. A reader may add `raw_bytes(index)`, all bytes that a sample is built from,
for fast fingerprints; `check(index)`, which raises `DataError` for damage detectable without decoding; `terms`,
a licence; and `passed_over`, ignored files.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from kdface.datasets import duplicates
from kdface.datasets.contract import require_image
from kdface.datasets.images import SizeError, for_crops
from kdface.datasets.plausibility import implausible
from kdface.errors import DataError
from kdface.faces import FaceSet
from kdface.stored import read_yaml

Progress = Callable[[int, int], None]  # images done, total


@runtime_checkable
class HasRawBytes(Protocol):
    """A face set with access to the raw image files."""

    def raw_bytes(self, index: int) -> bytes:
        """The undecoded bytes of an image file."""


@runtime_checkable
class HasCheck(Protocol):
    """A face set that can check an image without decoding it."""

    def check(self, index: int) -> None:
        """Raise `DataError` if the image is broken."""


@dataclass(frozen=True)
class Spread:
    """Minimum, median and maximum of a count."""

    minimum: int
    median: float
    maximum: int


@dataclass(frozen=True)
class Broken:
    """An unusable image. `reason` names file and record; `size` is set for intact images of another size."""

    key: str
    reason: str
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Duplicate:
    """Two copies of a photograph: with equal pixels if `exact`, else similar by `correlation`."""

    first: str
    second: str
    first_person: str
    second_person: str
    correlation: float
    exact: bool

    @property
    def across_people(self) -> bool:
        """Whether the copies have different names: a wrong label, or a person with two names."""
        return self.first_person != self.second_person


@dataclass(frozen=True)
class Split:
    """A part of a dataset by name."""

    name: str
    images: int
    people: int


@dataclass(frozen=True)
class Verification:
    """Results of `verify`. Duplicates across people come first, exact ones before others.

    `implausible` are images whose landmarks cannot be a face's (`kdface.datasets.plausibility`).
    """

    name: str
    images: int
    people: int
    images_per_person: Spread
    broken: tuple[Broken, ...]
    implausible: tuple[Broken, ...]
    duplicates: tuple[Duplicate, ...]
    passed_over: tuple[str, ...]
    splits: tuple[Split, ...]
    people_in_two_splits: tuple[str, ...]

    @property
    def usable(self) -> bool:
        """Whether every image is readable with plausible landmarks, and no person is in two splits."""
        return not self.broken and not self.implausible and not self.people_in_two_splits


@dataclass(frozen=True)
class Overlap:
    """People, as (name in the first, name in the second), and photographs shared by two datasets.

    `unnamed` counts the people of both without a proper name, who cannot be compared by name.
    """

    first: str
    second: str
    people: tuple[tuple[str, str], ...]
    images: tuple[Duplicate, ...]
    broken: tuple[Broken, ...]
    unnamed: int


def verify(
    dataset: FaceSet, splits: Mapping[str, Sequence[int]] | None = None, progress: Progress | None = None
) -> Verification:
    """Decode every image; report broken images, duplicates, and the distribution over people and splits.

    Exact duplicates have equal pixels; each further copy is listed once, with the first. Near duplicates are
    re-encoded, resized, brightened or slightly shifted copies, see `kdface.datasets.duplicates`; their search
    is quadratic in the number of images (seconds for 12 thousand).

    Args:
        dataset: any set of faces.
        splits: name -> indices of its images. People in two splits are reported.
        progress: called with the number of images done and in total.

    Raises:
        DataError: duplicate keys, or a label that is not the index of a person.
    """
    _check_labels(dataset)
    seen = _Images(dataset, progress)
    found = seen.exact()
    found += [seen.pair(seen, i, j, score) for i, j, score in duplicates.within(seen.thumbnails)]
    found.sort(key=lambda pair: (not pair.across_people, not pair.exact, -pair.correlation, pair.first, pair.second))
    members = {name: _people(dataset, indices) for name, indices in (splits or {}).items()}
    counts = [sum(person in group for group in members.values()) for person in dataset.people]
    return Verification(
        name=dataset.name,
        images=len(dataset),
        people=len(_named(dataset)),
        images_per_person=_images_per_person(dataset),
        broken=tuple(seen.broken),
        implausible=tuple(seen.implausible),
        duplicates=tuple(found),
        passed_over=tuple(getattr(dataset, "passed_over", ())),
        splits=tuple(Split(name, len(indices), len(members[name])) for name, indices in (splits or {}).items()),
        people_in_two_splits=tuple(person for person, count in zip(dataset.people, counts, strict=True) if count > 1),
    )


def broken(
    dataset: FaceSet, keys: Sequence[str] | None = None, full: bool = False, progress: Progress | None = None
) -> tuple[Broken, ...]:
    """Find unusable images by a cheap check, as before a training that will be tested on them.

    Reads files and their headers (missing, empty, truncated, of another size or format) at about 30,000 images per
    second; damage inside an image is only found by decoding.

    Args:
        dataset: any set of faces.
        keys: check only these images, such as those in a list of pairs; missing keys count as broken.
        full: decode every image.
        progress: called with the number of images done and in total.
    """
    rows = {key: row for row, key in enumerate(dataset.keys)}
    wanted = list(rows if keys is None else dict.fromkeys(keys))
    found: list[Broken] = []
    for done, key in enumerate(wanted, 1):
        try:
            if key not in rows:
                raise DataError(f"{dataset.name} has no image {key}.")
            if full:
                dataset[rows[key]]
            else:
                check(dataset, rows[key])
        except DataError as error:
            found.append(Broken(key, error.problem, getattr(error, "size", None)))
        if progress:
            progress(done, len(wanted))
    return tuple(found)


def require_aligned(dataset: FaceSet, on_error: str = "raise", most: int = 64) -> None:
    """Raise `DataError` if a sample of images spread over the set has intact ones that are not crops of the set's size.
    With `on_error="skip"`, raise only if none of the sample is usable. Raises `UserError` if the first one breaks the
    contract of datasets."""
    require_image(dataset, "dataset")
    rows = np.unique(np.linspace(0, len(dataset) - 1, min(most, len(dataset))).round().astype(np.int64))
    wrong: list[SizeError] = []
    usable = 0
    for row in rows.tolist():
        try:
            check(dataset, row)
            usable += 1
        except SizeError as error:
            wrong.append(error)
        except DataError:  # broken images are reported when read
            continue
    if wrong and (on_error == "raise" or not usable):
        first = wrong[0]
        height, width = stored(dataset)[0].preprocessing.size
        raise DataError(
            f"{dataset.name}: {len(wrong)} of {len(rows)} sampled images are not aligned crops of "
            f"{height}x{width}, the first one: {first.problem}",
            fix=for_crops(sized(dataset, first.size)) if first.size else first.fix,
        )


def stored(dataset: FaceSet) -> tuple[FaceSet, str]:
    """The set that reads the images, beneath those that are made of it, and its key in a configuration."""
    inner, key = dataset, "dataset"
    while isinstance(beneath := getattr(inner, "dataset", None), FaceSet):
        inner, key = beneath, f"{key}.dataset"
    return inner, key


def sized(dataset: FaceSet, size: tuple[int, int]) -> str:
    """What makes a size, (height, width), that of the stored crops: the option of the set that reads them, or the file
    in which it stands."""
    inner, key = stored(dataset)
    file = getattr(inner, "size_file", None)
    return f"{key}.size=[{size[0]},{size[1]}]" if file is None else f"height,width = {size[0]},{size[1]} in {file}"


def overlap(first: FaceSet, second: FaceSet, progress: Progress | None = None) -> Overlap:
    """Find people and photographs shared by two datasets, such as training and test set.

    Names are compared without case, accents, spaces and punctuation, so that "Aaron_Eckhart" matches "aaron
    eckhart". Names without a letter, such as class numbers, are not compared.
    """
    unnamed = sum(not _is_name(person) for side in (first, second) for person in side.people)
    total = len(first) + len(second)
    left = _Images(first, progress and (lambda done, _: progress(done, total)))
    right = _Images(second, progress and (lambda done, _: progress(len(first) + done, total)))
    number = {digest: j for j, digest in reversed(list(enumerate(right.digests)))}
    pairs = [left.pair(right, i, number[digest]) for i, digest in enumerate(left.digests) if digest in number]
    exact = {(pair.first, pair.second) for pair in pairs}
    near = [left.pair(right, i, j, score) for i, j, score in duplicates.between(left.thumbnails, right.thumbnails)]
    pairs += [pair for pair in near if (pair.first, pair.second) not in exact]
    return Overlap(
        first=first.name,
        second=second.name,
        people=shared_people(first, second),
        images=tuple(pairs),
        broken=(*left.broken, *right.broken),
        unnamed=unnamed,
    )


def shared_people(first: FaceSet, second: FaceSet) -> tuple[tuple[str, str], ...]:
    """People with the same name in two datasets, as (name in the first, name in the second); see `overlap`."""
    names = [{_normal(person): person for person in _named(side) if _is_name(person)} for side in (first, second)]
    return tuple((names[0][name], names[1][name]) for name in sorted(names[0].keys() & names[1].keys()))


def card(dataset: FaceSet, found: Sequence[str] | None = None) -> dict[str, Any]:
    """Summary of a dataset as JSON-compatible values; `fingerprint` identifies its version.

    `found`: its `digests`, if known.
    """
    spread = _images_per_person(dataset)
    return {
        "name": dataset.name,
        "images": len(dataset),
        "people": len(_named(dataset)),
        "images_per_person": {"minimum": spread.minimum, "median": spread.median, "maximum": spread.maximum},
        "preprocessing": dataset.preprocessing.to_dict(),
        "terms": getattr(dataset, "terms", ""),
        "fingerprint": fingerprint(dataset, found),
    }


@dataclass(frozen=True)
class Published:
    """Published facts about a dataset.

    Attributes:
        counts: people, images and pairs, as far as stated.
        request: where to get a copy.
        source: source of the counts.
    """

    counts: dict[str, int]
    request: str
    source: str


def published(name: str) -> Published | None:
    """Published facts about a well-known dataset (`known.yaml`) by name; null: unknown."""
    known = read_yaml(Path(__file__).with_name("known.yaml"), dict[str, dict[str, Any]]).get(name)
    if known is None:
        return None
    counts = {key: int(known[key]) for key in ("people", "images", "pairs") if key in known}
    return Published(counts, known["request"], known["source"])


def fingerprint(dataset: FaceSet, found: Sequence[str] | None = None) -> str:
    """SHA-256 over the sorted (key, person's name, SHA-256 of the bytes) of all samples, in hex.

    It changes with any byte, label or key, but not with the order or location of the files. The bytes are the
    reader's `raw_bytes` (image file, and landmarks or pair labels if any); for sets without these, pixels and
    landmarks. Unreadable samples are included as such.
    """
    rows = [
        f"{key}\0{dataset.people[int(label)]}\0{digest}\n"
        for key, label, digest in zip(
            dataset.keys, dataset.labels, digests(dataset) if found is None else found, strict=True
        )
    ]
    return hashlib.sha256("".join(sorted(rows)).encode()).hexdigest()


def digests(dataset: FaceSet) -> list[str]:
    """SHA-256 of the bytes of each sample, in hex; "unreadable" for unreadable ones, which training may skip."""
    found = []
    for index in range(len(dataset)):
        try:
            found.append(hashlib.sha256(bytes_of(dataset, index)).hexdigest())
        except DataError:
            found.append("unreadable")
    return found


class _Images:
    """One pass over a dataset: pixel digests and thumbnails of the images, and broken images."""

    def __init__(self, dataset: FaceSet, progress: Progress | None) -> None:
        self.dataset = dataset
        self.broken: list[Broken] = []
        self.implausible: list[Broken] = []
        self.digests: list[bytes] = []
        self.indices: list[int] = []
        size = dataset.preprocessing.size
        thumbnails = np.zeros((len(dataset), duplicates.SIDE, duplicates.SIDE), dtype=np.uint8)
        for index in range(len(dataset)):
            try:
                sample = dataset[index]
                image = sample.image
                if image.shape != (*size, 3) or image.dtype != np.uint8:
                    raise DataError(
                        f"{dataset.keys[index]}: {image.dtype} of {image.shape}, not uint8 of {(*size, 3)}."
                    )
            except DataError as error:
                self.broken.append(Broken(dataset.keys[index], error.problem, getattr(error, "size", None)))
            else:
                if sample.landmarks is not None and (reason := implausible(sample.landmarks, size)):
                    self.implausible.append(Broken(dataset.keys[index], reason))
                thumbnails[len(self.indices)] = duplicates.thumbnail(image)
                self.digests.append(hashlib.blake2b(image.tobytes(), digest_size=16).digest())
                self.indices.append(index)
            if progress:
                progress(index + 1, len(dataset))
        self.thumbnails: duplicates.Thumbnails = thumbnails[: len(self.indices)]

    def pair(self, other: _Images, i: int, j: int, correlation: float | None = None) -> Duplicate:
        """The duplicate of image i here and image j there; exact if no correlation is given."""
        (first, person), (second, other_person) = self.named(i), other.named(j)
        exact = correlation is None
        return Duplicate(first, second, person, other_person, 1.0 if correlation is None else correlation, exact)

    def named(self, i: int) -> tuple[str, str]:
        """Key and person of image i."""
        index = self.indices[i]
        return self.dataset.keys[index], self.dataset.people[int(self.dataset.labels[index])]

    def exact(self) -> list[Duplicate]:
        """Pop all images whose pixels occurred before, so that near duplicates list each only once."""
        first: dict[bytes, int] = {}
        found = [
            self.pair(self, first[digest], i)
            for i, digest in enumerate(self.digests)
            if first.setdefault(digest, i) != i
        ]
        kept = sorted(first.values())
        self.thumbnails = self.thumbnails[kept]
        self.indices = [self.indices[i] for i in kept]
        self.digests = [self.digests[i] for i in kept]
        return found


def _check_labels(dataset: FaceSet) -> None:
    if len(set(dataset.keys)) != len(dataset):
        raise DataError(f"{dataset.name}: {len(dataset)} images have {len(set(dataset.keys))} different keys.")
    labels = np.asarray(dataset.labels)
    if labels.shape != (len(dataset),) or (labels < 0).any() or (labels >= len(dataset.people)).any():
        raise DataError(f"{dataset.name}: the labels are not one index into {len(dataset.people)} people per image.")


def check(dataset: FaceSet, index: int) -> None:
    """Raise `DataError` if a sample is known to be broken without decoding it."""
    if isinstance(dataset, HasCheck):
        dataset.check(index)
    elif isinstance(dataset, HasRawBytes):
        dataset.raw_bytes(index)


def bytes_of(dataset: FaceSet, index: int) -> bytes:
    """The bytes that identify an image: its file's, or pixels and landmarks if there is no file."""
    if isinstance(dataset, HasRawBytes):
        return dataset.raw_bytes(index)
    sample = dataset[index]
    landmarks = b"" if sample.landmarks is None else sample.landmarks.astype("<f4").tobytes()
    return f"{sample.image.shape}".encode() + sample.image.tobytes() + landmarks


def _named(dataset: FaceSet) -> list[str]:
    """The people, without "?", which stands for unidentified ones."""
    return [person for person in dataset.people if person != "?"]


def _images_per_person(dataset: FaceSet) -> Spread:
    counts: NDArray[np.int64] = np.bincount(dataset.labels, minlength=len(dataset.people))
    counts = counts[[person != "?" for person in dataset.people]]
    if not len(counts):
        return Spread(0, 0.0, 0)
    return Spread(int(counts.min()), float(np.median(counts)), int(counts.max()))


def _people(dataset: FaceSet, indices: Sequence[int]) -> set[str]:
    return {dataset.people[int(dataset.labels[index])] for index in indices}


def _is_name(person: str) -> bool:
    return any(character.isalpha() for character in person)


def _normal(person: str) -> str:
    letters = unicodedata.normalize("NFKD", person.casefold())
    return "".join(character for character in letters if character.isalnum())
