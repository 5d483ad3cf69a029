"""What lies on a disk, read in one way for each format: with bounds, and checked before anybody uses it.

A file may be damaged, cut off, made by somebody else, or made to do harm. What these readers return is plain, finite in
size and depth, and fits the schema that was asked for; anything else is a `UserError` that names the file and the
reason. Schemas are what pydantic's `TypeAdapter` takes (`kdface.runs.schemas` has those of a run folder).
"""

from __future__ import annotations

import functools
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
    from pydantic import TypeAdapter

MEBIBYTE = 1 << 20
_LINE = 4096  # bytes that a line of a log may take in its tail
# Escape sequences with their parameters (ECMA-48: CSI; OSC and its like up to their end), then single characters.
_CONTROL = re.compile(
    "(?:\x1b\\[|\x9b)[0-?]*[ -/]*[@-~]|\x1b[\\]PX^_].*?(?:\x1b\\\\|\x07|$)|[\x00-\x08\x0b-\x1f\x7f-\x9f]", re.MULTILINE
)
_LARGEST = 256 * MEBIBYTE  # of a text file
_LARGEST_ARRAY = 4096 * MEBIBYTE
_DEEPEST = 50  # mappings and lists within each other; a configuration has about ten
_MOST = 5_000_000  # values, those counted twice that stand in two places
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, if PyYAML was built with it


def open_file(path: Path) -> BinaryIO:
    """A regular file, open for reading; a pipe or a device is refused, not waited for.

    Raises `OSError` as `open` does, and `ValueError` if it is no file.
    """
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")  # a folder is refused here
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise ValueError("it is a pipe or a device, not a file")
    return file


def read_bytes(path: Path, largest: int = _LARGEST) -> bytes:
    """The content of a regular file.

    Raises `OSError` as `open` does, and `ValueError` if it is no file or larger than `largest` bytes.
    """
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > largest:
            raise ValueError(f"it has {size / MEBIBYTE:,.1f} MiB, and at most {largest / MEBIBYTE:,.0f} are read")
        return file.read()


def read_tail(path: Path, size: int) -> bytes:
    """The last `size` bytes of a regular file. Raises what `open_file` raises."""
    with open_file(path) as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - size))
        return file.read(size)


def tail(path: Path, lines: int) -> list[str]:
    """The last lines of a log, none if there is no such file. A progress bar's carriage returns end a line too."""
    try:
        text = read_tail(path, _LINE * lines).decode("utf-8", errors="replace")
    except (OSError, ValueError):
        return []
    found = [line for line in printable(text.replace("\r", "\n")).split("\n") if line.strip()]
    return found[-lines:]


def printable(text: str) -> str:
    """A text of unknown origin without what a terminal would act upon: escape sequences and control characters."""
    return _CONTROL.sub("", text)


def read_json(path: Path, schema: Any = dict[str, Any], *, fix: str = "") -> Any:
    """The checked content of a JSON file.

    Args:
        path: of the file.
        schema: what it must hold.
        fix: the command that makes the file anew.

    Raises:
        UserError: it cannot be read, is no JSON, holds NaN or infinity, or does not fit the schema.
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


def read_yaml(path: Path, schema: Any = dict[str, Any], *, fix: str = "") -> Any:
    """The checked content of a YAML file: plain values alone, as JSON has them; numbers may be infinite or NaN.

    Raises:
        UserError: it cannot be read, is no YAML, is nested too deep, grows by its aliases, or does not fit the schema.
    """

    def parse(text: str) -> Any:
        try:
            require_bounded_yaml(text)
            value = yaml.load(text, Loader=_LOADER)
        except (yaml.YAMLError, AttributeError, OverflowError, RecursionError, TypeError) as error:
            raise ValueError(" ".join(str(error).split())) from None
        _require_plain(value, finite=False)
        return conform(value, schema)

    return read_parsed(path, parse, fix)


def whole_number(text: str | bytes, most: int = (1 << 31) - 1) -> int | None:
    """The number that ASCII digits write; None if other characters are among them, or it is over `most`."""
    if not (text.isascii() and text.isdigit() and len(text) <= 20):
        return None
    number = int(text)
    return number if number <= most else None


def read_torch(path: Path) -> Any:
    """What a file of torch holds: tensors and plain values, on the CPU; nothing in it is executed.

    Raises:
        pickle.UnpicklingError: it holds more than these.
        ValueError: it is no such file, is damaged (a bit suffices), or cut off.
    """
    import torch  # here: commands that read no weights start without it

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
    except Exception as error:  # half a file makes the reader fail in any way it can
        raise ValueError(f"{type(error).__name__}: {error}") from None


def is_plain_tensor(value: Any) -> bool:
    """Whether it is a tensor with a value at each place: neither sparse nor quantised."""
    import torch

    return isinstance(value, torch.Tensor) and value.layout == torch.strided and not value.is_quantized


def conform(value: Any, schema: Any) -> Any:
    """`value` itself, if it fits a schema. Raises `ValueError` with the first place that does not."""
    from pydantic import ValidationError  # here: commands that read nothing start without it

    try:
        _adapter(schema).validate_python(value, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        said = str(first["msg"])
        raise ValueError(f"{where}: {said[0].lower()}{said[1:]}" if where else said) from None
    return value


@functools.cache
def _adapter(schema: Any) -> TypeAdapter[Any]:
    from pydantic import ConfigDict, TypeAdapter

    try:
        return TypeAdapter(schema, config=ConfigDict(extra="allow"))
    except Exception:  # a type with its own configuration
        return TypeAdapter(schema)


def read_arrays(path: Path, *, fix: str = "") -> dict[str, NDArray[Any]]:
    """The arrays of numbers, truth values and texts of an .npz file, each with its checksum.

    Args:
        path: of the file.
        fix: what makes it anew; by default another evaluation.

    Raises:
        UserError: it cannot be read, is damaged, an array claims another size than it has, or takes over 4 GiB.
    """
    try:
        return arrays_in(path)
    except ValueError as error:
        raise UserError(f"{path} cannot be read: {error}.", fix=fix or f"rm {path}, and evaluate again") from None


def arrays_in(path: Path) -> dict[str, NDArray[Any]]:
    """As `read_arrays`, and raises `ValueError` with the reason alone."""
    import numpy as np  # here: commands that read no arrays start without it

    found: dict[str, NDArray[Any]] = {}
    try:
        with open_file(path) as file, zipfile.ZipFile(file) as content:
            for entry in content.infolist():
                if entry.file_size > _LARGEST_ARRAY:  # what is compressed may claim any size
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
    except Exception as error:  # a damaged archive or header makes its readers fail in many ways
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from None
    return found


def require_whole(path: Path) -> None:
    """Check the CRC-32 of every entry of a zip file (a checkpoint, an .npz), which its readers do not.

    A file in another format passes: its reader tells what it is.

    Raises:
        ValueError: an entry does not have its checksum, or the file is cut off.
        OSError: as `open` does.
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
    """What `parse` makes of a UTF-8 file; a `ValueError` that it raises is the reason why the file cannot be read.

    Raises:
        UserError: of that `kind`, with the reason.
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
    """Raise `ValueError` unless a value is plain, shallow, of a bounded size, and every text can be written."""
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
    """Raise `ValueError` for YAML that is nested too deep for its own loader, which is recursive, or that its aliases
    make too large; the parser is neither. Raises `yaml.YAMLError` for what is no YAML."""
    open_nodes: list[list[Any]] = [["", 0]]  # anchor and size of each collection that has begun
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
            size = sizes.get(event.anchor or "", 1)  # not known: inside of what it names, as in `&a [*a]`
        elif isinstance(event, yaml.ScalarEvent):
            sizes[event.anchor or ""] = 1
        open_nodes[-1][1] += size
        if open_nodes[-1][1] > _MOST:
            raise ValueError(f"it holds more than {_MOST:,} values, by its aliases")
