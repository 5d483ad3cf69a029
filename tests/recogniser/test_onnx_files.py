"""ONNX files from elsewhere: what they say is computed, nothing else is read, and what fails is one message."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import kdface
from kdface.errors import UserError
from tests.fuzz.onnx_kinds import network

PIXELS = np.random.default_rng(1).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)


def test_a_whole_file_is_computed(tmp_path: Path) -> None:
    """Means of the colours times a matrix; a mirror image has the same means."""
    (tmp_path / "n.onnx").write_bytes(network().SerializeToString())
    means = ((PIXELS.astype(np.float64) - 127.5) / 127.5).mean((1, 2))
    expected = means @ np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)
    found = kdface.load(tmp_path / "n.onnx", "cpu").embed(PIXELS)
    for rows in (found, expected):
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("location", ["weights.bin", "./weights.bin", "../weights.bin", "/etc/hostname"])
def test_weights_in_another_file_are_not_read(location: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither beside the file nor in the current folder."""
    (tmp_path / "here").mkdir()
    for place in (tmp_path, tmp_path / "here"):
        (place / "weights.bin").write_bytes(np.ones(24, np.float32).tobytes())
    (tmp_path / "here" / "n.onnx").write_bytes(network(location=location).SerializeToString())
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(UserError, match="keeps weights in other files"):
        kdface.load("n.onnx", "cpu")


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ("huge matrix", "cannot be read as ONNX"),
        ("huge constant", "cannot be computed"),
        ("one row", r"gives float32 \(1, 1\) of 2 images"),
        ("doubles", r"gives float64 \(2, 8\) of 2 images"),
        ("two outputs", "its inputs and outputs are"),
    ],
)
def test_hostile_networks(changed: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "n.onnx").write_bytes(network(changed).SerializeToString())
    with pytest.raises(UserError, match=told):
        kdface.load(tmp_path / "n.onnx", "cpu").embed(PIXELS)
