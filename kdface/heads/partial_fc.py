"""Partial FC: class weights sharded over ranks and classes sampled in each step, for very many people."""

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
    """A margin-softmax head with its classes sharded over the ranks and sampled in each step.

    Rank r of W keeps only the rows C r / W to C (r + 1) / W of the class weights. In each step every rank gathers the
    embeddings of all ranks, N in total. It takes those of its classes that occur in the batch, adds uniformly drawn
    others up to `sample_rate` of its classes, and with z_ij the head's logits

        loss = loss_scale * mean over i of (log sum over the taken classes of all ranks of exp z_ij  -  z_i,y_i).

    At sample_rate 1 loss and gradients equal those of the head itself on the batch of all ranks: gradients of the class
    weights are complete on their rank and must be excluded from DDP averaging (`shard_heads`); those of the embeddings
    include the factor W that DDP averaging removes. Eval mode uses all classes. Rows that were not drawn have a
    gradient of zero; weight decay and momentum still move them.

    The state dict holds the whole matrix, on rank 0, and each rank loads its rows from a whole one, so checkpoints do
    not depend on the number of ranks. Calling `state_dict` is a collective operation.

    An et al., "Partial FC: Training 10 Million Identities on a Single Machine" (ICCV Workshops 2021), and "Killing Two
    Birds with One Stone" (CVPR 2022), where a tenth of the classes trains as well as all of them.

    Args:
        head: a margin softmax with all its classes; its weights are taken over.
        sample_rate: share of a rank's classes used in a step.

    Attributes:
        generator: used to draw negatives; None is torch's default generator, which the training loop reseeds in each
            step.

    Raises:
        ValueError: the head's loss is not a function of the logits alone.
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
        """Keep the rows of one rank of `world`. Call it once, on the whole head, before creating the optimiser; rows of
        other ranks need not be initialised (`kdface.heads.own_rows`)."""
        if self.world != 1:
            raise ValueError("PartialFC: the classes are divided over ranks already")
        if world > self.num_classes:
            raise ValueError(f"PartialFC: {self.num_classes} classes cannot be divided over {world} ranks")
        self.rank, self.world = rank, world
        self.weight = nn.Parameter(self.own(self.weight.detach()))

    def rows(self, rank: int) -> range:
        """The classes on a rank."""
        return rows_of(self.num_classes, rank, self.world)

    def own(self, whole: Tensor) -> Tensor:
        """(C, ...) -> a copy of this rank's rows."""
        mine = self.rows(self.rank)
        return whole[mine.start : mine.stop].clone()

    @torch.no_grad()
    def whole(self, part: Tensor) -> Tensor:
        """This rank's rows -> (C, ...) in rank 0's main memory; other ranks get their part back. Collective."""
        if self.world == 1:
            return part
        parts: list[Tensor] = []
        for rank in range(self.world):  # sequentially: a device may not have room for all
            sent = part if rank == self.rank else part.new_empty(len(self.rows(rank)), *part.shape[1:])
            torch.distributed.broadcast(sent.contiguous(), rank)
            parts += [sent.cpu()] if self.rank == 0 else []
        return torch.cat(parts) if self.rank == 0 else part

    def forward(self, embedding: Tensor, label: Tensor) -> HeadOutput:
        """Loss of this rank's unnormalised embeddings (n, D) with labels (n,) int64 among all classes.

        `logits` and `cosine` are (N, S), over the batch of all ranks and the classes taken on this rank; `predicted`
        is (n,).

        Raises:
            ValueError: wrong shapes or label type.
            IndexError: a label is out of range.
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
        if extra is not None:  # every rank computes it in full, and the ranks' gradients are summed
            loss = loss + straight_through(extra, extra / self.world)
        start = sum(counts[: self.rank])
        nearest = self._nearest(cosine.detach(), taken + first)[start : start + len(label)]
        some = self.training and self.sample_rate < 1
        zeros = without_direction(embedding)
        return HeadOutput(loss, logits, cosine.detach(), nearest, zeros, sampled=True, decided_among_some=some)

    def _taken(self, positive: Tensor) -> Tensor:
        """This rank's rows for a step, ascending: those of `positive`, filled up with sampled others."""
        size = len(self.weight)
        if not self.training or self.sample_rate == 1:
            return torch.arange(size, device=positive.device)
        known = torch.unique(positive)
        wanted = max(len(known), round(self.sample_rate * size), 1)
        draw = torch.rand(size, generator=self.generator, device=positive.device)
        draw[known] = 2.0  # ranks above all random draws
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
        """Mean over all rows of log sum exp over the classes of all ranks, minus the target logit."""
        top = logits.detach().amax(1)
        if self.world > 1:
            torch.distributed.all_reduce(top, torch.distributed.ReduceOp.MAX)
        target = logits.new_zeros(len(logits)).index_put((row,), logits[row, column] - top[row])
        sums = torch.stack([(logits - top[:, None]).exp().sum(1), target])
        if self.world > 1:
            sums = _Sum.apply(sums)  # type: ignore[no-untyped-call]
        return (sums[0].log() - sums[1]).mean()

    def _nearest(self, cosine: Tensor, classes: Tensor) -> Tensor:
        """(N,) the class with the largest cosine among those taken on all ranks."""
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
        """Number of rows on each rank."""
        if self.world == 1:
            return [count]
        counts = [torch.zeros(1, dtype=torch.int64, device=device) for _ in range(self.world)]
        torch.distributed.all_gather(counts, torch.tensor([count], device=device))
        return [int(count) for count in counts]

    def _gathered(self, rows: Tensor, counts: list[int]) -> Tensor:
        """Gather (n, ...) from each rank -> (N, ...), in rank order."""
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
    """Shard the class weights in a module over the ranks and exclude them from DDP."""
    heads = {name: child for name, child in module.named_modules() if isinstance(child, PartialFC)}
    for head in heads.values():
        head.shard(rank, world)
    if heads:
        ignored = [f"{name}.weight" if name else "weight" for name in heads]
        mark = nn.parallel.DistributedDataParallel._set_params_and_buffers_to_ignore_for_model
        mark(module, ignored)  # type: ignore[no-untyped-call]
    return list(heads.values())


class _Gather(torch.autograd.Function):
    """Gather rows from all ranks. Each rank's gradient is that of its part of the loss: their sum is the gradient of
    the loss, times the factor W that DDP averaging removes."""

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
    """Sum over the ranks, which all compute the same loss from it: each part gets the gradient of the sum."""

    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        total = part.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient
