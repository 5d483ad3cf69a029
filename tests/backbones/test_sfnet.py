"""SFNet in both published orders against functional forward passes written from the definition."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from kdface.backbones import sfnet4, sfnet10, sfnet20


def slow_forward(state: dict[str, Tensor], images: Tensor, order: str) -> Tensor:
    """Without BatchNorm: conv-ReLU, then x + relu(conv(relu(conv(x)))) or relu(x + conv(relu(conv(x))))."""

    def conv(x: Tensor, name: str, stride: int = 1) -> Tensor:
        return functional.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], stride, padding=1)

    x = images
    for layer in (1, 2, 3, 4):
        entry = f"layer{layer}.0.conv" if order == "relu_add" else f"layer{layer}.0.conv1"
        x = conv(x, entry, 2).clamp_min(0)
        k = 1
        while f"layer{layer}.{k}.conv1.weight" in state:
            inner = conv(conv(x, f"layer{layer}.{k}.conv1").clamp_min(0), f"layer{layer}.{k}.conv2")
            x = x + inner.clamp_min(0) if order == "relu_add" else (x + inner).clamp_min(0)
            k += 1
    return x.reshape(len(x), -1) @ state["fc.weight"].T + state["fc.bias"]


@pytest.mark.parametrize("order", ["relu_add", "add_relu"])
def test_forward_follows_the_published_definition(order: str) -> None:
    torch.manual_seed(0)
    net = sfnet20(16, order=order, image_size=(32, 48))  # type: ignore[arg-type]
    for name, value in net.state_dict().items():
        if "layer" in name and ".0." not in name and value.ndim == 4:
            value.mul_(5.0 if order == "relu_add" else 1.0)  # N(0, 0.01^2) would hide the residual branch
    net = net.eval().double()
    images = torch.randn(2, 3, 32, 48, dtype=torch.float64)
    with torch.no_grad():
        expected = slow_forward(net.state_dict(), images, order)
        torch.testing.assert_close(net(images), expected, rtol=1e-9, atol=1e-12)


def test_the_orders_differ_in_values_alone() -> None:
    torch.manual_seed(0)
    first = sfnet10(8, norm=False, order="add_relu", image_size=(32, 32)).eval()
    second = sfnet10(8, norm=False, order="relu_add", image_size=(32, 32)).eval()
    renamed = {k.replace(".0.conv1.", ".0.conv."): v for k, v in first.state_dict().items()}
    second.load_state_dict(renamed)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert not torch.allclose(first(images), second(images))


def test_batchnorm_takes_the_place_of_the_bias() -> None:
    with torch.device("meta"):
        keys = set(sfnet4(norm=True, order="add_relu").state_dict())
    norm = {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}
    expected = {f"layer{layer}.0.conv1.weight" for layer in (1, 2, 3, 4)} | {"fc.weight", "fc.bias"}
    expected |= {f"layer{layer}.0.bn1.{entry}" for layer in (1, 2, 3, 4) for entry in norm}
    assert keys == expected | {f"features.{entry}" for entry in norm}


def test_start_follows_the_order() -> None:
    torch.manual_seed(0)
    old, new = sfnet20(8, image_size=(16, 16)), sfnet20(8, order="add_relu", image_size=(16, 16))
    # Each holds over two million draws, so the standard error of the deviation is under 0.05 %.
    assert old.get_parameter("layer4.1.conv1.weight").std().item() == pytest.approx(0.01, rel=0.005)
    assert new.get_parameter("layer4.1.conv1.weight").std().item() == pytest.approx((2 / (512 * 9)) ** 0.5, rel=0.005)
    # Xavier: 2 / (fan in + fan out), of 256 and 512 channels.
    assert old.get_parameter("layer4.0.conv.weight").std().item() == pytest.approx((2 / (768 * 9)) ** 0.5, rel=0.005)
