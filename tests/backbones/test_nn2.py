"""NN2 against table 2 of the FaceNet paper; NN4 and NNS2 against what the paper says of them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from kdface.backbones import nn2, nn4, nns2
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


# 1x1, 3x3 reduced, 3x3, 5x5 reduced, 5x5, projection, stride: table 2 once more
ROWS = [
    (64, 96, 128, 16, 32, 32, 1),
    (64, 96, 128, 32, 64, 64, 1),
    (0, 128, 256, 32, 64, 0, 2),
    (256, 96, 192, 32, 64, 128, 1),
    (224, 112, 224, 32, 64, 128, 1),
    (192, 128, 256, 32, 64, 128, 1),
    (160, 144, 288, 32, 64, 128, 1),
    (0, 160, 256, 64, 128, 0, 2),
    (384, 192, 384, 48, 128, 128, 1),
    (384, 192, 384, 48, 128, 128, 1),
]
# The same in sixths, each the nearest even number
SIXTHS = [
    (10, 16, 22, 2, 6, 6, 1),
    (10, 16, 22, 6, 10, 10, 1),
    (0, 22, 42, 6, 10, 0, 2),
    (42, 16, 32, 6, 10, 22, 1),
    (38, 18, 38, 6, 10, 22, 1),
    (32, 22, 42, 6, 10, 22, 1),
    (26, 24, 48, 6, 10, 22, 1),
    (0, 26, 42, 10, 22, 0, 2),
    (64, 32, 64, 8, 22, 22, 1),
    (64, 32, 64, 8, 22, 22, 1),
]
Rows = list[tuple[int, int, int, int, int, int, int]]


def counted(rows: Rows, stem: tuple[int, int, int], height: int, width: int) -> tuple[int, int]:
    """(parameters, multiply-adds of the convolutions) of a table at 128-d, added up row by row."""
    parameters = multiply_adds = 0

    def conv(inputs: int, outputs: int, kernel: int, cells: int) -> None:
        nonlocal parameters, multiply_adds
        parameters += outputs * (inputs * kernel**2 + 1)
        multiply_adds += outputs * inputs * kernel**2 * cells

    def half(cells: int) -> int:
        return (cells + 1) // 2

    height, width = half(height), half(width)
    conv(3, stem[0], 7, height * width)
    height, width = half(height), half(width)
    conv(stem[0], stem[1], 1, height * width)
    conv(stem[1], stem[2], 3, height * width)
    height, width = half(height), half(width)
    channels = stem[2]
    for single, reduce3, conv3, reduce5, conv5, project, stride in rows:
        before = height * width
        if stride == 2:
            height, width = half(height), half(width)
        conv(channels, single, 1, before)
        conv(channels, reduce3, 1, before)
        conv(reduce3, conv3, 3, height * width)
        conv(channels, reduce5, 1, before)
        conv(reduce5, conv5, 5, height * width)
        conv(channels, project, 1, before)
        channels = single + conv3 + conv5 + (project or channels)
    return parameters + 128 * (channels + 1), multiply_adds


def without_5x5(first: int) -> Rows:
    return [row if place < first else (*row[:3], 0, 0, *row[5:]) for place, row in enumerate(ROWS)]


def measured(net: NN2) -> tuple[int, int]:
    with FlopCounterMode(display=False) as counter:
        net(torch.empty(1, 3, *net.image_size, device="meta"))
    parameters = sum(p.numel() for p in net.parameters())
    return parameters, counter.get_total_flops() // 2 - net.fc.in_features * 128


def test_nn4_costs_what_the_paper_says() -> None:
    with torch.device("meta"):
        net = nn4()
    assert net.image_size == (96, 96)
    assert measured(net) == counted(without_5x5(7), (64, 64, 192), 96, 96) == (6_607_888, 284_626_944)
    assert round(284_626_944 / 1e6) == 285 and round(6_607_888 / 1e6, 1) == 6.6  # table 3, and the text on Inception
    for first in (8, 6):  # no other row to start from gives the paper's 285 million
        assert round(counted(without_5x5(first), (64, 64, 192), 96, 96)[1] / 1e6) != 285
    kernels = {name: tuple(p.shape[2:]) for name, p in net.named_parameters() if p.ndim == 4}
    assert {name[:12] for name, kernel in kernels.items() if kernel == (5, 5)} == {"inception3.0", "inception3.1"} | {
        "inception3.2",
        *(f"inception4.{row}" for row in range(4)),
    }


def test_nns2_has_a_sixth_of_the_channels_and_the_papers_cost() -> None:
    with torch.device("meta"):
        net = nns2()
    assert net.image_size == (140, 116)
    assert measured(net) == counted(SIXTHS, (10, 10, 32), 140, 116)
    assert 19.5e6 < measured(net)[1] < 20.6e6  # 20 million
