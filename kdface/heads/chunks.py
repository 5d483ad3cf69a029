"""Log-sum-exp over very many classes in chunks, so that a loss needs no logits matrix.

A textbook implementation holds half a dozen batch x classes matrices at once: cosines, their copies with margin and
scale, the softmax, its logarithm, their gradients. Here only the cosines are kept. Everything else is computed on
cache-sized chunks of them, once in the forward and once in the backward pass. Unless the caller wants the cosines, the
gradient of the class weights overwrites them if it has their type and is no smaller.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.linalg import vector_norm
from torch.nn.functional import linear

_NUMBERS = 2**21  # per chunk: its class weights, and its cosines with the batch
_TINY = 1e-12  # minimum norm of class weights, as in torch.nn.functional.normalize

Elementwise = Callable[[Tensor], Tensor]


class Tally(NamedTuple):
    """Statistics of N embeddings over C classes.

    Attributes:
        others: (N,) log of the sum of exp(rho eta(cos_j)) over the non-target classes j.
        own: (N,) cosine with the target class.
        cosine: (N, C), detached, if kept.
        predicted: (N,) the class of the greatest cosine, if these are not kept.
    """

    others: Tensor
    own: Tensor
    cosine: Tensor | None
    predicted: Tensor | None


def tally(
    direction: Tensor,
    weight: Tensor,
    label: Tensor,
    rho: Tensor | float,
    eta: Elementwise,
    through_norm: bool,
    keep: bool = True,
) -> Tally:
    """`Tally` of directions (N, D), labels (N,) and class weights (C, D), differentiable in rho (N, 1) too.

    Args:
        direction: unit vectors, or zeros.
        weight: class weights of any norm; cosines use w / |w|.
        label: int64.
        rho: the magnitude of the logits.
        eta: elementwise; differentiated as given.
        through_norm: differentiate w / |w| through the norm; else pass its gradient to w unchanged.
        keep: give the cosines. Else the gradient of the class weights takes their memory, if there are no more
            embeddings than numbers in one and both are of one type, so that the backward pass may run only once.
    """
    factor = rho if isinstance(rho, Tensor) else direction.new_full((1, 1), rho)
    shared = (
        not keep
        and torch.is_grad_enabled()  # always off within `_Tally.forward`
        and weight.requires_grad
        and direction.dtype == weight.dtype
        and len(direction) <= weight.shape[1]
    )
    return Tally(*_Tally.apply(direction, weight, label, factor, eta, through_norm, keep, shared))  # type: ignore[no-untyped-call]


def _chunks(classes: int, row: int) -> list[slice]:
    step = max(1, _NUMBERS // row)
    return [slice(start, min(start + step, classes)) for start in range(0, classes, step)]


def _replaced(matrix: Tensor, label: Tensor, chunk: slice, value: Tensor | float) -> Tensor:
    """Set the entries of each column's target class in a chunk (classes, N) to a value (N,), in place.

    By mask rather than by index, which would synchronise with the device.
    """
    row = (label - chunk.start)[None]
    there = row.clamp(0, len(matrix) - 1)
    return matrix.scatter_(0, there, torch.where(row == there, value, matrix.gather(0, there)))


def _product(left: Tensor, right: Tensor) -> Tensor:
    """(A, D), (B, D) -> (A, B), left right^T.

    By oneDNN in float32 on a processor: torch's own product, by MKL, took twice as long on an AMD EPYC with AVX-512.
    """
    usable = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if usable and left.device.type == "cpu" and left.dtype == torch.float32:
        return linear(left.to_mkldnn(), right.to_mkldnn()).to_dense()
    return left @ right.T


class _Tally(torch.autograd.Function):
    """Matrices are (classes, N), so that chunks are contiguous.

    `shared` cosines (C, N) lie at the end of memory of the size of the class weights (C, D). A gradient of these that
    is written from its start, chunk by chunk, reaches only cosines of chunks before.
    """

    @staticmethod
    def forward(
        ctx: Any,
        direction: Tensor,
        weight: Tensor,
        label: Tensor,
        rho: Tensor,
        eta: Elementwise,
        through_norm: bool,
        keep: bool,
        shared: bool,
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        number, size = direction.shape
        length = vector_norm(weight, dim=1, keepdim=True, dtype=direction.dtype).clamp_min(_TINY)
        classes = len(weight)
        memory = direction.new_empty(classes * (size if shared else number))
        cosine = memory[-classes * number :].view(classes, number)
        top, total = direction.new_full((number,), -torch.inf), direction.new_zeros(number)
        nearest: list[tuple[Tensor, Tensor]] = []  # of each chunk, its greatest cosines and their classes
        for chunk in _chunks(len(weight), number + size):
            part = torch.div(_product(weight[chunk].to(direction.dtype), direction), length[chunk], out=cosine[chunk])
            if not keep:
                greatest, place = part.max(0)
                nearest.append((greatest, place + chunk.start))
            logits = _replaced(eta(part) * rho[:, 0], label, chunk, -torch.inf)
            before, top = top, torch.maximum(top, logits.amax(0).clamp_min(torch.finfo(top.dtype).min))
            total = total * (before - top).exp_() + logits.sub_(top).exp_().sum(0)
        others = total.log_().add_(top)
        own = cosine.gather(0, label[None])[0]
        ctx.save_for_backward(direction, weight, label, rho, length, cosine, others)
        ctx.eta, ctx.through_norm, ctx.shared = eta, through_norm, shared
        ctx.set_materialize_grads(False)  # torch would allocate a batch x classes matrix of zeros for the cosines
        if not keep:
            values, places = map(torch.stack, zip(*nearest, strict=True))
            predicted = places.gather(0, values.argmax(0, keepdim=True))[0]
            ctx.mark_non_differentiable(predicted)
            return others, own, None, predicted
        found = cosine.T
        ctx.mark_non_differentiable(found)
        return others, own, found, None

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_others: Tensor | None, to_own: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        direction, weight, label, rho, length, cosine, others = ctx.saved_tensors
        to_others, to_own = (
            torch.zeros_like(others) if gradient is None else gradient for gradient in (to_others, to_own)
        )
        number, size = direction.shape
        to_direction, to_rho = torch.zeros_like(direction), torch.zeros_like(rho)
        to_weight = cosine.as_strided(weight.shape, (size, 1), 0) if ctx.shared else torch.empty_like(weight)
        columns = direction.T.contiguous()
        for chunk in _chunks(len(weight), number + size):
            with torch.enable_grad():
                inputs = cosine[chunk].detach().requires_grad_(), rho.detach().requires_grad_()
                logits = ctx.eta(inputs[0]) * inputs[1][:, 0]
            share = _replaced((logits.detach() - others).exp_().mul_(to_others), label, chunk, 0.0)
            to_cosine, to_factor = torch.autograd.grad(logits, inputs, share)
            _replaced(to_cosine, label, chunk, to_own)
            to_rho += to_factor
            unit = weight[chunk].to(direction.dtype) / length[chunk]
            to_direction.addmm_(to_cosine.T, unit)
            to_unit = _product(to_cosine, columns)
            if ctx.through_norm:
                to_unit = (to_unit - unit * (to_unit * unit).sum(1, keepdim=True)).div_(length[chunk])
            to_weight[chunk] = to_unit
        return to_direction, to_weight, None, to_rho, None, None, None, None
