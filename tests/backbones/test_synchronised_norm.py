"""Batch normalisation over ranks: torch's own on the whole batch, in values, gradients, buffers and keys."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from kdface.backbones.pooled_norm import PooledBatchNorm
from kdface.backbones.synchronised_norm import SynchronisedBatchNorm, synchronise
from tests.forked import on_two_ranks


def _network() -> nn.Sequential:
    drawn = torch.Generator().manual_seed(3)
    made = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 5), nn.BatchNorm1d(5)
    ).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=drawn, dtype=torch.float64))
    return made


def _images() -> Tensor:
    return torch.randn(5, 3, 6, 6, generator=torch.Generator().manual_seed(7), dtype=torch.float64)


def _loss(out: Tensor, rows: slice) -> Tensor:
    wanted = torch.randn(5, 5, generator=torch.Generator().manual_seed(11), dtype=torch.float64)
    return (out * wanted[rows]).square().sum()


def test_without_ranks_it_is_what_it_replaces() -> None:
    plain, other = _network(), _network()
    keys = list(other.state_dict())
    replaced = synchronise(other)
    assert [type(child) for child in replaced.children() if "Norm" in type(child).__name__] == [
        SynchronisedBatchNorm
    ] * 2
    assert list(replaced.state_dict()) == keys
    for training in (True, False):
        out, expected = replaced.train(training)(_images()), plain.train(training)(_images())
        torch.testing.assert_close(out, expected)
        _loss(out, slice(None)).backward()  # type: ignore[no-untyped-call]
        _loss(expected, slice(None)).backward()  # type: ignore[no-untyped-call]
    for (name, mine), (_, theirs) in zip(replaced.named_parameters(), plain.named_parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, msg=name)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(replaced.state_dict()[name], value, msg=name)


def test_a_pooled_normalisation_is_synchronised_and_kept() -> None:
    pooled = nn.Sequential(PooledBatchNorm(nn.BatchNorm2d(3)))
    synchronise(pooled)
    assert isinstance(pooled[0], PooledBatchNorm) and pooled[0].synchronised
    assert type(pooled[0].norm) is SynchronisedBatchNorm


def test_one_normalisation_in_two_places_stays_one() -> None:
    norm = nn.BatchNorm1d(3)
    twice = synchronise(nn.Sequential(norm, nn.Sequential(nn.ReLU(), norm)))
    assert isinstance(twice[0], SynchronisedBatchNorm) and twice[0] is twice[1][1]  # type: ignore[index]
    assert synchronise(twice) is twice and type(twice[0]) is SynchronisedBatchNorm  # type: ignore[index]


def test_a_normalisation_that_it_cannot_replace_is_told_of() -> None:
    with pytest.raises(ValueError, match="weight, bias and running"):
        synchronise(nn.Sequential(nn.BatchNorm2d(3, affine=False)))
    with pytest.raises(ValueError, match=r"N, 3, \.\.\."):
        SynchronisedBatchNorm(nn.BatchNorm2d(3))(torch.zeros(2, 4, 2, 2))


def _rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    network = synchronise(_network())
    rows = slice(0, 2) if rank == 0 else slice(2, 5)  # unequal parts
    out = network(_images()[rows])
    _loss(out, rows).backward()  # type: ignore[no-untyped-call]
    gradients = [parameter.grad for parameter in network.parameters()]
    torch.save({"out": out.detach(), "gradients": gradients, "state": network.state_dict()}, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_ranks_are_one_batch(tmp_path: Path) -> None:
    on_two_ranks(_rank, tmp_path)
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    network = _network()
    out = network(_images())
    _loss(out, slice(None)).backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(torch.cat([rank["out"] for rank in ranks]), out.detach())
    for place, parameter in enumerate(network.parameters()):
        torch.testing.assert_close(sum(rank["gradients"][place] for rank in ranks), parameter.grad)
    for rank in ranks:
        for name, value in network.state_dict().items():
            torch.testing.assert_close(rank["state"][name], value, msg=name)
