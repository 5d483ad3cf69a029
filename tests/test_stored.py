"""Files of a disk are read with bounds: what they claim is compared with what they hold before it is made."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from kdface.errors import UserError
from kdface.stored import arrays_in, is_plain_tensor, read_bytes, read_torch, read_yaml, whole_number

BOMB = list(pairwise("abcdefghij"))  # ten times as large with each letter


@pytest.mark.parametrize(
    ("text", "number"),
    [
        *(("0", 0), ("007", 7), (b"12", 12), ("2147483647", 2147483647), ("2147483648", None)),
        *(("", None), ("-1", None), ("+1", None), (" 1", None), ("1.0", None), ("\u0663", None), ("\u00b2", None)),
        ("9" * 5000, None),  # int() refuses over 4,300 digits with an error of its own
    ],
)
def test_whole_numbers(text: str | bytes, number: int | None) -> None:
    assert whole_number(text) == number


def test_a_pipe_a_device_and_a_large_file_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zeros").symlink_to("/dev/zero")
    for name in ("pipe", "zeros"):
        with pytest.raises(ValueError, match="pipe or a device"):
            read_bytes(tmp_path / name)
    with open(tmp_path / "large", "wb") as file:
        file.truncate(1 << 40)  # a sparse file: no disk is needed
    with pytest.raises(ValueError, match="at most 256 are read"):
        read_bytes(tmp_path / "large")


def _npy(shape: str, data: bytes) -> bytes:
    text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}}}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_array_that_claims_more_than_it_has_is_refused(tmp_path: Path, compression: int) -> None:
    for shape, good in (("(2,)", True), ("(1000000000000,)", False), ("(-1,)", False)):
        with zipfile.ZipFile(tmp_path / "a.npz", "w", compression) as archive:
            archive.writestr("a.npy", _npy(shape, np.array([1.0, 2.0]).tobytes()))
        if good:
            assert arrays_in(tmp_path / "a.npz")["a"].tolist() == [1, 2]
        else:
            with pytest.raises(ValueError):
                arrays_in(tmp_path / "a.npz")


def test_a_flipped_bit_of_a_torch_file_is_found(tmp_path: Path) -> None:
    """Torch itself reads the zip without comparing checksums."""
    file = tmp_path / "w.pt"
    torch.save({"a": torch.arange(100.0)}, file)
    data = bytearray(file.read_bytes())
    data[data.find(np.float32(50).tobytes() + np.float32(51).tobytes()) + 3] ^= 1
    assert not torch.load(io.BytesIO(bytes(data)), weights_only=True)["a"].equal(torch.arange(100.0))
    file.write_bytes(bytes(data))
    with pytest.raises(ValueError, match="does not have its checksum"):
        read_torch(file)
    file.write_bytes(pickle.dumps(os.system))
    with pytest.raises((ValueError, pickle.UnpicklingError)):
        read_torch(file)


def test_plain_tensors() -> None:
    dense = torch.eye(2)
    assert is_plain_tensor(dense)
    assert not any(map(is_plain_tensor, (dense.to_sparse(), [1.0], None)))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("x: " + "[" * 3000 + "]" * 3000, "nested more than 50 deep"),
        ("x: " + "[" * 3000, "nested more than 50 deep"),
        (
            "a: &a [1,1,1,1,1,1,1,1,1,1]\n" + "".join(f"{c}: &{c} [{','.join([f'*{b}'] * 10)}]\n" for b, c in BOMB),
            "alias",
        ),
        ("x: &x [*x]", "nested more than 50 deep"),
    ],
)
def test_yaml_that_grows_is_refused(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(UserError, match=why):
        read_yaml(tmp_path / "x.yaml")


def test_aliases_that_do_not_grow_are_read(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("a: &a {b: 1}\nc: [*a, *a]\nd: &d 3\ne: *d\n")
    assert read_yaml(tmp_path / "x.yaml") == {"a": {"b": 1}, "c": [{"b": 1}, {"b": 1}], "d": 3, "e": 3}
