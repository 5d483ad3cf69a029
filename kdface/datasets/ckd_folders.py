"""Faces and their periocular images in the folders of CKD's official code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kdface.augmentations.periocular import PairedSample, resized
from kdface.datasets.folders import entries, image_entries, missing
from kdface.datasets.images import Size, decode, read_bytes, require_whole
from kdface.errors import DataError, UserError
from kdface.faces import Image, Preprocessing, Sample

Modality = Literal["both", "face", "periocular"]

_SIZES = {"both": (128, 128), "face": (128, 128), "periocular": (48, 128)}
_LAYOUT = "one folder per person with image files in its folders face and periocular"


class CKDFolders:
    """Images `root/split/person/face/file.jpg` and `root/split/person/periocular/file.jpg` of the same photographs.

    Keys are "person/file.jpg", with people and files sorted by name; labels are people by name. The two images of a
    photograph share a file name: the official code pairs by position in two sorted lists, so that one missing file
    shifts every later pair. A test set's folds are splits, e.g. split="ethnic/gallery".

    Stored crops may have any size and are resized to `size` as in the official code: faces, which must have its aspect
    ratio, and periocular images regardless of theirs. Their alignment and cropping is unknown, so their templates are
    "ckd" and "periocular-ckd", which networks trained on other crops reject, and there are no landmarks.

    Args:
        root: the folder that contains the splits.
        split: the folder of people, below `root`.
        modality: `both` yields faces with their periocular images, for the augmentation `StoredPeriocular`; `face` and
            `periocular` yield one kind, as a test set or one side of a comparison, and ignore the other.
        size: (height, width) of the images in pixels; by default 128x128, and 48x128 for `periocular`.
        unpaired: how to handle images without their counterpart in modality `both`.
        name: name of the dataset in reports; by default root's name, then the split.
        terms: licence or terms of use, shown in the dataset's card.

    Attributes:
        passed_over: unused entries, relative to the split: files that are not images, people without images, and with
            unpaired="leave_out" the omitted images.

    Raises:
        UserError: the split does not exist.
        DataError: images are unpaired, or there are none; on access, if an image is unusable.
    """

    name: str
    preprocessing: Preprocessing
    people: Sequence[str]
    labels: NDArray[np.int64]
    keys: Sequence[str]

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        modality: Modality = "both",
        size: Size | None = None,
        unpaired: Literal["error", "leave_out"] = "error",
        name: str | None = None,
        terms: str = "",
    ) -> None:
        if modality not in _SIZES:
            raise UserError(f"modality={modality!r} is unknown.", expected=", ".join(_SIZES))
        self.root = Path(root) / split
        self.modality = modality
        self.name = name or f"{Path(root).name}/{split}"
        self.terms = terms
        template = "periocular-ckd" if modality == "periocular" else "ckd"
        self.preprocessing = Preprocessing(template, _SIZES[modality] if size is None else (size[0], size[1]))
        files, alone, self.passed_over = _scan(self.root, modality)
        if alone:
            if unpaired == "error":
                shown = ", ".join(alone[:3]) + (", ..." if len(alone) > 3 else "")
                raise DataError(
                    f"{self.root}: {len(alone)} images have no counterpart with the same file name: {shown}",
                    expected="the same file names in face and periocular of each person",
                    fix="add or rename the missing ones, or skip these images with unpaired=leave_out",
                )
            self.passed_over = sorted([*self.passed_over, *alone])
        if not files:
            raise DataError(f"{self.root}: no {'pair' if modality == 'both' else modality} is left.", expected=_LAYOUT)
        self.people = list(files)
        self.keys = [f"{person}/{file}" for person in files for file in files[person]]
        counts = [len(files[person]) for person in files]
        self.labels = np.repeat(np.arange(len(files), dtype=np.int64), counts)

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> Sample:
        label, key = int(self.labels[index]), self.keys[index]
        if self.modality == "periocular":
            return Sample(resized(self._read(index, "periocular"), self.preprocessing.size), label, key)
        face = self._face(index)
        if self.modality == "face":
            return Sample(face, label, key)
        return PairedSample(face, label, key, periocular=self._read(index, "periocular"))

    def raw_bytes(self, index: int) -> bytes:
        """The bytes of the image file; in modality `both` those of the face, then of the periocular image."""
        return b"".join(read_bytes(self._path(index, kind)) for kind in self._kinds)

    def check(self, index: int) -> None:
        """Raise `DataError` if a file is missing or truncated, without decoding it."""
        for kind in self._kinds:
            path = self._path(index, kind)
            require_whole(read_bytes(path), str(path))

    @property
    def _kinds(self) -> tuple[str, ...]:
        return ("face", "periocular") if self.modality == "both" else (self.modality,)

    def _path(self, index: int, kind: str) -> Path:
        person, file = self.keys[index].split("/")
        return self.root / person / kind / file

    def _read(self, index: int, kind: str) -> Image:
        path = self._path(index, kind)
        return decode(read_bytes(path), str(path))

    def _face(self, index: int) -> Image:
        image = self._read(index, "face")
        (high, wide), (height, width) = image.shape[:2], self.preprocessing.size
        if high * width != wide * height:
            raise DataError(
                f"{self._path(index, 'face')}: the face is {high} high, {wide} wide, and {height}x{width} distorts it.",
                expected="faces of the shape of `size`, height to width: square ones for 128x128",
            )
        return resized(image, self.preprocessing.size)


def _scan(root: Path, modality: str) -> tuple[dict[str, list[str]], list[str], list[str]]:
    """Each person's usable file names; images without a counterpart; other ignored entries."""
    if not root.is_dir():
        raise missing(root, _LAYOUT)
    kinds = ("face", "periocular") if modality == "both" else (modality,)
    files: dict[str, list[str]] = {}
    alone: list[str] = []
    people, beside, passed_over = entries(root)
    passed_over += beside
    for person in people:
        images: dict[str, set[str]] = {kind: set() for kind in kinds}
        for kind in kinds:
            if (root / person / kind).is_dir():
                within, found, others = image_entries(root / person / kind)
                images[kind] = set(found)
                passed_over += [f"{person}/{kind}/{other}" for other in (*(f"{entry}/" for entry in within), *others)]
        whole = set.intersection(*images.values())
        alone += [f"{person}/{kind}/{image}" for kind in kinds for image in sorted(images[kind] - whole)]
        if whole:
            files[person] = sorted(whole)
        elif not any(images.values()):
            passed_over.append(f"{person}/")
    return files, alone, sorted(passed_over)
