"""A metric that keeps the rows of all processes and computes on all of them at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

from kdface.precision import applied, has_float64, on_device, widest

_NO_KEY = -1


class Gathered(Metric):
    """Keeps columns of equal length and passes them, as arrays, to an exact computation.

    Rows may have a `key`, a non-negative integer: of rows with equal keys, as created by samplers that pad the ranks'
    parts to equal length, only the first counts, and rows are ordered by key. Without keys they are ordered by rank,
    then by update.

    Subclasses declare their columns and types in `columns`, those with several numbers per row in `wide`, and call
    `keep` in `update` and `rows` in `compute`.
    """

    full_state_update = False
    is_differentiable = False
    columns: ClassVar[Mapping[str, torch.dtype]] = {}
    wide: frozenset[str] = frozenset()

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._types = {**self.columns, "key": torch.int64}
        for name in self._types:
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def keep(self, key: Tensor | None, **columns: Tensor) -> None:
        """Append rows.

        Raises:
            ValueError: columns of different lengths, or that are not 1-D (2-D: those with several numbers per row).
        """
        given = columns if key is None else {**columns, "key": key}
        sizes = {name: tuple(column.shape) for name, column in given.items()}
        count = next(iter(sizes.values()), ())[:1]
        if any(size[:1] != count or len(size) != 1 + (name in self.wide) for name, size in sizes.items()):
            expected = ", ".join(f"{name} {'(N, D)' if name in self.wide else '(N,)'}" for name in sizes)
            got = ", ".join(f"{name} {size}" for name, size in sizes.items())
            raise ValueError(f"{type(self).__name__}: expected columns of one length, {expected}; got {got}")
        given = {**columns, "key": torch.full(count, _NO_KEY) if key is None else key}
        for name, column in given.items():  # flat: a process without rows does not know their width
            getattr(self, name).append(
                column.detach().flatten().to(self.device, on_device(self._types[name], self.device))
            )

    def rows(self) -> dict[str, NDArray[Any]]:
        """The columns without `key`, each row once."""
        types = {name: np.dtype(str(kind).removeprefix("torch.")) for name, kind in self._types.items()}
        found = {name: _column(getattr(self, name)).astype(types[name], copy=False) for name in self._types}
        key = found.pop("key")
        found |= {name: found[name].reshape(len(key), -1) for name in self.wide if len(key)}
        if not len(key):
            raise ValueError(f"{type(self).__name__}: nothing to compute: update() was not called.")
        if (key == _NO_KEY).all():
            return found
        if (key == _NO_KEY).any():
            raise ValueError(f"{type(self).__name__}: some updates came with keys and others without.")
        first = np.unique(key, return_index=True)[1]
        return {name: column[first] for name, column in found.items()}

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = ()) -> Any:
        narrow_states(self, fn)
        return super()._apply(fn, exclude_state)

    def value(self, computed: float | None) -> Tensor:
        """The value as a float64 scalar (float32 on a device without it); NaN if None."""
        value = torch.nan if computed is None else computed
        return torch.tensor(value, dtype=widest(self.device), device=self.device)

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """As in torchmetrics, but a process without rows contributes empty columns of the right type."""
        for name, kind in self._types.items():
            if isinstance(held := getattr(self, name), list) and not held:
                setattr(self, name, [torch.zeros(0, dtype=on_device(kind, self.device), device=self.device)])
        super().sync(*args, **kwargs)


def lacks_a_kind(scores: NDArray[Any], same: NDArray[Any]) -> bool:
    """Whether finite scores are all of one kind of pair, as in the few batches of Lightning's sanity check: their rates
    are NaN. Scores that are not finite are an error."""
    return bool(np.isfinite(scores).all() and (same.all() or not same.any()))


def narrow_states(metric: Metric, fn: Callable[[Tensor], Tensor]) -> None:
    """Before a metric is moved to a device without float64: its state as float32."""
    device = applied(fn, metric.device).device
    if has_float64(device):
        return
    for states in (metric._defaults, metric.__dict__):
        for name in metric._defaults:
            held = states[name]
            states[name] = [_narrow(part) for part in held] if isinstance(held, list) else _narrow(held)


def _narrow(state: Tensor) -> Tensor:
    return state.float() if state.dtype == torch.float64 else state


def _column(state: list[Tensor] | Tensor) -> NDArray[Any]:
    """A state as one array, whether gathered or not."""
    parts = state if isinstance(state, list) else [state]
    return torch.cat(parts).cpu().numpy() if parts else np.zeros(0)
