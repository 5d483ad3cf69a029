"""Partial FC: class weights divided over the ranks, and a sample of the classes in each step; for very many people."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from annotated_types import Gt, Le
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import normalize, pad

from kdface.heads.frame import HeadOutput, MarginSoftmax, polar, straight_through, without_direction
from kdface.heads.own_rows import rows_of


class PartialFC(nn.Module):
    """A margin-softmax head whose classes are divided over the ranks, and of which a step sees a sample.

    Rank r of W keeps the rows C r / W to C (r + 1) / W of the class weights, and nothing else of them. In a step every
    rank sees the embeddings of all ranks, N together. It takes the classes among its own that the batch shows and,
    drawn uniformly, others until they are `sample_rate` of its classes, and with z_ij the head's logits

        loss = loss_scale * mean over i of (log sum over the taken classes of all ranks of exp z_ij  -  z_i,y_i).

    At sample_rate 1 that is the loss of the head itself on the batch of all ranks, and so are its gradients: those of
    the class weights are whole on the rank that keeps them, and must be left out of data-parallel averaging
    (`shard_heads`); those of the embeddings carry the factor W that averaging over the ranks takes away again. In eval
    mode all classes count. A row that was not drawn has a gradient of zero; weight decay and momentum still move it.

    The state dict holds the whole matrix, on rank 0, and each rank takes its rows from a whole one: a checkpoint knows
    nothing of ranks. Calling `state_dict` is a collective operation.

    An et al., "Partial FC: Training 10 Million Identities on a Single Machine" (ICCV Workshops 2021), and "Killing Two
    Birds with One Stone" (CVPR 2022), where a tenth of the classes trains as well as all of them.

    Args:
        head: a margin softmax with all its classes; its weights become those of this one.
        sample_rate: share of a rank's classes that a step sees.

    Attributes:
        generator: where negatives are drawn from; None is torch's default generator, which the training loop seeds
            anew in each step.

    Raises:
        ValueError: the head's loss needs more of the class weights than the logits.
    """

    def __init__(self, head: MarginSoftmax, sample_rate: Annotated[float, Gt(0), Le(1)] = 0.1) -> None:
        super().__init__()
        if not isinstance(head, MarginSoftmax) or type(head).classify is not MarginSoftmax.classify:
            raise ValueError(f"{type(head).__name__} cannot be sampled: its loss is not a function of the logits alone")
        if not 0 < sample_rate <= 1:
            raise ValueError(f"PartialFC: sample_rate is {sample_rate}, expected above 0 and at most 1")
        self.num_classes, self.embedding_size = head.weight.shape
        self.sample_rate = sample_rate
        self.generator: torch.Generator | None = None
        self.rank, self.world = 0, 1
        self.weight = nn.Parameter(head.weight.detach())
        del head.weight
        self.head = head

    def shard(self, rank: int, world: int) -> None:
        """Keep the rows of one rank of `world`. Called once, on the whole head, before there is an optimiser; rows of
        other ranks need not have been drawn (`kdface.heads.own_rows`)."""
        if self.world != 1:
            raise ValueError("PartialFC: the classes are divided over ranks already")
        if world > self.num_classes:
            raise ValueError(f"PartialFC: {self.num_classes} classes cannot be divided over {world} ranks")
        self.rank, self.world = rank, world
        self.weight = nn.Parameter(self.own(self.weight.detach()))

    def rows(self, rank: int) -> range:
        """The classes that a rank keeps."""
        return rows_of(self.num_classes, rank, self.world)

    def own(self, whole: Tensor) -> Tensor:
        """(C, ...) -> a copy of this rank's rows."""
        mine = self.rows(self.rank)
        return whole[mine.start : mine.stop].clone()

    @torch.no_grad()
    def whole(self, part: Tensor) -> Tensor:
        """This rank's rows -> (C, ...) in rank 0's main memory; other ranks get their part back. All must call it."""
        if self.world == 1:
            return part
        parts: list[Tensor] = []
        for rank in range(self.world):  # one after the other: a device need not have room for all
            sent = part if rank == self.rank else part.new_empty(len(self.rows(rank)), *part.shape[1:])
            torch.distributed.broadcast(sent.contiguous(), rank)
            parts += [sent.cpu()] if self.rank == 0 else []
        return torch.cat(parts) if self.rank == 0 else part

    def forward(self, embedding: Tensor, label: Tensor) -> HeadOutput:
        """Loss of embeddings (n, D) of this rank, not normalised, with labels (n,) int64 among all classes.

        `logits` and `cosine` are (N, S), of the batch of all ranks and the classes that this rank took; `predicted` is
        (n,).

        Raises:
            ValueError: shapes or label type do not fit.
            IndexError: a label is not a class.
        """
        if embedding.ndim != 2 or embedding.shape[1] != self.embedding_size or len(embedding) == 0:
            raise ValueError(
                f"PartialFC: embeddings have shape {tuple(embedding.shape)}, expected (N, {self.embedding_size})"
            )
        if label.shape != embedding.shape[:1] or label.dtype != torch.int64:
            raise ValueError(
                f"PartialFC: labels have shape {tuple(label.shape)}, type {label.dtype}, expected int64 (N,)"
            )
        if not 0 <= int(label.min()) <= int(label.max()) < self.num_classes:
            raise IndexError(f"PartialFC: a label is not among the {self.num_classes} classes")
        dtype = torch.promote_types(torch.promote_types(embedding.dtype, self.weight.dtype), torch.float32)
        with torch.autocast(embedding.device.type, enabled=False):
            return self._classify(embedding.to(dtype), label)

    def _classify(self, embedding: Tensor, label: Tensor) -> HeadOutput:
        head, first = self.head, self.rows(self.rank).start
        if self.training:
            head.advance()
        counts = self._counts(len(embedding), label.device)
        everyone, labels = self._gathered(embedding, counts), self._gathered(label, counts)
        here = (labels >= first) & (labels < first + len(self.weight))
        row = here.nonzero()[:, 0]
        taken = self._taken(labels[row] - first)
        column = torch.searchsorted(taken, labels[row] - first)
        norm, direction = polar(everyone)
        cosine = direction @ self._unit_weight(taken, everyone.dtype).T
        own = head.under_rule(head.psi, cosine[row, column][:, None])[:, 0]
        logits = head.under_rule(head.eta, cosine).index_put((row, column), own)
        logits = logits * (norm if head.scale is None else head.scale)
        loss = head.loss_scale * self._cross_entropy(logits, row, column)
        extra = head.regulariser(norm)
        if extra is not None:  # every rank computes all of it, and the ranks' gradients are summed
            loss = loss + straight_through(extra, extra / self.world)
        start = sum(counts[: self.rank])
        nearest = self._nearest(cosine.detach(), taken + first)[start : start + len(label)]
        some = self.training and self.sample_rate < 1
        zeros = without_direction(embedding)
        return HeadOutput(loss, logits, cosine.detach(), nearest, zeros, sampled=True, decided_among_some=some)

    def _taken(self, positive: Tensor) -> Tensor:
        """The rows of this rank that a step sees, rising: those of `positive`, and as many others as it takes."""
        size = len(self.weight)
        if not self.training or self.sample_rate == 1:
            return torch.arange(size, device=positive.device)
        known = torch.unique(positive)
        wanted = max(len(known), round(self.sample_rate * size), 1)
        draw = torch.rand(size, generator=self.generator, device=positive.device)
        draw[known] = 2.0  # before all that are drawn
        return draw.topk(wanted).indices.sort().values

    def _unit_weight(self, taken: Tensor, dtype: torch.dtype) -> Tensor:
        """(S, D) rows at unit norm; see `Head.projected`."""
        weight = (self.weight if len(taken) == len(self.weight) else self.weight[taken]).to(dtype)
        if not self.head.projected:
            return normalize(weight)
        unit = normalize(weight.detach())
        if self.training:
            self.weight.detach().index_copy_(0, taken, unit.to(self.weight.dtype))
        return straight_through(unit, weight)

    def _cross_entropy(self, logits: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """Mean over all rows of log sum exp over the classes of all ranks, less the target's logit."""
        top = logits.detach().amax(1)
        if self.world > 1:
            torch.distributed.all_reduce(top, torch.distributed.ReduceOp.MAX)
        target = logits.new_zeros(len(logits)).index_put((row,), logits[row, column] - top[row])
        sums = torch.stack([(logits - top[:, None]).exp().sum(1), target])
        if self.world > 1:
            sums = _Sum.apply(sums)  # type: ignore[no-untyped-call]
        return (sums[0].log() - sums[1]).mean()

    def _nearest(self, cosine: Tensor, classes: Tensor) -> Tensor:
        """(N,) the class of the largest cosine among those that the ranks took."""
        best = cosine.max(1)
        if self.world == 1:
            return classes[best.indices]
        values, names = best.values.contiguous(), classes[best.indices]
        all_values = [torch.empty_like(values) for _ in range(self.world)]
        all_names = [torch.empty_like(names) for _ in range(self.world)]
        torch.distributed.all_gather(all_values, values)
        torch.distributed.all_gather(all_names, names)
        return torch.stack(all_names).gather(0, torch.stack(all_values).argmax(0, keepdim=True))[0]

    def _counts(self, count: int, device: torch.device) -> list[int]:
        """Rows of each rank."""
        if self.world == 1:
            return [count]
        counts = [torch.zeros(1, dtype=torch.int64, device=device) for _ in range(self.world)]
        torch.distributed.all_gather(counts, torch.tensor([count], device=device))
        return [int(count) for count in counts]

    def _gathered(self, rows: Tensor, counts: list[int]) -> Tensor:
        """(n, ...) of each rank -> (N, ...), rank after rank."""
        if self.world == 1:
            return rows
        found: Tensor = _Gather.apply(rows, counts, self.rank)  # type: ignore[no-untyped-call]
        return found

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.world > 1:
            destination[f"{prefix}weight"] = self.whole(self.weight.detach())

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        metadata: Any,
        strict: bool,
        missing: Any,
        unexpected: Any,
        errors: Any,
    ) -> None:
        key = f"{prefix}weight"
        if self.world > 1 and key in state_dict:
            if len(state_dict[key]) != self.num_classes:
                errors.append(f"{key} holds {len(state_dict[key])} classes, expected all {self.num_classes}")
                return
            state_dict[key] = self.own(state_dict[key])
        super()._load_from_state_dict(state_dict, prefix, metadata, strict, missing, unexpected, errors)


def shard_heads(module: nn.Module, rank: int, world: int) -> list[PartialFC]:
    """Divide the class weights in a module over the ranks, and have data-parallel training leave them alone."""
    heads = {name: child for name, child in module.named_modules() if isinstance(child, PartialFC)}
    for head in heads.values():
        head.shard(rank, world)
    if heads:
        ignored = [f"{name}.weight" if name else "weight" for name in heads]
        mark = nn.parallel.DistributedDataParallel._set_params_and_buffers_to_ignore_for_model
        mark(module, ignored)  # type: ignore[no-untyped-call]
    return list(heads.values())


class _Gather(torch.autograd.Function):
    """Rows of all ranks. Each rank's gradient is that of its part of one loss: their sum is the gradient of the loss,
    and the factor W is what averaging over the ranks takes away again."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, counts: list[int], rank: int) -> Tensor:
        ctx.counts, ctx.rank = counts, rank
        padding = [0] * (2 * (rows.ndim - 1)) + [0, max(counts) - len(rows)]
        padded = pad(rows, padding).contiguous()
        found = [torch.empty_like(padded) for _ in counts]
        torch.distributed.all_gather(found, padded)
        return torch.cat([part[:count] for part, count in zip(found, counts, strict=True)])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        total = gradient.contiguous().clone()
        torch.distributed.all_reduce(total)
        start = sum(ctx.counts[: ctx.rank])
        return total[start : start + ctx.counts[ctx.rank]] * len(ctx.counts), None, None


class _Sum(torch.autograd.Function):
    """Sum over the ranks, which all compute the same loss from it: each part's gradient is that of the sum."""

    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        total = part.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient
