"""From stored pixels to what a network sees."""

from __future__ import annotations

from typing import Literal

import pytest
import torch

from kdface.faces import Preprocessing
from kdface.pixels import normalised


@pytest.mark.parametrize("color", ["rgb", "bgr"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_pixels_less_the_mean_over_the_deviation(
    color: Literal["rgb", "bgr"], layout: torch.memory_format, dtype: torch.dtype
) -> None:
    """Bit for bit what a loop over the pixels gives, and the images are left as they were."""
    images = torch.arange(256, dtype=torch.uint8).repeat(3).reshape(2, 8, 16, 3)
    before = images.clone()
    seen = normalised(images, Preprocessing(color=color, mean=127.5, std=128.0), layout, dtype)
    assert seen.dtype == dtype and seen.is_contiguous(memory_format=layout) and torch.equal(images, before)
    values = {pixel: (torch.tensor(pixel, dtype=dtype) - 127.5) / 128.0 for pixel in range(256)}
    for n, y, x, channel in ((0, 0, 0, 0), (0, 7, 3, 1), (1, 2, 15, 2), (1, 7, 15, 0)):
        stored = int(images[n, y, x, channel if color == "rgb" else 2 - channel])
        assert torch.equal(seen[n, channel, y, x], values[stored])


def test_images_that_are_floats_already_are_left_as_they_were() -> None:
    images = torch.rand(1, 4, 4, 3)
    before = images.clone()
    normalised(images, Preprocessing())
    assert torch.equal(images, before)
