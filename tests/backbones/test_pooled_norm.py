"""Pooled batch normalisation against a plain concatenation, on one rank and on two."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from kdface.backbones.pooled_norm import PooledBatchNorm, pooled_statistics
from tests.forked import on_two_ranks

SHAPES: dict[str, list[tuple[int, ...]]] = {
    "face and eyes": [(3, 6, 8, 8), (3, 6, 3, 8)],
    "unequal batches": [(4, 6, 5, 7), (2, 6, 3, 2)],
    "three": [(2, 6, 8, 8), (3, 6, 1, 5), (1, 6, 4, 4)],
    "one": [(3, 6, 4, 5)],
    "vectors": [(5, 6), (3, 6)],
    "vectors, one each": [(1, 6), (1, 6)],
}


def inputs(shapes: list[tuple[int, ...]], dtype: torch.dtype = torch.float64, seed: int = 0) -> list[Tensor]:
    """Modalities that differ in mean and spread, so that their own statistics are not the pooled ones."""
    draws = torch.Generator().manual_seed(seed)
    return [
        (torch.randn(shape, generator=draws, dtype=torch.float64) * (1 + 2 * k) + 3 * k - 1).to(dtype)
        for k, shape in enumerate(shapes)
    ]


def batch_norm(channels: int, shape: tuple[int, ...], dtype: torch.dtype = torch.float64) -> _BatchNorm:
    """A normalisation away from its start."""
    made: _BatchNorm = nn.BatchNorm2d(channels) if len(shape) == 4 else nn.BatchNorm1d(channels)
    draws = torch.Generator().manual_seed(5)
    for value in (made.weight, made.bias, made.running_mean, made.running_var):
        assert isinstance(value, Tensor)
        value.data.copy_(torch.rand(channels, generator=draws) + 0.5)
    return made.to(dtype)


def concatenated(maps: list[Tensor], norm: _BatchNorm, relu: bool) -> tuple[list[Tensor], Tensor, Tensor]:
    """The definition, slowly: all values of a channel in one row. Also the running buffers that follow from it."""
    channels = maps[0].shape[1]
    row = torch.cat([feature.transpose(0, 1).reshape(channels, -1) for feature in maps], dim=1)
    mean = row.mean(dim=1)
    var = (row - mean[:, None]).square().mean(dim=1)
    results = []
    for feature in maps:
        shape = (1, channels) + (1,) * (feature.dim() - 2)
        scaled = (feature - mean.view(shape)) / (var.view(shape) + norm.eps).sqrt()
        result = scaled * norm.weight.view(shape) + norm.bias.view(shape)
        results.append(result.clamp_min(0) if relu else result)
    size = row.shape[1]
    assert norm.running_mean is not None and norm.running_var is not None
    running_mean = 0.9 * norm.running_mean + 0.1 * mean.detach()
    running_var = 0.9 * norm.running_var + 0.1 * var.detach() * size / (size - 1)
    return results, running_mean, running_var


def gradients(results: Any, leaves: list[Tensor], seed: int = 9) -> list[Tensor]:
    """Of a fixed random direction of the results."""
    draws = torch.Generator().manual_seed(seed)
    sums = [(result * torch.randn(result.shape, generator=draws, dtype=torch.float64)).sum() for result in results]
    return list(torch.autograd.grad(torch.stack(sums).sum(), leaves))


@pytest.mark.parametrize("owned", [False, True])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", SHAPES)
def test_equals_the_concatenation(name: str, layout: torch.memory_format, relu: bool, owned: bool) -> None:
    shapes = SHAPES[name]
    if len(shapes[0]) == 4:
        maps = [array.contiguous(memory_format=layout).requires_grad_() for array in inputs(shapes)]
    else:
        maps = [array.requires_grad_() for array in inputs(shapes)]
    norm = batch_norm(6, shapes[0])
    expected, running_mean, running_var = concatenated(maps, norm, relu)
    wanted = gradients(expected, [*maps, norm.weight, norm.bias])
    found = PooledBatchNorm(norm, relu, owned=owned)(*maps)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)
    for one, other in zip(gradients(found, [*maps, norm.weight, norm.bias]), wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)
    assert isinstance(norm.running_mean, Tensor) and isinstance(norm.running_var, Tensor)
    torch.testing.assert_close(norm.running_mean, running_mean, rtol=0, atol=1e-10)
    torch.testing.assert_close(norm.running_var, running_var, rtol=0, atol=1e-10)
    assert int(norm.num_batches_tracked or 0) == 1


def test_gradients_by_finite_differences() -> None:
    maps = [array.requires_grad_() for array in inputs([(2, 2, 3, 2), (2, 2, 1, 2)])]
    pooled = PooledBatchNorm(batch_norm(2, (2, 2, 1, 1)))
    weight, bias = pooled.norm.weight, pooled.norm.bias

    def function(first: Tensor, second: Tensor, scale: Tensor, shift: Tensor) -> Any:
        del scale, shift  # the module's own, perturbed in place
        return pooled(first, second)

    assert torch.autograd.gradcheck(function, (*maps, weight, bias))


def test_of_one_modality_is_ordinary_batch_normalisation_in_float32() -> None:
    (images,) = inputs([(4, 16, 9, 7)], torch.float32)
    norm, same = batch_norm(16, (1, 1, 1, 1), torch.float32), batch_norm(16, (1, 1, 1, 1), torch.float32)
    (found,) = PooledBatchNorm(norm)(images)
    torch.testing.assert_close(found, same(images), rtol=1e-5, atol=1e-5)
    for key, value in same.state_dict().items():
        torch.testing.assert_close(norm.state_dict()[key], value, rtol=1e-5, atol=1e-5)


def test_spec_s_law_of_pooled_variance() -> None:
    """CKD sheet 1: 128x128 and 48x128 lie 8:3, so var = (8 v_f + 3 v_p) / 11 + 24 / 121 (m_f - m_p)^2."""
    face, eyes = inputs([(2, 5, 16, 16), (2, 5, 6, 16)])
    m_f, m_p = face.mean((0, 2, 3)), eyes.mean((0, 2, 3))
    v_f, v_p = face.var((0, 2, 3), correction=0), eyes.var((0, 2, 3), correction=0)
    mean, var, count = pooled_statistics([face, eyes])
    torch.testing.assert_close(mean, (8 * m_f + 3 * m_p) / 11)
    torch.testing.assert_close(var, (8 * v_f + 3 * v_p) / 11 + 24 / 121 * (m_f - m_p) ** 2)
    assert float(count) == 2 * (256 + 96)


def test_in_evaluation_each_modality_is_alone() -> None:
    maps = inputs(SHAPES["three"])
    norm = batch_norm(6, (1, 1, 1, 1)).eval()
    before = {key: value.clone() for key, value in norm.state_dict().items()}
    for relu in (False, True):
        for found, given in zip(PooledBatchNorm(norm, relu)(*maps), maps, strict=True):
            assert torch.equal(found, norm(given).relu() if relu else norm(given))
    assert all(torch.equal(value, before[key]) for key, value in norm.state_dict().items())


def test_statistics_do_not_cancel_far_from_zero() -> None:
    maps = [array + 1000 for array in inputs(SHAPES["face and eyes"], torch.float32)]
    row = torch.cat([feature.double().transpose(0, 1).reshape(6, -1) for feature in maps], dim=1)
    _, var, _ = pooled_statistics(maps)
    torch.testing.assert_close(var.double(), row.var(dim=1, correction=0), rtol=1e-5, atol=0)


def test_momentum_none_is_the_cumulative_average() -> None:
    norm = nn.BatchNorm2d(6, momentum=None).double()
    means = []
    for seed in range(3):
        maps = inputs(SHAPES["face and eyes"], seed=seed)
        PooledBatchNorm(norm)(*maps)
        means.append(torch.cat([feature.transpose(0, 1).reshape(6, -1) for feature in maps], dim=1).mean(1))
    assert isinstance(norm.running_mean, Tensor)
    torch.testing.assert_close(norm.running_mean, torch.stack(means).mean(0))


def test_under_autocast_statistics_are_float32() -> None:
    maps = [array.bfloat16() for array in inputs(SHAPES["face and eyes"])]
    norm = batch_norm(6, (1, 1, 1, 1), torch.float32)
    exact = [feature.double().requires_grad_() for feature in maps]
    expected, running_mean, _ = concatenated(exact, batch_norm(6, (1, 1, 1, 1)), relu=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        given = [feature.requires_grad_() for feature in maps]
        found = PooledBatchNorm(norm, relu=True)(*given)
    assert {tensor.dtype for tensor in found} == {torch.bfloat16}
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=2**-8, atol=2**-8)
    for one, other in zip(gradients(found, given), gradients(expected, exact), strict=True):
        torch.testing.assert_close(one.double(), other, rtol=2**-6, atol=2**-6)
    assert isinstance(norm.running_mean, Tensor)
    torch.testing.assert_close(norm.running_mean.double(), running_mean, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: PooledBatchNorm(nn.BatchNorm2d(6, affine=False)), "weight, bias and running"),
        (lambda: PooledBatchNorm(nn.BatchNorm2d(6))(torch.zeros(2, 6, 3, 3), torch.zeros(2, 5, 3, 3)), r"N, 6, \.\.\."),
        (lambda: PooledBatchNorm(nn.BatchNorm1d(6))(torch.zeros(1, 6)), "more than one value"),
    ],
)
def test_mistakes(make: Callable[[], Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        make()


def halves(seed: int) -> list[list[Tensor]]:
    """A whole batch, cut for two ranks in unequal parts."""
    face, eyes = inputs([(5, 6, 8, 8), (5, 6, 3, 8)], seed=seed)
    return [[face[:2], eyes[:2]], [face[2:], eyes[2:]]]


def _rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    maps = [half.clone().requires_grad_() for half in halves(0)[rank]]
    norm = batch_norm(6, (1, 1, 1, 1))
    found = PooledBatchNorm(norm, relu=True, synchronised=True)(*maps)
    leaves = [*maps, norm.weight, norm.bias]
    sums = [(result * result.detach().cos()).sum() for result in found]
    torch.save(
        {
            "results": [tensor.detach() for tensor in found],
            "gradients": torch.autograd.grad(torch.stack(sums).sum(), leaves),
            "state": norm.state_dict(),
        },
        f"{folder}/{rank}.pt",
    )
    torch.distributed.destroy_process_group()


def test_two_ranks_are_one_batch(tmp_path: Path) -> None:
    on_two_ranks(_rank, tmp_path)
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    whole = [torch.cat([part[k] for part in halves(0)]).requires_grad_() for k in (0, 1)]
    norm = batch_norm(6, (1, 1, 1, 1))
    expected, running_mean, running_var = concatenated(whole, norm, relu=True)
    sums = [(result * result.detach().cos()).sum() for result in expected]
    wanted = torch.autograd.grad(torch.stack(sums).sum(), [*whole, norm.weight, norm.bias])
    for k in (0, 1):
        torch.testing.assert_close(torch.cat([rank["results"][k] for rank in ranks]), expected[k])
        torch.testing.assert_close(torch.cat([rank["gradients"][k] for rank in ranks]), wanted[k])
        # Each rank holds its own share of the weights' gradients, which data-parallel training then sums.
        torch.testing.assert_close(ranks[0]["gradients"][2 + k] + ranks[1]["gradients"][2 + k], wanted[2 + k])
    for result in ranks:
        torch.testing.assert_close(result["state"]["running_mean"], running_mean)
        torch.testing.assert_close(result["state"]["running_var"], running_var)
