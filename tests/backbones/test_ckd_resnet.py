"""CKD's network against the fact sheet: sizes, start, and a functional forward pass written from its description."""

from __future__ import annotations

import math

import pytest
import torch
import yaml
from torch import Tensor, nn
from torch.nn import functional

from kdface.backbones.ckd_resnet import CKDResNet, ckd_resnet18
from kdface.config.paths import conf_folder
from kdface.heads import Softmax

FACE, PERIOCULAR = (128, 128), (48, 128)
CLASSIFIER = 1054 * 512 + 1054


def size_of(*modules: nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters() if parameter.requires_grad)


def on_meta(image_size: tuple[int, int]) -> CKDResNet:
    with torch.device("meta"):
        return ckd_resnet18(image_size=image_size)


def test_sizes_of_the_sheet() -> None:
    """CKD sheet 1, "Sizes", all counted by running the official code."""
    face, periocular = on_meta(FACE), on_meta(PERIOCULAR)
    with torch.device("meta"):
        head = Softmax(embedding_size=512, num_classes=1054)
    assert size_of(head) == CLASSIFIER
    assert size_of(face, head) == 28_581_718
    assert size_of(periocular) == 17_555_256
    assert size_of(periocular, head) == 18_095_958
    assert size_of(*(stage for name, stage in face.stages()[:4])) == 2_801_400


def test_maps_of_the_sheet() -> None:
    """The table of section 1: what each stage gives for both kinds of image."""
    expected = [(64, 1), (64, 2), (128, 4), (256, 8), (512, 16)]
    for height, width in (FACE, PERIOCULAR):
        features = torch.empty(2, 3, height, width, device="meta")
        for (name, stage), (channels, divisor) in zip(on_meta((height, width)).stages(), expected, strict=False):
            features = stage(features)
            assert features.shape == (2, channels, height // divisor, width // divisor), name
    assert on_meta(FACE).fc5.in_features == 32768
    assert on_meta(PERIOCULAR).fc5.in_features == 12288


def slow_forward(state: dict[str, Tensor], images: Tensor) -> Tensor:
    """Evaluation mode, from the sheet's description and a state dict alone."""

    def norm(x: Tensor, name: str) -> Tensor:
        shape = (1, -1) + (1,) * (x.ndim - 2)
        mean, var = state[f"{name}.running_mean"].view(shape), state[f"{name}.running_var"].view(shape)
        weight, bias = state[f"{name}.weight"].view(shape), state[f"{name}.bias"].view(shape)
        return (x - mean) / torch.sqrt(var + 1e-5) * weight + bias

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    x = norm(functional.conv2d(images, state["conv1.weight"], padding=1), "bn1").clamp_min(0)
    for layer in (1, 2, 3, 4):
        for k in (0, 1):
            block, stride = f"layer{layer}.{k}", 2 - k
            v = functional.conv2d(norm(x, f"{block}.bn1").clamp_min(0), state[f"{block}.conv1.weight"], padding=1)
            u = norm(v, f"{block}.bn2").clamp_min(0)
            w = functional.conv2d(u, state[f"{block}.conv2.weight"], stride=stride, padding=1)
            gate = torch.sigmoid(linear(linear(w.mean((2, 3)), f"{block}.se.fc1").clamp_min(0), f"{block}.se.fc2"))
            if k == 0:
                shortcut = functional.conv2d(x, state[f"{block}.downsample.0.weight"], stride=2)
                x = norm(shortcut, f"{block}.downsample.1")
            x = w * gate[:, :, None, None] + x
    return norm(linear(norm(x, "bn4").reshape(len(x), -1), "fc5"), "bn5")


@pytest.mark.parametrize("image_size", [(24, 64), (33, 18)])
def test_forward_follows_the_sheet(image_size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    net = ckd_resnet18(embedding_size=16, image_size=image_size)
    draws = torch.Generator().manual_seed(3)
    for name, value in net.state_dict().items():
        if value.is_floating_point() and value.ndim == 1:
            value.copy_(torch.rand(value.shape, generator=draws) + (0.5 if "mean" not in name else -0.5))
    net.eval().double()
    images = torch.randn(2, 3, *image_size, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(net(images), slow_forward(net.state_dict(), images), rtol=1e-9, atol=1e-9)


def test_start_of_the_sheet() -> None:
    """Of the classifier too, with the head's values of `experiment=ckd/official`."""
    official = yaml.safe_load((conf_folder() / "experiment" / "ckd" / "official.yaml").read_text("utf-8"))
    torch.manual_seed(0)
    net = nn.Sequential(ckd_resnet18(image_size=(16, 32)), nn.Module())
    net[1].linear = nn.Linear(512, 1054)  # holds the head's weights where the loop looks for them
    head = Softmax(512, 1054, **official["head"])
    assert head.bias is not None
    net[1].linear.weight, net[1].linear.bias = head.weight, head.bias
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d):
            deviation = math.sqrt(2 / (module.out_channels * math.prod(module.kernel_size)))
        elif isinstance(module, nn.Linear):
            deviation = 0.01
            bound = 1 / math.sqrt(module.in_features)
            assert module.bias.abs().max() <= bound, name
            assert module.bias.abs().max() > bound / 4, name
        else:
            continue
        error = 5 * deviation / math.sqrt(2 * module.weight.numel())  # five standard errors of the deviation
        assert abs(module.weight.std().item() - deviation) < error, name
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d)]
    assert len(norms) == 1 + 2 * 8 + 4 + 2
    for norm in norms:
        assert norm.eps == 1e-5 and norm.momentum == 0.1
        assert torch.equal(norm.weight, torch.ones_like(norm.weight)) and not norm.bias.any()
