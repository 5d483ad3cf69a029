"""MobileFaceNet against table 1 of its paper: parameters, multiply-adds and map sizes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from kdface.backbones import mobilefacenet
from kdface.backbones.mobilefacenet import Bottleneck

# expansion t, channels c, repeats n, stride of the first: the bottleneck rows of the table.
BOTTLENECKS = [(2, 64, 5, 2), (4, 128, 1, 2), (2, 128, 6, 1), (4, 128, 1, 2), (2, 128, 2, 1)]


def table(embedding_size: int) -> list[tuple[int, int, bool, int]]:
    """(weights, channels, PReLU, pixels of its output) of each convolution, in order, at 112x112."""
    rows = [(3 * 64 * 9, 64, True, 56**2), (64 * 9, 64, True, 56**2)]
    inputs, side = 64, 56
    for expansion, channels, repeats, stride in BOTTLENECKS:
        for k in range(repeats):
            inner = inputs * expansion
            rows.append((inputs * inner, inner, True, side**2))
            side //= stride if k == 0 else 1
            rows.append((inner * 9, inner, True, side**2))
            rows.append((inner * channels, channels, False, side**2))
            inputs = channels
    rows.append((128 * 512, 512, True, 7**2))
    rows.append((512 * 49, 512, False, 1))
    rows.append((512 * embedding_size, embedding_size, False, 1))
    return rows


@pytest.mark.parametrize("embedding_size", [128, 512])
def test_parameters_and_multiply_adds_are_those_of_the_table(embedding_size: int) -> None:
    rows = table(embedding_size)
    with torch.device("meta"):
        net = mobilefacenet(embedding_size).eval()
        images = torch.empty(1, 3, 112, 112)
    norms = 2 * sum(channels for _, channels, _, _ in rows)
    slopes = sum(channels for _, channels, prelu, _ in rows if prelu)
    weights = sum(weights for weights, _, _, _ in rows)
    assert sum(p.numel() for p in net.parameters()) == weights + norms + slopes
    with FlopCounterMode(display=False) as counter:
        net(images)
    assert counter.get_total_flops() == 2 * sum(weights * pixels for weights, _, _, pixels in rows)


def test_the_paper_s_rounded_figures() -> None:
    """0.99 million parameters as deployed (BatchNorm folded into a bias) and 221 million multiply-adds."""
    rows = table(128)
    folded = sum(weights + channels + (channels if prelu else 0) for weights, channels, prelu, _ in rows)
    assert round(folded / 1e6, 2) == 0.99
    assert round(sum(weights * pixels for weights, _, _, pixels in rows) / 1e6) == 221


def test_global_depthwise_kernel_is_the_last_map() -> None:
    with torch.device("meta"):
        net = mobilefacenet(image_size=(112, 96))
    assert net.get_parameter("conv_6_dw.conv.weight").shape == (512, 1, 7, 6)


def slow_forward(state: dict[str, Tensor], images: Tensor) -> Tensor:
    """Evaluation mode with BatchNorm at its start values, from the table and a state dict."""
    weights = iter([value for key, value in state.items() if key.endswith("conv.weight")])
    shrink = (1 + 1e-5) ** -0.5  # BatchNorm at mean 0, variance 1

    def conv(x: Tensor, activate: bool, stride: int = 1, padding: int = 0) -> Tensor:
        weight = next(weights)
        groups = x.shape[1] // weight.shape[1]
        x = functional.conv2d(x, weight, stride=stride, padding=padding, groups=groups) * shrink
        return torch.where(x > 0, x, 0.25 * x) if activate else x

    x = conv(images, True, 2, 1)
    x = conv(x, True, 1, 1)
    for _, channels, repeats, stride in BOTTLENECKS:
        for k in range(repeats):
            step = stride if k == 0 else 1
            out = conv(conv(conv(x, True), True, step, 1), False)
            x = x + out if step == 1 and x.shape[1] == channels else out
    x = conv(conv(x, True), False)[:, :, 0, 0]
    embeddings: Tensor = x @ state["linear.weight"].T * shrink
    return embeddings


def test_forward_follows_the_table() -> None:
    torch.manual_seed(0)
    net = mobilefacenet(16, image_size=(48, 32)).eval().double()
    images = torch.randn(2, 3, 48, 32, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(net(images), slow_forward(net.state_dict(), images), rtol=1e-9, atol=1e-12)


def test_only_equal_shapes_are_added() -> None:
    with torch.device("meta"):
        net = mobilefacenet()
    assert [net.conv_23.residual, net.conv_34.residual, net.conv_45.residual] == [False, False, False]
    parts = (net.conv_3, net.conv_4, net.conv_5)
    assert [module.residual for part in parts for module in part.modules() if isinstance(module, Bottleneck)] == [
        True
    ] * 12
