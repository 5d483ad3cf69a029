"""Aligned crops in one folder per person."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from annotated_types import Ge
from numpy.typing import NDArray

from kdface.datasets.folders import scan
from kdface.datasets.images import Size, decode, read_bytes, require_whole
from kdface.datasets.names import plain
from kdface.errors import UserError, nearest
from kdface.faces import Preprocessing, Sample, template_points


class ImageFolder:
    """Aligned face crops `root/person/file.jpg` (or .jpeg, .png, .bmp, .webp).

    People and files are sorted by name, so that labels and keys are the same on every machine; keys are
    "person/file.jpg". Every crop must have the given size: nothing is resized. Landmarks are the template's
    points, as the crops are aligned to them.

    Args:
        root: the folder that contains the people's folders.
        size: (height, width) of the crops in pixels.
        name: name of the dataset in reports; by default the name of the folder.
        people: use only these people.
        min_images: skip people with fewer images.
        terms: licence or terms of use, shown in the dataset's card.

    Raises:
        UserError: the folder or a requested person does not exist, or nobody is left.
        DataError: there are no images; on access, if an image is unusable.
    """

    name: str
    preprocessing: Preprocessing
    people: Sequence[str]
    labels: NDArray[np.int64]
    keys: Sequence[str]

    def __init__(
        self,
        root: str | Path,
        size: Size = (112, 112),
        name: str | None = None,
        people: Sequence[str] | None = None,
        min_images: Annotated[int, Ge(1)] = 1,
        terms: str = "",
    ) -> None:
        self.root = Path(root)
        self.name = name or self.root.name
        self.terms = terms
        self.preprocessing = Preprocessing(size=(size[0], size[1]))
        files, self.passed_over = scan(self.root)
        names = {plain(person): person for person in files}
        wanted = sorted(files if people is None else {names.get(plain(person), person) for person in people})
        for person in wanted:
            if person not in files:
                raise UserError(
                    f"{self.root} has no person {person!r}.",
                    expected=f"a name of one of its {len(files)} folders with images",
                    nearest=nearest(person, files),
                )
        self.people = [person for person in wanted if len(files[person]) >= min_images]
        if not self.people:
            most = max((len(files[person]) for person in wanted), default=0)
            raise UserError(
                f"{self.root}: nobody is left of {len(wanted)} people with min_images={min_images}.",
                expected=f"min_images of at most {most}, and at least one person",
            )
        self.keys = [f"{person}/{file}" for person in self.people for file in files[person]]
        self.labels = np.repeat(
            np.arange(len(self.people), dtype=np.int64), [len(files[person]) for person in self.people]
        )

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> Sample:
        size = self.preprocessing.size
        image = decode(self.raw_bytes(index), str(self.root / self.keys[index]), size)
        return Sample(image, int(self.labels[index]), self.keys[index], template_points(size))

    def check(self, index: int) -> None:
        """Raise `DataError` if the file is missing, truncated or of another size, without decoding it."""
        require_whole(self.raw_bytes(index), str(self.root / self.keys[index]), self.preprocessing.size)

    def raw_bytes(self, index: int) -> bytes:
        """The bytes of the image file."""
        return read_bytes(self.root / self.keys[index])
