"""Shared by the losses: full precision under autocast, and directions with finite gradients everywhere."""

from __future__ import annotations

import torch
from torch import Tensor


def exact(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Both as float32, or float64 if they are: half precision rounds away the small errors of a trained student."""
    return raised(student), raised(teacher)


def raised(values: Tensor) -> Tensor:
    """The values at least in float32."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def direction(rows: Tensor) -> Tensor:
    """Divide each row by its L2 norm: (..., D) -> (..., D). All-zero rows stay zero with a gradient of 0.

    Dividing by max(norm, 1e-12), the usual guard, gives a zero row a gradient of 1e12 instead.
    """
    squares = rows.square().sum(dim=-1, keepdim=True)
    nonzero = squares > 0
    # The inner `where` keeps the infinite derivative of rsqrt at 0 out of the graph; the outer one alone does not.
    return torch.where(nonzero, rows * torch.where(nonzero, squares, 1).rsqrt(), 0)


def products(rows: Tensor) -> Tensor:
    """Dot products between all rows, without autocast rounding: (..., N, D) -> (..., N, N)."""
    with torch.autocast(rows.device.type, enabled=False):
        return rows @ rows.mT


def one_batch(student: Tensor, teacher: Tensor, least: int) -> int:
    """The batch size N. Raises `ValueError` if batch sizes differ or are below `least`."""
    if student.ndim < 2 or teacher.ndim < 2 or len(student) != len(teacher):
        raise ValueError(
            f"student {tuple(student.shape)} and teacher {tuple(teacher.shape)} must be (N, ...) of the same images"
        )
    if len(student) < least:
        raise ValueError(f"{len(student)} images: this loss compares at least {least} images per batch")
    return len(student)


def alike(student: Tensor, teacher: Tensor) -> None:
    """Raise `ValueError` if the two are not (N, D) of equal shape."""
    if student.ndim != 2 or student.shape != teacher.shape:
        raise ValueError(f"student {tuple(student.shape)} and teacher {tuple(teacher.shape)} must both be (N, D)")
