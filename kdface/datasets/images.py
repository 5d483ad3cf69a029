"""Decode image files to RGB pixels, or report the file and what is wrong with it."""

from __future__ import annotations

import re
import zlib
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
from annotated_types import Ge

from kdface.errors import DataError
from kdface.faces import Image
from kdface.stored import read_bytes as bytes_of_file

Size = tuple[Annotated[int, Ge(1)], Annotated[int, Ge(1)]]  # height, width in pixels

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})
FORMATS = "a whole JPEG, PNG, BMP or WebP image"
LARGEST_FILE = 1 << 30  # bytes
MOST_PIXELS = 1 << 27  # per image, 0.4 GB decoded: a header may claim any number, and decoding allocates it

# In JPEG data FF00 is a stuffed byte and FFD0-FFD7 restart a scan; any other FFxx opens a segment.
_JPEG_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def decode(data: bytes, source: str, size: tuple[int, int] | None = None) -> Image:
    """Decode an image file to (height, width, 3) uint8 RGB.

    Grayscale is repeated over the channels, an alpha channel is dropped, 16 bits become 8. EXIF orientation is
    deliberately ignored: landmarks and crops refer to the stored pixels, which rotation would invalidate. Trailing
    bytes are accepted; truncated images are not, although some OpenCV releases decode them with a gray remainder.

    Args:
        data: the file's bytes.
        source: names file and record in a message.
        size: the required (height, width).

    Raises:
        DataError: the bytes are not an image, are truncated or damaged, or have another size.
    """
    require_whole(data, source, size)
    try:
        bgr = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:  # rejected by OpenCV before decoding, e.g. for an absurd size in the header
        bgr = None
    if bgr is None:
        raise DataError(f"{source}: the image cannot be decoded.", expected=FORMATS)
    if size is not None:
        _require_size(bgr.shape[:2], source, size)
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def require_whole(data: bytes, source: str, size: tuple[int, int] | None = None) -> None:
    """Check format, completeness and size of an image file without decoding it.

    Raises:
        DataError: as `decode`, or if the header claims more than `MOST_PIXELS`.
    """
    reason = _damage(data)
    if reason:
        raise DataError(f"{source}: {reason}.", expected=FORMATS)
    claimed = _claimed_size(data)
    if claimed is None:
        return
    if claimed[0] * claimed[1] > MOST_PIXELS:
        raise DataError(
            f"{source}: the header claims {claimed[0]} x {claimed[1]} pixels.",
            expected=f"at most {MOST_PIXELS:,} pixels",
        )
    if size is not None:
        _require_size(claimed, source, size)


# The command that crops photographs.
ALIGN = "kdface data align FOLDER -o CROPS detector=YUNET.onnx (or landmarks=FILE.csv)"


def for_crops(own: str) -> str:
    """The fix for images of another size; `own` makes it that of the set."""
    return (
        f"for aligned crops of this size {own}; photographs that are not aligned crops are cut by {ALIGN}; or "
        "dataset=raw_folder dataset.root=FOLDER dataset.landmarks=FILE"
    )


class SizeError(DataError):
    """An intact image whose size, `size` (height, width), differs from that of its set's crops."""

    size: tuple[int, int] | None = None


def _require_size(given: tuple[int, ...], source: str, size: tuple[int, int]) -> None:
    if given != tuple(size):
        one, other = (f"{height} high, {width} wide" for height, width in (given, size))
        own = f"dataset.size=[{given[0]},{given[1]}]"
        error = SizeError(f"{source}: the crop is {one}.", expected=other, fix=for_crops(own))
        error.size = (given[0], given[1])
        raise error


def read_bytes(path: Path, largest: int = LARGEST_FILE) -> bytes:
    """The bytes of a file. Raises `DataError` naming it if it is unreadable, a pipe or device, or too large."""
    try:
        return bytes_of_file(path, largest)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise DataError(f"{path}: not a file of data: {error}.") from None


def _damage(data: bytes) -> str:
    """Why `data` is not a complete image file, or an empty string. Decoding may still find more."""
    if not data:
        return "the image is empty (0 bytes)"
    if data[:2] == b"\xff\xd8":
        return "" if _jpeg_has_end(data) else f"the JPEG is cut short after {len(data)} bytes"
    if data[:8] == _PNG_SIGNATURE:
        return _png_damage(data)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _short(data, "WebP", 8 + int.from_bytes(data[4:8], "little"))
    if data[:2] == b"BM":
        return _short(data, "BMP", int.from_bytes(data[2:6], "little"))
    return f"not an image file of a known format (it begins with {data[:4].hex(' ')})"


def _short(data: bytes, kind: str, length: int) -> str:
    if len(data) >= length:
        return ""
    return f"the {kind} is cut short: its header says {length} bytes and {len(data)} are there"


def _jpeg_has_end(data: bytes) -> bool:
    """Whether the segments of a JPEG lead to its end-of-image marker (skipping that of an EXIF thumbnail)."""
    position = 2
    while (found := _JPEG_MARKER.search(data, position)) is not None:
        position = found.end()
        marker = data[position - 1]
        if marker == 0xD9:
            return True
        if marker not in (0x01, 0xD8):  # markers without a length; all other segments begin with it
            position += int.from_bytes(data[position : position + 2], "big")
    return False


def _png_damage(data: bytes) -> str:
    """Walk the chunks of a PNG to its IEND, verifying each checksum."""
    position = len(_PNG_SIGNATURE)
    while position + 12 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        end = position + 8 + length
        if zlib.crc32(data[position + 4 : end]).to_bytes(4, "big") != data[end : end + 4]:
            if end + 4 > len(data):
                break
            return "the PNG is damaged: a checksum does not match"
        if data[position + 4 : position + 8] == b"IEND":
            return ""
        position = end + 4
    return f"the PNG is cut short after {len(data)} bytes"


def _claimed_size(data: bytes) -> tuple[int, int] | None:
    """(height, width) from the header of an intact image file, or None if not stated."""
    if data[:2] == b"\xff\xd8":
        return _jpeg_size(data)
    if data[:8] == _PNG_SIGNATURE:
        return int.from_bytes(data[20:24], "big"), int.from_bytes(data[16:20], "big")
    if data[:2] == b"BM":
        if int.from_bytes(data[14:18], "little") < 40:  # an OS/2 header
            return int.from_bytes(data[20:22], "little"), int.from_bytes(data[18:20], "little")
        height = int.from_bytes(data[22:26], "little", signed=True)  # negative: top row first
        return abs(height), int.from_bytes(data[18:22], "little", signed=True)
    kind = data[12:16]
    if kind == b"VP8 ":
        return int.from_bytes(data[28:30], "little") & 0x3FFF, int.from_bytes(data[26:28], "little") & 0x3FFF
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
    if kind == b"VP8X":
        return int.from_bytes(data[27:30], "little") + 1, int.from_bytes(data[24:27], "little") + 1
    return None


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    position = 2
    while (found := _JPEG_MARKER.search(data, position)) is not None:
        position = found.end()
        marker = data[position - 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # a frame: length, precision, height, width
            height, width = data[position + 3 : position + 5], data[position + 5 : position + 7]
            return int.from_bytes(height, "big"), int.from_bytes(width, "big")
        if marker not in (0x01, 0xD8):
            position += int.from_bytes(data[position : position + 2], "big")
    return None
