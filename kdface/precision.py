"""float64 where the device has it, and scalar state that keeps its type when a module is cast."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

WITHOUT_FLOAT64 = frozenset({"mps"})  # types of devices: Apple's GPUs


def has_float64(device: torch.device) -> bool:
    """Whether tensors on a device may be float64."""
    return device.type not in WITHOUT_FLOAT64


def widest(device: torch.device) -> torch.dtype:
    """float64, or float32 on a device without it."""
    return torch.float64 if has_float64(device) else torch.float32


def on_device(kind: torch.dtype, device: torch.device) -> torch.dtype:
    """A type, with float64 replaced by the widest of the device."""
    return widest(device) if kind == torch.float64 else kind


def wide(values: Tensor) -> Tensor:
    """Values in the widest type of their device."""
    return values.to(widest(values.device))


def applied(fn: Callable[[Tensor], Tensor], device: torch.device) -> Tensor:
    """What the function of `nn.Module._apply` makes of a float32 tensor on a device: shows where to, and which type."""
    return fn(torch.zeros(1, dtype=torch.float32, device=device))


class KeptTypes(nn.Module):
    """A module whose buffers in `kept` move with it but are never narrowed: running means and counts are too coarse in
    half precision (trainer.precision=bf16-true)."""

    kept: ClassVar[tuple[str, ...]] = ()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        held: dict[str, Any] = {name: self._buffers[name] for name in self.kept}
        self._buffers.update(dict.fromkeys(held))  # in place: their order is that of the state_dict
        try:
            super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        finally:
            self._buffers.update(held)
        for name, value in held.items():
            moved = applied(fn, value.device)
            kind = torch.promote_types(value.dtype, moved.dtype)
            self._buffers[name] = value.to(moved.device, on_device(kind, moved.device))
        return self
