"""iResNet against the published key table and a functional forward pass written from the definition."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from kdface.backbones import iresnet18, iresnet34, iresnet50, iresnet100, iresnet_nano
from kdface.backbones.iresnet import IResNet

DEPTHS = [
    (iresnet18, (2, 2, 2, 2)),
    (iresnet34, (3, 4, 6, 3)),
    (iresnet50, (3, 4, 14, 3)),
    (iresnet100, (3, 13, 30, 3)),
]


def published_keys(units: tuple[int, ...], squeeze_excitation: bool) -> dict[str, tuple[int, ...]]:
    """Every key of InsightFace's `backbone.pth` with its shape."""
    keys: dict[str, tuple[int, ...]] = {}

    def norm(name: str, channels: int) -> None:
        for entry in ("weight", "bias", "running_mean", "running_var"):
            keys[f"{name}.{entry}"] = (channels,)
        keys[f"{name}.num_batches_tracked"] = ()

    keys["conv1.weight"] = (64, 3, 3, 3)
    norm("bn1", 64)
    keys["prelu.weight"] = (64,)
    inputs = 64
    for layer, (blocks, channels) in enumerate(zip(units, (64, 128, 256, 512), strict=True), start=1):
        for k in range(blocks):
            block = f"layer{layer}.{k}"
            norm(f"{block}.bn1", inputs)
            keys[f"{block}.conv1.weight"] = (channels, inputs, 3, 3)
            norm(f"{block}.bn2", channels)
            keys[f"{block}.prelu.weight"] = (channels,)
            keys[f"{block}.conv2.weight"] = (channels, channels, 3, 3)
            norm(f"{block}.bn3", channels)
            if squeeze_excitation:
                keys[f"{block}.se_block.fc1.weight"] = (channels // 16, channels, 1, 1)
                keys[f"{block}.se_block.fc2.weight"] = (channels, channels // 16, 1, 1)
            if k == 0:
                keys[f"{block}.downsample.0.weight"] = (channels, inputs, 1, 1)
                norm(f"{block}.downsample.1", channels)
            inputs = channels
    norm("bn2", 512)
    keys["fc.weight"] = (512, 512 * 7 * 7)
    keys["fc.bias"] = (512,)
    norm("features", 512)
    return keys


@pytest.mark.parametrize("squeeze_excitation", [False, True])
@pytest.mark.parametrize(("constructor", "units"), DEPTHS, ids=["18", "34", "50", "100"])
def test_keys_and_shapes_are_insightface_s(
    constructor: Callable[..., IResNet], units: tuple[int, ...], squeeze_excitation: bool
) -> None:
    with torch.device("meta"):
        state = constructor(squeeze_excitation=squeeze_excitation).state_dict()
    found = {key: tuple(value.shape) for key, value in state.items()}
    assert found == published_keys(units, squeeze_excitation)


def slow_forward(state: dict[str, Tensor], images: Tensor, stem_stride: int) -> Tensor:
    """The network in evaluation mode, from the published description and a state dict alone."""

    def norm(x: Tensor, name: str) -> Tensor:
        shape = (1, -1) + (1,) * (x.ndim - 2)
        mean, var = state[f"{name}.running_mean"].view(shape), state[f"{name}.running_var"].view(shape)
        weight, bias = state[f"{name}.weight"].view(shape), state[f"{name}.bias"].view(shape)
        return (x - mean) / torch.sqrt(var + 1e-5) * weight + bias

    def prelu(x: Tensor, name: str) -> Tensor:
        return torch.where(x > 0, x, x * state[f"{name}.weight"].view(1, -1, 1, 1))

    x = functional.conv2d(images, state["conv1.weight"], stride=stem_stride, padding=1)
    x = prelu(norm(x, "bn1"), "prelu")
    for layer in (1, 2, 3, 4):
        k = 0
        while f"layer{layer}.{k}.conv1.weight" in state:
            block, stride = f"layer{layer}.{k}", 2 if k == 0 else 1
            out = functional.conv2d(norm(x, f"{block}.bn1"), state[f"{block}.conv1.weight"], padding=1)
            out = prelu(norm(out, f"{block}.bn2"), f"{block}.prelu")
            out = functional.conv2d(out, state[f"{block}.conv2.weight"], stride=stride, padding=1)
            out = norm(out, f"{block}.bn3")
            if f"{block}.se_block.fc1.weight" in state:
                pooled = out.mean((2, 3))
                squeezed = (pooled @ state[f"{block}.se_block.fc1.weight"][:, :, 0, 0].T).clamp_min(0)
                gate = torch.sigmoid(squeezed @ state[f"{block}.se_block.fc2.weight"][:, :, 0, 0].T)
                out = out * gate[:, :, None, None]
            if k == 0:
                shortcut = functional.conv2d(x, state[f"{block}.downsample.0.weight"], stride=2)
                x = norm(shortcut, f"{block}.downsample.1")
            x = x + out
            k += 1
    flat = norm(x, "bn2").reshape(len(x), -1)
    return norm(flat @ state["fc.weight"].T + state["fc.bias"], "features")


def scrambled(net: IResNet) -> IResNet:
    """Every BatchNorm away from the identity, so that a misplaced one shows."""
    generator = torch.Generator().manual_seed(3)
    for name, value in net.state_dict().items():
        if value.is_floating_point() and value.ndim == 1:
            value.copy_(torch.rand(value.shape, generator=generator) + (0.5 if "mean" not in name else -0.5))
    return net.eval().double()


@pytest.mark.parametrize(
    ("make", "stem_stride"),
    [
        (lambda: iresnet18(embedding_size=16, image_size=(37, 32)), 1),
        (lambda: iresnet18(embedding_size=16, image_size=(32, 48), squeeze_excitation=True), 1),
        (lambda: iresnet_nano(16, 0.0, (64, 41), channels=(8, 8, 16, 24), blocks=(1, 2, 3, 1)), 2),
    ],
    ids=["18", "18-se", "nano"],
)
def test_forward_follows_the_published_definition(make: Callable[[], IResNet], stem_stride: int) -> None:
    made = scrambled(make())
    images = torch.randn(2, 3, *made.image_size, dtype=torch.float64)
    with torch.no_grad():
        expected = slow_forward(made.state_dict(), images, stem_stride)
        torch.testing.assert_close(made(images), expected, rtol=1e-9, atol=1e-9)


def test_start_and_the_fixed_weight() -> None:
    torch.manual_seed(0)
    net = iresnet18(embedding_size=32, image_size=(32, 32))
    assert not net.features.weight.requires_grad
    assert torch.equal(net.features.weight, torch.ones(32))
    assert net.features.bias.requires_grad
    convolution = net.get_parameter(
        "layer4.1.conv1.weight"
    )  # 2.4 million draws: the standard error of the deviation is 5e-5
    assert abs(convolution.std().item() - 0.1) < 3e-4
    assert {m.eps for m in net.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)} == {1e-5}
    assert torch.equal(net.get_parameter("layer3.0.prelu.weight"), torch.full((256,), 0.25))


def test_the_fully_connected_layer_follows_the_image_size() -> None:
    with torch.device("meta"):
        assert iresnet18(image_size=(112, 96)).fc.in_features == 512 * 7 * 6
        assert iresnet18(image_size=(64, 128)).fc.in_features == 512 * 4 * 8
        assert iresnet_nano(image_size=(112, 96)).fc.in_features == 192 * 4 * 3  # 112/32 and 96/32, rounded up


def test_nano_parameters_by_closed_form() -> None:
    channels, blocks, size = (8, 16, 24, 40), (1, 2, 3, 1), 20
    expected = 3 * 9 * 8 + 3 * 8  # stem: convolution, BatchNorm, PReLU
    inputs = 8
    for width, depth in zip(channels, blocks, strict=True):
        for k in range(depth):
            expected += 2 * inputs + 9 * inputs * width + 2 * width + width + 9 * width * width + 2 * width
            expected += inputs * width + 2 * width if k == 0 else 0
            inputs = width
    expected += 2 * 40 + (40 * 4 * 4 * size + size) + 2 * size  # 112x112: a last map of 4x4
    with torch.device("meta"):
        net = iresnet_nano(size, channels=channels, blocks=blocks)
    assert sum(p.numel() for p in net.parameters()) == expected


def test_dropout_acts_while_training_only() -> None:
    torch.manual_seed(0)
    net = iresnet_nano(16, 0.5, (32, 32), channels=(4, 4, 4, 8), blocks=(1, 1, 1, 1))
    images = torch.randn(4, 3, 32, 32)
    dropped = dict(net.named_children())["dropout"](torch.ones(1000))
    assert 350 < int((dropped == 0).sum()) < 650
    net.eval()
    assert torch.equal(net(images), net(images))
