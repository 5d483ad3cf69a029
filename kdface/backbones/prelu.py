"""PReLU with a backward pass that does not stall training on a CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class _CPUPReLU(torch.autograd.Function):
    """y = max(x, 0) + a min(x, 0) for each channel: dx = g [x > 0] + a g [x <= 0], da = sum of g min(x, 0).

    PyTorch's own backward kernel on CPU takes three to four times as long as these vectorised operations.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(features, slope)
        return functional.prelu(features, slope)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        features, slope = ctx.saved_tensors
        (gradient,) = gradients
        above: Tensor = torch.ops.aten.threshold_backward(gradient, features, 0)
        below = gradient - above
        to_slope = (below * features).sum((0, 2, 3))
        return torch.addcmul(above, below, slope.view(1, -1, 1, 1)), to_slope


class PReLU(nn.PReLU):
    """`nn.PReLU` on (N, C, H, W) maps: same values, same key, with a faster backward pass on CPUs."""

    def forward(self, input: Tensor) -> Tensor:
        """max(0, x) + slope * min(0, x), with one slope per channel."""
        # A trace records torch's own operator, which has one form on every device.
        tracing = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        if input.device.type == "cpu" and torch.is_grad_enabled() and not tracing:
            slope = self.weight.to(input.dtype)  # under autocast the maps are bfloat16
            result: Tensor = _CPUPReLU.apply(input, slope)  # type: ignore[no-untyped-call]
            return result
        return super().forward(input)
