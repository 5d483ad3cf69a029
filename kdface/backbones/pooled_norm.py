"""Joint batch normalisation of several inputs, without concatenating them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.distributed
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

_aten = torch.ops.aten


class PooledBatchNorm(nn.Module):
    """Shares a batch normalisation among the modalities of a batch (CKD's "consistent batch normalisation").

    With a_m the activations of modality m and n_m = N_m H_m W_m their number per channel, in training

        mean = sum_m sum(a_m) / n,   var = sum_m sum((a_m - mean)^2) / n,   n = sum_m n_m,
        b_m  = weight (a_m - mean) / sqrt(var + eps) + bias,

    which equals the normalisation of all activations concatenated spatially, with its gradients; the running buffers
    are updated with mean and var n / (n - 1). In evaluation each modality is normalised with the running buffers,
    independently of the others. Statistics are float32 (float64 for such input), also under autocast.

    Jung et al., "Periocular Embedding Learning with Consistent Knowledge Distillation from Face", 2020.

    Args:
        norm: the shared normalisation; it keeps its parameters and buffers, under the same keys.
        relu: apply max(0, .) to the result, in place.
        synchronised: also pool over all ranks of the default process group, which must have equally many modalities.
        owned: gradients of the results have no other readers, so the backward pass may overwrite them. Set it if only
            convolutions consume the results. On a CPU allocating memory costs more than the arithmetic.
        copies: number of modalities with equal activations that each input represents. Mean and var are unaffected;
            n, and thus the running buffer's update, counts all.
    """

    def __init__(
        self, norm: _BatchNorm, relu: bool = False, synchronised: bool = False, owned: bool = False, copies: int = 1
    ) -> None:
        super().__init__()
        if not (norm.affine and norm.track_running_stats):
            raise ValueError("a pooled batch normalisation needs weight, bias and running statistics")
        self.norm = norm
        self.relu = relu
        self.synchronised = synchronised  # without a process group there is nothing to synchronise
        self.owned = owned
        self.copies = copies

    def forward(self, *maps: Tensor) -> tuple[Tensor, ...]:
        """Normalise maps (N_m, C, H_m, W_m) or vectors (N_m, C), one per modality.

        Raises `ValueError` if the number of channels differs from the normalisation's, or there is only one value.
        """
        for features in maps:
            if features.dim() < 2 or features.shape[1] != self.norm.num_features:
                raise ValueError(f"expected (N, {self.norm.num_features}, ...), got {tuple(features.shape)}")
        norm = self.norm
        if norm.training:
            return normalise_together(norm, maps, self.relu, self.synchronised, self.owned, self.copies)
        known = (norm.running_mean, norm.running_var, norm.weight, norm.bias)
        results = [nn.functional.batch_norm(features, *known, eps=norm.eps) for features in maps]
        return tuple(result.relu_() if self.relu else result for result in results)


def normalise_together(
    norm: _BatchNorm,
    maps: Sequence[Tensor],
    relu: bool = False,
    synchronised: bool = False,
    owned: bool = False,
    copies: int = 1,
) -> tuple[Tensor, ...]:
    """Training pass of `PooledBatchNorm`: normalise maps (N_m, C, ...) by joint statistics, and update `norm`."""
    synchronised = synchronised and torch.distributed.is_available() and torch.distributed.is_initialized()
    assert norm.running_mean is not None and norm.running_var is not None and norm.num_batches_tracked is not None
    with torch.no_grad():
        mean, var, count = pooled_statistics(maps, synchronised)
        norm.num_batches_tracked.add_(1)
        rate = norm.momentum if norm.momentum is not None else 1.0 / float(norm.num_batches_tracked)
        norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), rate)
        counted = count * copies
        norm.running_var.lerp_((var * counted / (counted - 1)).to(norm.running_var.dtype), rate)
    options = _Options(norm.eps, relu, synchronised, owned)
    results: tuple[Tensor, ...] = _Normalise.apply(mean, var, count, options, norm.weight, norm.bias, *maps)  # type: ignore[no-untyped-call]
    return results


def pooled_statistics(maps: Sequence[Tensor], synchronised: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (C,) and biased variance (C,) of each channel over all maps (N, C, ...), and the number n of its values.

    Each map is read once; the parts are combined by the law of total variance,
    var = sum_m n_m / n (var_m + (mean_m - mean)^2), which avoids the cancellation of mean square minus squared mean.
    """
    rows = torch.stack([_row(features.detach()) for features in maps])
    if synchronised:
        gathered = [torch.empty_like(rows) for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather(gathered, rows)
        rows = torch.cat(gathered)
    elif sum(features.numel() for features in maps) == maps[0].shape[1]:
        raise ValueError("batch normalisation in training needs more than one value per channel")
    channels = maps[0].shape[1]
    counts, means, variances = rows[:, :1], rows[:, 1 : 1 + channels], rows[:, 1 + channels :]
    count = counts.sum()
    share = counts / count
    mean = (share * means).sum(0)
    return mean, (share * (variances + (means - mean).square())).sum(0), count


def _row(features: Tensor) -> Tensor:
    """(1 + 2 C,): number of values, mean and biased variance of each channel."""
    channels = features.shape[1]
    dtype = torch.promote_types(features.dtype, torch.float32)
    # Full-precision buffers make the kernel compute in full precision for half-precision input; a rate of 0 keeps them.
    buffers = features.new_zeros(2, channels, dtype=dtype)
    mean, var = torch.batch_norm_update_stats(features, buffers[0], buffers[1], 0.0)
    return torch.cat([features.new_full((1,), features.numel() // channels, dtype=dtype), mean, var])


class _Options(NamedTuple):
    eps: float
    relu: bool
    synchronised: bool
    owned: bool


class _Normalise(torch.autograd.Function):
    """b_m = weight (a_m - mean) / sqrt(var + eps) + bias, with joint statistics over all a_m.

    With g_m the gradient of b_m, x_m = (a_m - mean) / sqrt(var + eps) and sums over all modalities,

        d bias = sum(g),  d weight = sum(g x),  d a_m = weight / sqrt(var + eps) (g_m - sum(g) / n - x_m sum(g x) / n).

    Saves the a_m, and with ReLU the b_m, whose sign masks the gradient and which the next layer saves anyway.
    """

    @staticmethod
    def forward(
        ctx: Any,
        mean: Tensor,
        var: Tensor,
        count: Tensor,
        options: _Options,
        weight: Tensor,
        bias: Tensor,
        *maps: Tensor,
    ) -> tuple[Tensor, ...]:
        ctx.options, ctx.modalities = options, len(maps)
        results = [
            _aten.native_batch_norm(features, weight, bias, mean, var, False, 0.0, options.eps)[0] for features in maps
        ]
        if options.relu:
            results = [result.relu_() for result in results]
        invstd = torch.rsqrt(var + options.eps)
        ctx.save_for_backward(weight, mean, invstd, count, *maps, *(results if options.relu else ()))
        return tuple(results)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        weight, mean, invstd, count, *saved = ctx.saved_tensors
        maps, results = saved[: ctx.modalities], saved[ctx.modalities :]
        incoming = [_laid_out_as(gradient, like) for gradient, like in zip(gradients, maps, strict=True)]
        if results:
            incoming = [_masked(g, b, ctx.options.owned) for g, b in zip(incoming, results, strict=True)]
        sums = torch.stack([_sums(g, a, weight, mean, invstd) for g, a in zip(incoming, maps, strict=True)]).sum(0)
        own = sums.clone()  # DDP reduces the weights' gradients itself
        if ctx.options.synchronised:
            torch.distributed.all_reduce(sums)
        to_weight, to_bias = sums / count
        scale = weight * invstd
        slope = -scale * invstd * to_weight
        offset = -scale * to_bias - slope * mean
        in_place = bool(results) or ctx.options.owned
        found = [_affine(scale, g, slope, a, offset, in_place) for g, a in zip(incoming, maps, strict=True)]
        return None, None, None, None, own[0], own[1], *found


def _laid_out_as(gradient: Tensor, features: Tensor) -> Tensor:
    """Match the memory layout of the features, for which kernels are fast."""
    last = features.dim() == 4 and features.is_contiguous(memory_format=torch.channels_last)
    return gradient.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


def _sums(gradient: Tensor, features: Tensor, weight: Tensor, mean: Tensor, invstd: Tensor) -> Tensor:
    """(2, C): sum(g x) and sum(g) of one modality."""
    only_sums = [False, True, True]
    _, products, totals = _aten.native_batch_norm_backward(
        gradient, features, weight, None, None, mean, invstd, True, 0.0, only_sums
    )
    return torch.stack([products, totals])


def _masked(gradient: Tensor, rectified: Tensor, in_place: bool) -> Tensor:
    """The gradient where the ReLU is active, else 0."""
    if in_place:
        return _aten.threshold_backward.grad_input(gradient, rectified, 0, grad_input=gradient)  # type: ignore[no-any-return]
    return _aten.threshold_backward(gradient, rectified, 0)  # type: ignore[no-any-return]


def _affine(scale: Tensor, gradient: Tensor, slope: Tensor, features: Tensor, offset: Tensor, in_place: bool) -> Tensor:
    """scale g + slope a + offset, channel by channel, in the gradient's memory or in new memory."""
    shape = (1, -1, *[1] * (features.dim() - 2))
    scale, slope, offset = (tensor.to(gradient.dtype).view(shape) for tensor in (scale, slope, offset))
    if in_place:
        torch.addcmul(offset, gradient, scale, out=gradient)
    else:
        gradient = torch.addcmul(offset, gradient, scale)
    return gradient.addcmul_(features, slope)
