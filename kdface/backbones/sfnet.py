"""SFNet, the residual network of SphereFace and SphereFace-R, in the two published orders."""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal

from torch import Tensor, nn

from kdface.backbones.backbone import Backbone, EmbeddingSize, ImageSize, halved

UNITS = {  # residual blocks per layer; the name counts 3x3 convolutions
    4: (0, 0, 0, 0),
    10: (0, 1, 2, 0),
    20: (1, 2, 4, 1),
    36: (2, 4, 8, 2),
    64: (3, 8, 16, 3),
}
CHANNELS = (64, 128, 256, 512)

Order = Literal["add_relu", "relu_add"]


def _norm(channels: int, norm: bool) -> nn.Module:
    return nn.BatchNorm2d(channels) if norm else nn.Identity()


def _entry(inputs: int, outputs: int, norm: bool, order: Order) -> nn.Sequential:
    """The stride-2 convolution at the start of a layer; the two published orders name it differently."""
    conv = nn.Conv2d(inputs, outputs, 3, 2, padding=1, bias=not norm)
    if order == "relu_add":
        nn.init.xavier_normal_(conv.weight)
    else:
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    name = "conv" if order == "relu_add" else "conv1"
    return nn.Sequential(OrderedDict([(name, conv), ("bn1", _norm(outputs, norm)), ("relu", nn.ReLU())]))


class Block(nn.Module):
    """x + relu(F(x)) ("relu_add") or relu(x + F(x)) ("add_relu") with F = conv3x3 - ReLU - conv3x3."""

    def __init__(self, channels: int, norm: bool, order: Order) -> None:
        super().__init__()
        self.order = order
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=not norm)
        self.bn1 = _norm(channels, norm)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=not norm)
        self.bn2 = _norm(channels, norm)
        for conv in (self.conv1, self.conv2):
            if order == "relu_add":
                nn.init.normal_(conv.weight, std=0.01)
            else:
                nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, features: Tensor) -> Tensor:
        """Two 3x3 convolutions and the identity: relu(f(x)) + x or relu(f(x) + x), depending on `order`."""
        out: Tensor = self.bn2(self.conv2(self.bn1(self.conv1(features)).relu()))
        return out.relu() + features if self.order == "relu_add" else (out + features).relu()


class SFNet(Backbone):
    """Four layers, each a 3x3 convolution of stride 2 with ReLU followed by residual blocks; FC on the flattened map.

    Key names are OpenSphere's for either order. "relu_add" initialises strided convolutions Xavier normal and
    residual ones from N(0, 0.01^2); "add_relu" initialises all He normal (fan out).

    Args:
        units: residual blocks in layer1 to layer4.
        norm: BatchNorm after each convolution, which then has no bias, and on the embedding (`features`).
        order: "relu_add" as in SphereFace (2017) and OpenSphere's VGGFace2 runs, "add_relu" as in ResNet.
    """

    def __init__(
        self,
        units: tuple[int, int, int, int],
        embedding_size: int,
        norm: bool,
        order: Order,
        image_size: ImageSize,
    ) -> None:
        layers = {f"layer{index}": (f"layer{index}",) for index in (1, 2, 3, 4)}
        super().__init__(
            embedding_size,
            image_size,
            smallest=16,
            layout={**layers, "embedding": ("flatten", "fc", "features")},
        )
        width = 3
        for name, blocks, outputs in zip(layers, units, CHANNELS, strict=True):
            residual = (Block(outputs, norm, order) for _ in range(blocks))
            self.add_module(name, nn.Sequential(_entry(width, outputs, norm, order), *residual))
            width = outputs
        height_out, width_out = halved(self.image_size, 4)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(width * height_out * width_out, embedding_size)
        self.features = nn.BatchNorm1d(embedding_size) if norm else nn.Identity()


def sfnet4(
    embedding_size: EmbeddingSize = 512,
    norm: bool = False,
    order: Order = "relu_add",
    image_size: ImageSize = (112, 112),
) -> SFNet:
    """SFNet-4: no residual block."""
    return SFNet(UNITS[4], embedding_size, norm, order, image_size)


def sfnet10(
    embedding_size: EmbeddingSize = 512,
    norm: bool = False,
    order: Order = "relu_add",
    image_size: ImageSize = (112, 112),
) -> SFNet:
    """SFNet-10."""
    return SFNet(UNITS[10], embedding_size, norm, order, image_size)


def sfnet20(
    embedding_size: EmbeddingSize = 512,
    norm: bool = False,
    order: Order = "relu_add",
    image_size: ImageSize = (112, 112),
) -> SFNet:
    """SFNet-20: the backbone of the published SphereFace-R run (without BatchNorm)."""
    return SFNet(UNITS[20], embedding_size, norm, order, image_size)


def sfnet36(
    embedding_size: EmbeddingSize = 512,
    norm: bool = False,
    order: Order = "relu_add",
    image_size: ImageSize = (112, 112),
) -> SFNet:
    """SFNet-36."""
    return SFNet(UNITS[36], embedding_size, norm, order, image_size)


def sfnet64(
    embedding_size: EmbeddingSize = 512,
    norm: bool = False,
    order: Order = "relu_add",
    image_size: ImageSize = (112, 112),
) -> SFNet:
    """SFNet-64; with `norm=True, order="add_relu"`, OpenSphere's backbone for MS1M."""
    return SFNet(UNITS[64], embedding_size, norm, order, image_size)
