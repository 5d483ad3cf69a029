"""Batch normalisation over the batches of all ranks, independent of the number of ranks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from kdface.backbones.pooled_norm import PooledBatchNorm, normalise_together


class SynchronisedBatchNorm(_BatchNorm):
    """A batch normalisation with training statistics over the batches of all ranks.

    Formula, gradients and precision are those of `PooledBatchNorm` with one modality. It replaces another
    normalisation and shares its parameters and buffers under the same keys. Unlike torch's SyncBatchNorm it also runs
    on CPUs. Without a process group it normalises the local batch.

    Args:
        norm: the normalisation to replace.
    """

    def __init__(self, norm: _BatchNorm) -> None:
        if not (norm.affine and norm.track_running_stats):
            raise ValueError("a synchronised batch normalisation needs weight, bias and running statistics")
        super().__init__(norm.num_features, norm.eps, norm.momentum)
        self.weight, self.bias = norm.weight, norm.bias
        self.running_mean, self.running_var = norm.running_mean, norm.running_var
        self.num_batches_tracked = norm.num_batches_tracked
        self.train(norm.training)

    def forward(self, features: Tensor) -> Tensor:
        """Normalise maps or vectors (N, C, ...), with N this rank's part of the batch."""
        if features.dim() < 2 or features.shape[1] != self.num_features:
            raise ValueError(f"expected (N, {self.num_features}, ...), got {tuple(features.shape)}")
        if self.training:
            return normalise_together(self, [features], synchronised=True)[0]
        known = (self.running_mean, self.running_var, self.weight, self.bias)
        return nn.functional.batch_norm(features, *known, eps=self.eps)


@runtime_checkable
class Unregistered(Protocol):
    """A module that computes with modules that are not its children, but whose layers are in its children."""

    def unregistered(self) -> Sequence[nn.Module]:
        """Modules it uses that `modules()` does not list."""


def synchronise(module: nn.Module) -> nn.Module:
    """Replace the batch normalisations in a module by synchronised ones. Returns the module, or its replacement.

    A normalisation used in several places gets a single replacement, also in `Unregistered` parts; statistics pooled
    over modalities are pooled over ranks as well.
    """
    return _synchronised(module, {})


@torch.no_grad()
def _synchronised(module: nn.Module, known: dict[nn.Module, nn.Module]) -> nn.Module:
    """`known`: the replacement of every visited module."""
    if module in known:
        return known[module]
    known[module] = module
    if isinstance(module, SynchronisedBatchNorm):
        return module
    if isinstance(module, _BatchNorm):
        known[module] = SynchronisedBatchNorm(module)
        return known[module]
    if isinstance(module, PooledBatchNorm):
        module.synchronised = True
    for name, child in module.named_children():
        setattr(module, name, _synchronised(child, known))
    if isinstance(module, Unregistered):
        for part in module.unregistered():
            _synchronised(part, known)
    return module
