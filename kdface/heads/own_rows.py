"""Initialise only a rank's rows of the class weights, bit-identical to initialising the whole matrix."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

_BLOCK = 1 << 20  # numbers drawn at once
_STEP = 16  # torch draws normal numbers in groups of 16, and redraws the last 16 of a matrix


def rows_of(num_classes: int, rank: int, world: int) -> range:
    """The classes on a rank."""
    return range(num_classes * rank // world, num_classes * (rank + 1) // world)


class OwnRows(TorchFunctionMode):
    """Context in which `normal_` and `uniform_` fill only one rank's rows of matrices with `num_classes` rows.

    All rows are drawn, block by block into a small buffer, so that the rank's rows and the final generator state equal
    those of the whole draw. The other rows are never written and thus occupy no physical memory. Any further
    initialisation by a head must be row-wise; it writes to all rows, which then do occupy memory.

    Args:
        num_classes: rows of the matrices.
        rank, world: the rank and the number of ranks.
        block: numbers drawn at once.
    """

    def __init__(self, num_classes: int, rank: int, world: int, block: int = _BLOCK) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.mine = rows_of(num_classes, rank, world)
        self.block = block

    def __torch_function__(self, func: Any, types: Iterable[type], args: Any = (), kwargs: Any = None) -> Any:
        """Draw such a matrix in blocks; pass everything else through."""
        given = kwargs or {}
        if func not in (Tensor.normal_, Tensor.uniform_) or not self._is_weights(args[0]):
            return func(*args, **given)
        whole, rest = args[0], args[1:]
        step = _STEP * max(1, self.block // (_STEP * whole.shape[1]))
        scratch, start = whole.new_empty(min(2 * step, self.num_classes), whole.shape[1]), 0
        while start < self.num_classes:
            stop = start + step
            if self.num_classes - stop < step:  # the end of a matrix is drawn with the previous block
                stop = self.num_classes
            drawn = func(scratch[: stop - start], *rest, **given)
            first, last = max(start, self.mine.start), min(stop, self.mine.stop)
            if first < last:
                whole[first:last] = drawn[first - start : last - start]
            start = stop
        return whole

    def _is_weights(self, tensor: Tensor) -> bool:
        return tensor.ndim == 2 and len(tensor) == self.num_classes and tensor.is_contiguous()
