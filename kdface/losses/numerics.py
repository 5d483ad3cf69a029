"""What the losses share: full precision whatever the autocast, and directions whose gradient is finite everywhere."""

from __future__ import annotations

import torch
from torch import Tensor


def exact(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Both as float32, or float64 where they are: half precision rounds away what a trained student still lacks."""
    return raised(student), raised(teacher)


def raised(values: Tensor) -> Tensor:
    """The values in float32 at least."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def direction(rows: Tensor) -> Tensor:
    """Each row over its L2 norm: (..., D) -> (..., D). A row of zeros stays one, and its gradient is 0.

    Dividing by max(norm, 1e-12), the usual guard, gives a zero row a gradient of 1e12 instead.
    """
    squares = rows.square().sum(dim=-1, keepdim=True)
    nonzero = squares > 0
    # The inner `where` keeps the infinite derivative of rsqrt at 0 out of the graph; the outer one alone would not.
    return torch.where(nonzero, rows * torch.where(nonzero, squares, 1).rsqrt(), 0)


def products(rows: Tensor) -> Tensor:
    """Dot products of all rows with all, outside autocast, which would round them: (..., N, D) -> (..., N, N)."""
    with torch.autocast(rows.device.type, enabled=False):
        return rows @ rows.mT


def one_batch(student: Tensor, teacher: Tensor, least: int) -> int:
    """The number of images N. Raises `ValueError` if the two are not of one batch of at least `least` images."""
    if student.ndim < 2 or teacher.ndim < 2 or len(student) != len(teacher):
        raise ValueError(
            f"student {tuple(student.shape)} and teacher {tuple(teacher.shape)} must be (N, ...) of the same images"
        )
    if len(student) < least:
        raise ValueError(f"{len(student)} images: this loss compares at least {least} of a batch")
    return len(student)


def alike(student: Tensor, teacher: Tensor) -> None:
    """Raises `ValueError` if the two are not (N, D) of one shape."""
    if student.ndim != 2 or student.shape != teacher.shape:
        raise ValueError(f"student {tuple(student.shape)} and teacher {tuple(teacher.shape)} must be (N, D) alike")
