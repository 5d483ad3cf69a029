"""Convert stored pixels to network input."""

from __future__ import annotations

import torch
from torch import Tensor

from kdface.faces import Preprocessing


def normalised(
    images: Tensor,
    preprocessing: Preprocessing,
    layout: torch.memory_format = torch.contiguous_format,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """(N, H, W, 3) uint8 RGB -> (N, 3, H, W), (pixel - mean) / std, in the network's channel order and `dtype`."""
    floats = images.permute(0, 3, 1, 2).to(dtype, memory_format=layout, copy=True)
    if preprocessing.color == "bgr":
        floats = floats.flip(1)
    return floats.sub_(preprocessing.mean).div_(preprocessing.std)  # in place: a third of the time
