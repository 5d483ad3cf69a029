"""Read plain data from a pickle without executing anything it names."""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from typing import Any

import numpy as np
from numpy.typing import NDArray

# A pickle may name any function of any module to be called with any values. Here each name needed for plain data maps
# to an inert object that has no attributes to set and does one thing; every other name is rejected.


_MOST = 1 << 22  # values and opcodes; the largest sets have 24,000 images
_DEEPEST = 8  # nesting of lists and tuples; a set has two levels


class _Dtype:
    """Stands for a numeric `numpy.dtype`: a kind with an item size, and a byte order."""

    __slots__ = ("code", "order")

    def __init__(self, code: Any) -> None:
        text = code.decode("ascii") if isinstance(code, bytes) else code
        if not (isinstance(text, str) and len(text) == 2 and text[0] in "biuf" and text[1] in "1248"):
            raise pickle.UnpicklingError(f"it holds an array of type {text!r}, and only plain numbers are read")
        self.code = text
        self.order = "|"

    def __setstate__(self, state: Any) -> None:
        order = state[1].decode("ascii") if isinstance(state[1], bytes) else state[1]
        if order not in ("|", "<", ">", "="):
            raise pickle.UnpicklingError(f"it holds an array of byte order {order!r}")
        self.order = order

    def read(self, raw: Any, shape: Any, fortran: bool) -> NDArray[Any]:
        if not (isinstance(raw, bytes | bytearray) and isinstance(shape, tuple)):
            raise pickle.UnpicklingError("it holds an array that is not plain numbers")
        dtype = np.dtype(self.order + self.code)
        if len(raw) != dtype.itemsize * math.prod(shape):
            raise pickle.UnpicklingError(f"it holds an array of shape {shape} in {len(raw)} bytes")
        return np.frombuffer(raw, dtype=dtype).reshape(shape, order="F" if fortran else "C")


class _Array:
    """Stands for a `numpy.ndarray` whose contents follow."""

    __slots__ = ("value",)

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, raw = state
        self.value = _dtype(dtype).read(raw, shape, bool(fortran))


class _MakeDtype:
    __slots__ = ()

    def __call__(self, code: Any, *_: Any) -> _Dtype:
        return _Dtype(code)


class _MakeArray:
    __slots__ = ()

    def __call__(self, *_: Any) -> _Array:
        return _Array()


class _FromBuffer:
    __slots__ = ()

    def __call__(self, raw: Any, dtype: Any, shape: Any, order: Any) -> _Array:
        array = _Array()
        array.value = _dtype(dtype).read(raw, shape, order == "F")
        return array


class _Latin1:
    """Python 3 writes bytes into a Python 2 pickle as text with this encoding."""

    __slots__ = ()

    def __call__(self, text: Any, encoding: Any) -> bytes:
        if not (isinstance(text, str) and encoding in ("latin1", b"latin1")):
            raise pickle.UnpicklingError(f"it encodes text as {encoding!r}")
        return text.encode("latin1")


class _Name:
    __slots__ = ()


_ANSWERS: dict[tuple[str, str], object] = {
    ("numpy", "ndarray"): _Name(),
    ("numpy", "dtype"): _MakeDtype(),
    ("numpy.core.multiarray", "_reconstruct"): _MakeArray(),
    ("numpy._core.multiarray", "_reconstruct"): _MakeArray(),
    ("numpy.core.numeric", "_frombuffer"): _FromBuffer(),
    ("numpy._core.numeric", "_frombuffer"): _FromBuffer(),
    ("_codecs", "encode"): _Latin1(),
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ANSWERS:
            raise pickle.UnpicklingError(f"it names {module}.{name}, and a name is code to be run")
        return _ANSWERS[module, name]


def load_plain(data: bytes) -> Any:
    """The lists, tuples, bytes, text, booleans, integers and numeric NumPy arrays in a pickle, including Python 2's.

    Python 2 byte strings are returned as bytes. Nothing the pickle names is imported or called.

    Raises:
        ValueError: it contains or names anything else, or is damaged.
    """
    try:
        _require_bounded(data)
        return _Plain().of(_Unpickler(io.BytesIO(data), encoding="bytes").load())
    except Exception as error:  # damaged pickles raise nearly anything
        raise ValueError(str(error) or type(error).__name__) from error


def _require_bounded(data: bytes) -> None:
    """Raise if a pickle claims more than it can fill: the reader allocates first, such as 2^32 memo entries."""
    for count, (opcode, argument, _) in enumerate(pickletools.genops(data), 1):
        if count > _MOST or (opcode.name.endswith("PUT") and int(argument or 0) > count):
            raise pickle.UnpicklingError(f"it asks for more than {min(count, _MOST):,} values")


class _Plain:
    """Copies plain data, counting shared objects each time: repeatedly doubled lists are small in a file."""

    def __init__(self) -> None:
        self._count = 0

    def of(self, value: Any, depth: int = 0) -> Any:
        self._count += 1
        if self._count > _MOST or depth > _DEEPEST:
            raise pickle.UnpicklingError(f"it holds over {_MOST:,} values, or more than {_DEEPEST} lists in each other")
        if isinstance(value, list):
            return [self.of(item, depth + 1) for item in value]
        if isinstance(value, tuple):
            return tuple(self.of(item, depth + 1) for item in value)
        if isinstance(value, _Array):
            return value.value
        if isinstance(value, bytes | str | bool | int):
            return value
        raise pickle.UnpicklingError(f"it holds a {type(value).__name__}, which is no plain data")


def _dtype(value: Any) -> _Dtype:
    if not isinstance(value, _Dtype):
        raise pickle.UnpicklingError("it holds an array without a type")
    return value
