"""Bounded, validated readers for stored files, one per format.

Files may be damaged, truncated, foreign or malicious. These readers return plain values, bounded in size and depth,
that match the given schema; anything else raises a `UserError` that names the file and the reason. Schemas are those of
pydantic's `TypeAdapter` (`kdface.runs.schemas` has those of a run folder).
"""

from __future__ import annotations

import json
import math
import os
import pickle
import re
import stat
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

import yaml

from kdface.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MEBIBYTE = 1 << 20
_LINE = 4096  # maximum bytes per line in the tail of a log
# Escape sequences with their parameters (ECMA-48: CSI; OSC and its like up to their end), then single characters.
_CONTROL = re.compile(
    "(?:\x1b\\[|\x9b)[0-?]*[ -/]*[@-~]|\x1b[\\]PX^_].*?(?:\x1b\\\\|\x07|$)|[\x00-\x08\x0b-\x1f\x7f-\x9f]", re.MULTILINE
)
_LARGEST = 256 * MEBIBYTE  # of a text file
_LARGEST_ARRAY = 4096 * MEBIBYTE
_DEEPEST = 50  # nesting of mappings and lists; a configuration has about ten levels
_MOST = 5_000_000  # values, counting shared ones each time
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, if available


def open_file(path: Path) -> BinaryIO:
    """Open a regular file for reading; pipes and devices are rejected without blocking.

    Raises `OSError` as `open`, and `ValueError` if it is not a regular file.
    """
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")  # rejects folders
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise ValueError("it is a pipe or a device, not a file")
    return file


def read_bytes(path: Path, largest: int = _LARGEST) -> bytes:
    """The content of a regular file.

    Raises `OSError` as `open`, and `ValueError` if it is not a regular file or exceeds `largest` bytes.
    """
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > largest:
            raise ValueError(f"it has {size / MEBIBYTE:,.1f} MiB, and at most {largest / MEBIBYTE:,.0f} are read")
        return file.read()


def read_tail(path: Path, size: int) -> bytes:
    """The last `size` bytes of a regular file. Raises as `open_file`."""
    with open_file(path) as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - size))
        return file.read(size)


def tail(path: Path, lines: int) -> list[str]:
    """The last lines of a log, none if the file does not exist. Carriage returns of progress bars also end a line."""
    try:
        text = read_tail(path, _LINE * lines).decode("utf-8", errors="replace")
    except (OSError, ValueError):
        return []
    found = [line for line in printable(text.replace("\r", "\n")).split("\n") if line.strip()]
    return found[-lines:]


def printable(text: str) -> str:
    """An untrusted text without terminal escape sequences and control characters."""
    return _CONTROL.sub("", text)


def read_json(path: Path, schema: Any = dict[str, Any], *, fix: str = "") -> Any:
    """The checked content of a JSON file.

    Args:
        path: of the file.
        schema: of its content.
        fix: the command that recreates the file.

    Raises:
        UserError: it cannot be read, is not JSON, contains NaN or infinity, or does not match the schema.
    """
    return read_parsed(path, lambda text: parse_json(text, schema), fix)


def parse_json(text: str, schema: Any = dict[str, Any]) -> Any:
    """The checked value of a JSON text. Raises `ValueError` with the reason."""
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    _require_plain(value, finite=True)
    return conform(value, schema)


def read_yaml(path: Path, schema: Any = dict[str, Any]) -> Any:
    """The checked content of a YAML file: plain values only, as in JSON; numbers may be infinite or NaN.

    Raises:
        UserError: it cannot be read, is not YAML, is nested too deep, is expanded by aliases, or does not match the
            schema.
    """

    def parse(text: str) -> Any:
        try:
            require_bounded_yaml(text)
            value = yaml.load(text, Loader=_LOADER)
        except (yaml.YAMLError, AttributeError, OverflowError, RecursionError, TypeError) as error:
            raise ValueError(" ".join(str(error).split())) from None
        _require_plain(value, finite=False)
        return conform(value, schema)

    return read_parsed(path, parse)


def whole_number(text: str | bytes, most: int = (1 << 31) - 1) -> int | None:
    """Parse ASCII digits; None for any other characters, or a number above `most`."""
    if not (text.isascii() and text.isdigit() and len(text) <= 20):
        return None
    number = int(text)
    return number if number <= most else None


def read_torch(path: Path) -> Any:
    """The content of a torch file: tensors and plain values, on the CPU; nothing in it is executed.

    Raises:
        pickle.UnpicklingError: it contains anything else.
        ValueError: it is not such a file, is damaged (by even one bit), or truncated.
    """
    import torch  # imported lazily: only needed to read weights

    try:
        require_whole(path)
        with open_file(path) as file:
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise
    except OSError as error:
        raise ValueError(error.strerror or str(error)) from None
    except EOFError:
        raise ValueError("it is empty or cut off") from None
    except Exception as error:  # truncated files raise anything
        raise ValueError(f"{type(error).__name__}: {error}") from None


def is_plain_tensor(value: Any) -> bool:
    """Whether it is a dense tensor: neither sparse nor quantised."""
    import torch

    return isinstance(value, torch.Tensor) and value.layout == torch.strided and not value.is_quantized


def conform(value: Any, schema: Any) -> Any:
    """Return `value` if it matches a schema. Raises `ValueError` with the first mismatch."""
    from pydantic import ValidationError  # both imported lazily: only needed to read files

    from kdface.signature import adapter

    try:
        adapter(schema).validate_python(value, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        said = str(first["msg"])
        raise ValueError(f"{where}: {said[0].lower()}{said[1:]}" if where else said) from None
    return value


def read_arrays(path: Path, *, fix: str = "") -> dict[str, NDArray[Any]]:
    """The numeric, boolean and text arrays of an .npz file, with verified checksums.

    Args:
        path: of the file.
        fix: how to recreate it; by default by another evaluation.

    Raises:
        UserError: it cannot be read, is damaged, or an array has another size than claimed or exceeds 4 GiB.
    """
    try:
        return arrays_in(path)
    except ValueError as error:
        raise UserError(f"{path} cannot be read: {error}.", fix=fix or f"rm {path}, and evaluate again") from None


def arrays_in(path: Path) -> dict[str, NDArray[Any]]:
    """As `read_arrays`, but raises `ValueError` with only the reason."""
    import numpy as np  # imported lazily: only needed to read arrays

    found: dict[str, NDArray[Any]] = {}
    try:
        with open_file(path) as file, zipfile.ZipFile(file) as content:
            for entry in content.infolist():
                if entry.file_size > _LARGEST_ARRAY:  # compressed entries may claim any size
                    raise ValueError(f"{entry.filename} claims {entry.file_size / MEBIBYTE:,.0f} MiB")
                with content.open(entry) as array:
                    version = np.lib.format.read_magic(array)
                    head = (
                        np.lib.format.read_array_header_1_0
                        if version == (1, 0)
                        else np.lib.format.read_array_header_2_0
                    )
                    shape, _, dtype = head(array)
                    if dtype.kind not in "biufSU":
                        raise ValueError(f"{entry.filename} is of the type {dtype}")
                    if math.prod(shape) * dtype.itemsize != entry.file_size - array.tell():
                        raise ValueError(f"{entry.filename} has not the size that it claims")
                with content.open(entry) as array:
                    found[entry.filename.removesuffix(".npy")] = np.lib.format.read_array(array, allow_pickle=False)
    except OSError as error:
        raise ValueError(error.strerror or str(error)) from None
    except Exception as error:  # damaged archives or headers raise anything
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from None
    return found


def require_whole(path: Path) -> None:
    """Verify the CRC-32 of every entry of a zip file (a checkpoint, an .npz), which its readers do not.

    Files in other formats pass: their reader reports them.

    Raises:
        ValueError: a checksum does not match, or the file is truncated.
        OSError: as `open`.
    """
    with open_file(path) as file:
        if file.read(4) != b"PK\x03\x04":
            return
    try:
        with zipfile.ZipFile(path) as content:
            damaged = content.testzip()
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise ValueError(f"it is damaged: {error}") from None
    if damaged is not None:
        raise ValueError(f"it is damaged: {damaged} does not have its checksum")


def read_parsed(path: Path, parse: Callable[[str], Any], fix: str = "", kind: type[UserError] = UserError) -> Any:
    """Parse a UTF-8 file with `parse`; its `ValueError` becomes the reason why the file cannot be read.

    Raises:
        UserError: of the given `kind`, with the reason.
    """
    try:
        return parse(read_bytes(path).decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        why = f"it is not UTF-8 (byte {error.start})"
    except OSError as error:
        why = error.strerror or str(error)
    except ValueError as error:
        why = str(error)
    raise kind(f"{path} cannot be read: {why}.", fix=fix)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _require_plain(value: Any, finite: bool) -> None:
    """Raise `ValueError` unless a value is plain, bounded in depth and size, and all texts can be encoded."""
    count = 0
    waiting: list[tuple[Any, int]] = [(value, 0)]
    while waiting:
        node, depth = waiting.pop()
        count += 1
        if depth > _DEEPEST:
            raise ValueError(f"it is nested more than {_DEEPEST} deep")
        if count > _MOST:
            raise ValueError(f"it holds more than {_MOST:,} values")
        if isinstance(node, Mapping):
            for key, inner in node.items():
                if not isinstance(key, str):
                    raise ValueError(f"the key {key!r} is no text")
                waiting += [(key, depth + 1), (inner, depth + 1)]
        elif isinstance(node, list):
            waiting += [(inner, depth + 1) for inner in node]
        elif isinstance(node, str):
            if not node.isascii():
                try:
                    node.encode()
                except UnicodeEncodeError:
                    raise ValueError("a text holds half of a surrogate pair") from None
        elif isinstance(node, float):
            if finite and not math.isfinite(node):
                raise ValueError(f"{node} is no JSON")
        elif isinstance(node, int):
            if abs(node) >> 64:
                raise ValueError("a number is too large")
        elif node is not None:
            raise ValueError(f"{str(node)[:40]!r} is of the type {type(node).__name__}")


def require_bounded_yaml(text: str) -> None:
    """Raise `ValueError` for YAML nested too deep for its recursive loader, or expanded too much by aliases; the
    parser itself has neither problem. Raises `yaml.YAMLError` for invalid YAML."""
    open_nodes: list[list[Any]] = [["", 0]]  # anchor and size of each open collection
    sizes: dict[str, int] = {}
    for event in yaml.parse(text, Loader=_LOADER):
        size = 1
        if isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append([event.anchor, 1])
            if len(open_nodes) > _DEEPEST + 1:
                raise ValueError(f"it is nested more than {_DEEPEST} deep")
            continue
        if isinstance(event, yaml.CollectionEndEvent):
            anchor, size = open_nodes.pop()
            sizes[anchor] = size
        elif isinstance(event, yaml.AliasEvent):
            size = sizes.get(event.anchor or "", 1)  # unknown: a recursive alias, as in `&a [*a]`
        elif isinstance(event, yaml.ScalarEvent):
            sizes[event.anchor or ""] = 1
        open_nodes[-1][1] += size
        if open_nodes[-1][1] > _MOST:
            raise ValueError(f"it holds more than {_MOST:,} values, by its aliases")
