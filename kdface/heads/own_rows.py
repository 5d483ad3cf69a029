"""Class weights of which a rank draws its own rows: the bits are those of drawing them all, the memory is not."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

_BLOCK = 1 << 20  # numbers that are drawn at once
_STEP = 16  # torch draws normal numbers in groups of as many, and the last of a matrix anew


def rows_of(num_classes: int, rank: int, world: int) -> range:
    """The classes that a rank keeps."""
    return range(num_classes * rank // world, num_classes * (rank + 1) // world)


class OwnRows(TorchFunctionMode):
    """Within it, a matrix of `num_classes` rows that `normal_` or `uniform_` fills gets the rows of one rank alone.

    All are drawn, block by block into one small block, so that the rows and the generator's state after are those of
    the whole draw. The other rows are never written: fresh memory takes none before it is. What a head does to its
    weights besides must treat each row by itself; it writes to all of them, and then all take memory.

    Args:
        num_classes: rows of the matrices.
        rank, world: whose rows, of how many ranks.
        block: numbers that are drawn at once.
    """

    def __init__(self, num_classes: int, rank: int, world: int, block: int = _BLOCK) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.mine = rows_of(num_classes, rank, world)
        self.block = block

    def __torch_function__(self, func: Any, types: Iterable[type], args: Any = (), kwargs: Any = None) -> Any:
        """Draw by blocks what is such a matrix; anything else as it is."""
        given = kwargs or {}
        if func not in (Tensor.normal_, Tensor.uniform_) or not self._is_weights(args[0]):
            return func(*args, **given)
        whole, rest = args[0], args[1:]
        step = _STEP * max(1, self.block // (_STEP * whole.shape[1]))
        scratch, start = whole.new_empty(min(2 * step, self.num_classes), whole.shape[1]), 0
        while start < self.num_classes:
            stop = start + step
            if self.num_classes - stop < step:  # the end of a matrix is drawn with the block before
                stop = self.num_classes
            drawn = func(scratch[: stop - start], *rest, **given)
            first, last = max(start, self.mine.start), min(stop, self.mine.stop)
            if first < last:
                whole[first:last] = drawn[first - start : last - start]
            start = stop
        return whole

    def _is_weights(self, tensor: Tensor) -> bool:
        return tensor.ndim == 2 and len(tensor) == self.num_classes and tensor.is_contiguous()
