"""What a recogniser is given: arrays, files or a folder of aligned crops, checked and read batch by batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from kdface.datasets.folders import images_below
from kdface.datasets.images import decode, read_bytes
from kdface.datasets.resized import resize
from kdface.errors import DataError, UserError
from kdface.faces import Image

One = NDArray[np.uint8] | Tensor | str | Path  # one crop (H, W, 3), or a file
Crops = One | Sequence[One]  # also (N, H, W, 3), or a folder


def listed(given: Crops) -> list[Any]:
    """One entry for each crop: (H, W, 3) arrays or paths. A folder gives its images and those of the folders below it,
    sorted by path.

    Raises:
        UserError: there is no such file or folder.
        DataError: there are no images.
    """
    if isinstance(given, str | Path):
        path = Path(given).expanduser()
        if path.is_file():
            return [path]
        return list(images_below(path)[0])
    if isinstance(given, Tensor):
        given = given.detach().cpu().numpy()
    if isinstance(given, np.ndarray):
        return [given] if given.ndim == 3 else list(given)
    entries = [Path(path).expanduser() if isinstance(path, str) else path for path in given]
    if not entries:
        raise UserError("no images are given.", expected="one crop or more")
    return entries


def is_one(given: Any) -> bool:
    """Whether it is one crop: a path or an array (H, W, 3)."""
    return isinstance(given, str | Path) or getattr(given, "ndim", 0) == 3


def pixels(entry: Any, size: tuple[int, int], resizes: bool = False) -> tuple[Image, bool]:
    """An entry's (H, W, 3) uint8 RGB pixels, and whether a file was shrunk to them.

    Args:
        entry: a path, or an array.
        size: the (height, width) that the network takes.
        resizes: the network was trained on crops that were shrunk: files of their shape are shrunk too.

    Raises:
        DataError: a file cannot be read, or is no crop of that size.
        UserError: an array has another type or shape.
    """
    if isinstance(entry, Path):
        return decoded(read_bytes(entry), str(entry), size, resizes)
    image = entry.detach().cpu().numpy() if isinstance(entry, Tensor) else np.asarray(entry)
    if image.dtype != np.uint8 or image.shape != (*size, 3):
        raise UserError(
            f"an image is {image.dtype} of shape {image.shape}.",
            expected=f"uint8 of shape ({size[0]}, {size[1]}, 3): an aligned crop, RGB, 0 to 255; of photographs, "
            "kdface data align makes crops",
        )
    return image, False


def decoded(data: bytes, name: str, size: tuple[int, int], resizes: bool = False) -> tuple[Image, bool]:
    """As `pixels`, from the bytes of a file; `name` is what a message calls it."""
    if resizes:
        image = decode(data, name)
        height, width = image.shape[:2]
        if (height, width) != size and height * size[1] == width * size[0]:
            return resize(image, size), True
    return decode(data, name, size), False


def not_aligned(root: Path, size: tuple[int, int], found: Sequence[tuple[int, int]]) -> DataError:
    """The message for a folder of whole images none of which is a crop of (height, width) pixels."""
    kinds = ", ".join(f"{height}x{width}" for height, width in list(dict.fromkeys(found))[:3])
    return DataError(
        f"{root} holds no aligned crops of {size[0]}x{size[1]}: its images are {kinds} (height x width).",
        fix=f"kdface data align {root} -o CROPS size=[{size[0]},{size[1]}] detector=YUNET.onnx (or landmarks=FILE.csv)",
    )


def batches(
    entries: Sequence[Any], size: tuple[int, int], batch_size: int, resizes: bool = False
) -> Iterator[NDArray[np.uint8]]:
    """(n, H, W, 3) uint8 RGB, n up to `batch_size`, in order. Raises as `pixels` does."""
    for start in range(0, len(entries), batch_size):
        yield np.stack([pixels(entry, size, resizes)[0] for entry in entries[start : start + batch_size]])


def named(entries: Sequence[Any]) -> list[str]:
    """What each entry is called: its path, or its number."""
    return [str(entry) if isinstance(entry, Path) else str(number) for number, entry in enumerate(entries)]
