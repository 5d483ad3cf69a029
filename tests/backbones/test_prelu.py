"""The CPU backward pass of PReLU against PyTorch's."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kdface.backbones import iresnet_nano
from kdface.backbones.prelu import PReLU


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
def test_values_and_gradients_are_pytorch_s(memory_format: torch.memory_format) -> None:
    generator = torch.Generator().manual_seed(0)
    ours, theirs = PReLU(5).double(), nn.PReLU(5).double()
    with torch.no_grad():
        ours.weight.copy_(torch.tensor([0.25, 0.0, -0.5, 1.0, 2.0]))
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(3, 5, 4, 7, generator=generator, dtype=torch.float64).to(memory_format=memory_format)
    x[0, :, 0, 0] = 0.0  # the kink belongs to the negative side
    gradient = torch.randn(x.shape, generator=generator, dtype=torch.float64).to(memory_format=memory_format)
    results = []
    for module in (ours, theirs):
        given = x.clone().requires_grad_()
        out = module(given)
        out.backward(gradient)
        results.append((out, given.grad, module.weight.grad))
    for mine, expected in zip(*results, strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-12, atol=1e-12)


def test_gradient_is_the_derivative() -> None:
    module = PReLU(3).double()
    x = torch.randn(2, 3, 3, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert torch.autograd.gradcheck(module, (x.requires_grad_(),))


def test_runs_under_autocast_and_without_gradients() -> None:
    module = PReLU(3)
    x = torch.randn(2, 3, 3, 2, generator=torch.Generator().manual_seed(2))
    expected = torch.where(x > 0, x, 0.25 * x)
    with torch.inference_mode():
        torch.testing.assert_close(module(x), expected)
    with torch.autocast("cpu", torch.bfloat16):
        half = x.bfloat16().requires_grad_()
        out = module(half)
        out.float().sum().backward()
    torch.testing.assert_close(out.float(), expected, rtol=0.02, atol=0.02)
    assert half.grad is not None and torch.equal(half.grad.float(), torch.where(x.bfloat16() > 0, 1.0, 0.25))
    torch.testing.assert_close(module.weight.grad, half.detach().float().clamp(max=0).sum((0, 2, 3)), rtol=0.02, atol=0)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_a_network_is_traced_with_gradients_on() -> None:
    torch.manual_seed(0)
    net = iresnet_nano(8, image_size=(32, 32), channels=(8, 8, 8, 8), blocks=(1, 1, 1, 1)).eval()
    images = torch.randn(2, 3, 32, 32)
    traced = torch.jit.trace(net, images)  # type: ignore[no-untyped-call]  # compares it with the network
    torch.testing.assert_close(traced(images), net(images), rtol=0, atol=0)
