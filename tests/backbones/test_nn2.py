"""NN2 against table 2 of the FaceNet paper."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from kdface.backbones import nn2
from kdface.backbones.nn2 import NN2, L2Pool


@pytest.fixture(scope="module")
def net() -> NN2:
    with torch.device("meta"):
        return nn2().eval()


# The rows 3a to 5b: weights without biases, (channels, side) of the output at 224x224.
TABLE = {
    "inception3.0": (163_328, 256, 28),
    "inception3.1": (227_328, 320, 28),
    "inception3.2": (397_312, 640, 14),
    "inception4.0": (544_768, 640, 14),
    "inception4.1": (594_432, 640, 14),
    "inception4.2": (653_312, 640, 14),
    "inception4.3": (721_408, 640, 14),
    "inception4.4": (716_800, 1024, 7),
    "inception5.0": (1_587_200, 1024, 7),
    "inception5.1": (1_587_200, 1024, 7),
}


def test_rows_have_the_published_weights_and_maps(net: NN2) -> None:
    features = torch.empty(1, 3, 224, 224, device="meta")
    for name in net.layout["stem"]:
        features = net.get_submodule(name)(features)
    assert features.shape == (1, 192, 28, 28)
    found = {}
    for name in TABLE:
        row = net.get_submodule(name)
        features = row(features)
        weights = sum(p.numel() for p in row.parameters() if p.ndim == 4)
        found[name] = (weights, features.shape[1], features.shape[3])
    assert found == TABLE


def test_totals(net: NN2) -> None:
    assert sum(p.numel() for p in net.parameters() if p.ndim > 1) == 7_448_256
    with FlopCounterMode(display=False) as counter:
        net(torch.empty(1, 3, 224, 224, device="meta"))
    convolutions = counter.get_total_flops() / 2 - 1024 * 128  # the published total leaves out the last layer
    assert round(convolutions / 1e6, 1) == 1596.4


POOLS = ["max", "l2", "max", "l2", "l2", "l2", "l2", "max", "l2", "max"]  # 3a to 5b


def slow_row(weights: dict[str, Tensor], x: Tensor, pool: str) -> Tensor:
    """1x1, 3x3, 5x5 and pooling branch; without a 1x1 branch all halve the map and nothing is projected."""
    stride = 1 if "1x1.0.weight" in weights else 2

    def conv(x: Tensor, name: str, stride: int = 1) -> Tensor:
        weight = weights[f"{name}.weight"]
        padding = weight.shape[2] // 2
        return functional.conv2d(x, weight, weights[f"{name}.bias"], stride, padding).clamp_min(0)

    branches = [conv(x, "1x1.0")] if stride == 1 else []
    branches.append(conv(conv(x, "3x3.0.0"), "3x3.1.0", stride))
    branches.append(conv(conv(x, "5x5.0.0"), "5x5.1.0", stride))
    edge = functional.pad(x, (1, 1, 1, 1))  # x is not negative, so zeros change no maximum
    windows = edge.unfold(2, 3, stride).unfold(3, 3, stride).flatten(4)
    pooled = windows.amax(-1) if pool == "max" else windows.square().sum(-1).sqrt()
    branches.append(conv(pooled, "pooled.1.0") if stride == 1 else pooled)
    return torch.cat(branches, 1)


def test_each_row_follows_the_table() -> None:
    torch.manual_seed(0)
    net = nn2(8, image_size=(32, 32))
    for name, pool in zip(TABLE, POOLS, strict=True):
        row = net.get_submodule(name)
        weights = {key.removeprefix("branches."): value for key, value in row.state_dict().items()}
        x = torch.rand(1, next(iter(weights.values())).shape[1], 6, 6)
        with torch.no_grad():
            torch.testing.assert_close(row(x), slow_row(weights, x, pool), rtol=1e-4, atol=1e-5)


def test_l2_pool_is_the_norm_of_each_window() -> None:
    x = torch.randn(2, 3, 5, 4, generator=torch.Generator().manual_seed(0))
    expected = torch.zeros_like(x)
    for i in range(5):
        for j in range(4):
            window = x[:, :, max(0, i - 1) : i + 2, max(0, j - 1) : j + 2]
            expected[:, :, i, j] = window.square().sum((2, 3)).sqrt()
    torch.testing.assert_close(L2Pool()(x), expected)


def test_l2_pool_has_a_gradient_where_the_map_is_zero() -> None:
    x = torch.zeros(1, 1, 4, 4, requires_grad=True)
    L2Pool()(x).sum().backward()
    assert x.grad is not None and torch.equal(x.grad, torch.zeros(1, 1, 4, 4))
    huge = torch.full((1, 1, 3, 3), 1000.0, dtype=torch.float16)  # 9e6 would overflow in half precision
    assert L2Pool()(huge)[0, 0, 1, 1].item() == 3000.0


def test_signal_keeps_its_size_through_the_depth() -> None:
    """There is no BatchNorm: the start alone must keep the maps from dying out or blowing up."""
    torch.manual_seed(0)
    net = nn2(image_size=(96, 96)).eval()
    sizes = []
    features = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        for _, stage in net.stages():
            features = stage(features)
            sizes.append(features.square().mean().sqrt().item())
    assert all(0.1 < size < 20 for size in sizes), sizes
