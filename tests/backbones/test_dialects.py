"""State dicts that name our layers otherwise: the same embedding as a forward pass written over those names."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

import kdface.backbones as room
from kdface.assembly.build import build
from kdface.backbones import load_weights
from kdface.backbones.dialects import insightface_mobile
from kdface.backbones.inferred import inferred, nearest_backbone

State = dict[str, Tensor]


class Written:
    """Makes the weights that a forward pass asks for, and computes with them."""

    def __init__(self, seed: int = 0) -> None:
        self.state: State = {}
        self.draw = torch.Generator().manual_seed(seed)

    def conv(self, name: str, x: Tensor, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> Tensor:
        shape = (outputs, x.shape[1] // groups, kernel, kernel)
        scale = (shape[1] * kernel**2) ** -0.5
        weight = self.state.setdefault(f"{name}.weight", torch.randn(shape, generator=self.draw) * scale)
        return functional.conv2d(x, weight, None, stride, kernel // 2, 1, groups)

    def norm(self, name: str, x: Tensor, affine: bool = True) -> Tensor:
        width = x.shape[1]
        own = {"running_mean": torch.randn(width, generator=self.draw) * 0.1}
        own["running_var"] = torch.rand(width, generator=self.draw) + 0.5
        if affine:
            own["weight"] = torch.rand(width, generator=self.draw) + 0.5
            own["bias"] = torch.randn(width, generator=self.draw) * 0.1
        own["num_batches_tracked"] = torch.tensor(3)
        self.state |= {f"{name}.{key}": value for key, value in own.items() if f"{name}.{key}" not in self.state}
        mean, variance = self.state[f"{name}.running_mean"], self.state[f"{name}.running_var"]
        return functional.batch_norm(
            x, mean, variance, self.state.get(f"{name}.weight"), self.state.get(f"{name}.bias")
        )

    def prelu(self, name: str, x: Tensor) -> Tensor:
        slopes = self.state.setdefault(f"{name}.weight", torch.rand(x.shape[1], generator=self.draw) * 0.3)
        return functional.prelu(x, slopes)

    def linear(self, name: str, x: Tensor, outputs: int, bias: bool) -> Tensor:
        weight = torch.randn(outputs, x.shape[1], generator=self.draw) * x.shape[1] ** -0.5
        self.state[f"{name}.weight"] = weight
        if bias:
            self.state[f"{name}.bias"] = torch.randn(outputs, generator=self.draw)
        return functional.linear(x, weight, self.state.get(f"{name}.bias"))


def adaface(written: Written, x: Tensor, units: tuple[int, ...], gated: bool = False) -> Tensor:
    x = written.prelu("input_layer.2", written.norm("input_layer.1", written.conv("input_layer.0", x, 64)))
    number = 0
    for width, count in zip((64, 128, 256, 512), units, strict=True):
        for block in range(count):
            name, stride = f"body.{number}", 1 if block else 2
            number += 1
            if x.shape[1] == width:
                identity = x[:, :, ::stride, ::stride]
            else:
                identity = written.conv(f"{name}.shortcut_layer.0", x, width, 1, stride)
                identity = written.norm(f"{name}.shortcut_layer.1", identity)
            y = written.conv(f"{name}.res_layer.1", written.norm(f"{name}.res_layer.0", x), width)
            y = written.prelu(f"{name}.res_layer.3", written.norm(f"{name}.res_layer.2", y))
            y = written.norm(f"{name}.res_layer.5", written.conv(f"{name}.res_layer.4", y, width, 3, stride))
            if gated:
                gate = y.mean((2, 3), keepdim=True)
                gate = written.conv(f"{name}.res_layer.se_block.fc1", gate, width // 16, 1).relu()
                y = y * written.conv(f"{name}.res_layer.se_block.fc2", gate, width, 1).sigmoid()
            x = y + identity
    x = written.linear("output_layer.3", written.norm("output_layer.0", x).flatten(1), 24, bias=True)
    return written.norm("output_layer.4", x, affine=False)


def insightface_mobilefacenet(written: Written, x: Tensor, width: int, blocks: tuple[int, ...]) -> Tensor:
    def unit(name: str, x: Tensor, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> Tensor:
        y = written.norm(f"{name}.1", written.conv(f"{name}.0", x, outputs, kernel, stride, groups))
        return y if f"{name}.2" in linear else written.prelu(f"{name}.2", y)

    def bottleneck(name: str, x: Tensor, outputs: int, inner: int, stride: int) -> Tensor:
        linear.add(f"{name}.2.layers.2")
        y = unit(f"{name}.0.layers", x, inner, 1)
        y = unit(f"{name}.1.layers", y, inner, 3, stride, inner)
        return unit(f"{name}.2.layers", y, outputs, 1)

    linear = {"features.layers.0.layers.2"}
    narrow, wide = 64 * width, 128 * width
    x = unit("layers.0.layers", x, narrow, 3, 2)
    if blocks[0] == 1:
        x = unit("layers.1.layers", x, narrow, 3, groups=64)
    else:
        for block in range(blocks[0]):
            x = x + bottleneck(f"layers.1.layers.{block}.layers", x, narrow, 128, 1)
    layers = [(narrow, 128, 128, blocks[1]), (wide, 256, 256, blocks[2]), (wide, 512, 256, blocks[3])]
    for place, (outputs, first, inner, count) in enumerate(layers):
        x = bottleneck(f"layers.{2 * place + 2}.layers", x, outputs, first, 2)
        for block in range(count):
            x = x + bottleneck(f"layers.{2 * place + 3}.layers.{block}.layers", x, outputs, inner, 1)
    x = unit("conv_sep.layers", x, 512, 1)
    x = unit("features.layers.0.layers", x, 512, 1, groups=512)  # images of 16x16 leave one cell
    return written.norm("features.layers.3", written.linear("features.layers.2", x.flatten(1), 24, bias=False))


@pytest.mark.parametrize("gated", [False, True])
def test_adaface(gated: bool) -> None:
    images, written = torch.randn(3, 3, 16, 16), Written()
    theirs = adaface(written, images, (2, 2, 2, 2), gated)
    found = inferred(written.state)
    gates = {"squeeze_excitation": True} if gated else {}
    assert found == {"_target_": "kdface.backbones.iresnet18", "embedding_size": 24, **gates}
    net = build(found, "backbone", image_size=(16, 16)).eval()
    load_weights(net, {"state_dict": {f"model.{key}": value for key, value in written.state.items()}})
    with torch.no_grad():
        torch.testing.assert_close(net(images), theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("width", "blocks"), [(1, (1, 4, 6, 2)), (2, (1, 4, 6, 2)), (2, (2, 1, 2, 1))])
def test_mobilefacenet_of_insightface(width: int, blocks: tuple[int, int, int, int]) -> None:
    images, written = torch.randn(3, 3, 16, 16), Written()
    theirs = insightface_mobilefacenet(written, images, width, blocks)
    found = inferred(written.state)
    assert found is not None
    name, own = ("mobilefacenet", {}) if width == 1 else ("mobilefacenet_wide", {"width": width, "blocks": [*blocks]})
    assert found == {"_target_": f"kdface.backbones.{name}", "embedding_size": 24, **own}
    net = build(found, "backbone", image_size=(16, 16)).eval()
    load_weights(net, {f"module.{key}": value for key, value in written.state.items()})
    with torch.no_grad():
        torch.testing.assert_close(net(images), theirs, rtol=1e-4, atol=1e-5)
    assert {insightface_mobile(key) for key in net.state_dict()} == set(written.state)


def test_what_names_and_shapes_tell() -> None:
    """A backbone by its own state dict: name and embedding size, and width and depth where they vary."""
    with torch.device("meta"):
        for name in ("iresnet18", "nn4", "nns2", "inception_resnet_v1", "ckd_resnet18", "mobilefacenet_wide"):
            found = inferred(getattr(room, name)(embedding_size=33).state_dict())
            assert found is not None and found["embedding_size"] == 33, name
            assert found["_target_"] == f"kdface.backbones.{name}", name
        small = room.iresnet_nano(5, image_size=(32, 32), channels=(8, 9, 10, 11), blocks=(1, 2, 3, 1))
        told = nearest_backbone(small.state_dict())
        normed = inferred(room.sfnet20(norm=True, order="add_relu").state_dict())
        plain = room.sfnet20(order="add_relu").state_dict()
    assert told == "iresnet_nano with embedding_size=5, channels=[8, 9, 10, 11], blocks=[1, 2, 3, 1]"
    assert normed is not None and normed["norm"] and normed["order"] == "add_relu"
    unknown = inferred(plain)
    assert unknown is not None and "order" not in unknown  # both orders have these names on branch v0


def test_what_is_no_such_network_is_not_guessed() -> None:
    written = Written()
    adaface(written, torch.randn(2, 3, 16, 16), (1, 1, 2, 1))
    assert inferred(written.state) is None
    deeper = {"input_layer.0.weight": torch.zeros(64, 3, 3, 3), "body.0.res_layer.5.weight": torch.zeros(64)}
    assert inferred(deeper) is None and inferred({"conv_sep.layers.0.weight": torch.zeros(1)}) is None
