"""Calibration of probabilities. See `kdface.evaluation.calibration`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torchmetrics import Metric

from kdface.evaluation.calibration import Bins, binned
from kdface.metrics.gathered import narrow_states
from kdface.precision import widest


class CalibrationError(Metric):
    """Expected (`ece`) or maximum (`mce`) calibration error over bins of equal width of the largest probability.

    Bin m covers (m / bins, (m + 1) / bins]; the state consists only of sums, regardless of the number of samples.

    Args:
        bins: number of bins.
        kind: ece, weighted by samples, or mce, the largest gap over non-empty bins.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = False
    samples: Tensor
    confidence: Tensor
    right: Tensor

    def __init__(self, bins: int = 15, kind: Literal["ece", "mce"] = "ece", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.bins = bins
        self.kind = kind
        for name, dtype in (("samples", torch.int64), ("confidence", torch.float64), ("right", torch.int64)):
            self.add_state(name, default=torch.zeros(bins, dtype=dtype), dist_reduce_fx="sum")

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = ()) -> Any:
        narrow_states(self, fn)
        return super()._apply(fn, exclude_state)

    def update(self, probabilities: Tensor, labels: Tensor) -> None:
        """Add samples: (samples, classes) rows that sum to 1, and (samples,) true classes."""
        for name, found in binned(probabilities, labels, self.bins)._asdict().items():
            state = getattr(self, name)
            setattr(self, name, state + torch.from_numpy(found).to(state.dtype).to(state.device))

    def compute(self) -> Tensor:
        """ECE or MCE over all updates, a float64 scalar. Raises `ValueError` before any update."""
        found = Bins(*(state.cpu().numpy() for state in (self.samples, self.confidence, self.right)))
        if not found.samples.any():
            raise ValueError("CalibrationError: nothing to compute: update() was not called.")
        value = found.expected_error() if self.kind == "ece" else found.maximum_error()
        return torch.tensor(value, dtype=widest(self.device), device=self.device)
