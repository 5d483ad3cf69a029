"""Inception-ResNet-v1 (Szegedy et al. 2017) as in the public FaceNet weights, with facenet-pytorch's keys."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from kdface.backbones.backbone import Backbone, Dropout, EmbeddingSize, ImageSize

BN_EPS = 1e-3  # as in the TensorFlow weights

Kernel = int | tuple[int, int]


def _conv(inputs: int, outputs: int, kernel: Kernel, stride: int = 1, same: bool = True) -> nn.Sequential:
    """Convolution without bias, BatchNorm and ReLU; `same` pads by k // 2, otherwise no padding."""
    height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
    padding = (height // 2, width // 2) if same else (0, 0)
    return nn.Sequential(
        OrderedDict(
            [
                ("conv", nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)),
                ("bn", nn.BatchNorm2d(outputs, eps=BN_EPS)),
                ("relu", nn.ReLU()),
            ]
        )
    )


def _chain(inputs: int, *steps: tuple[int, Kernel]) -> nn.Sequential:
    """A sequence of stride-1 convolutions, each given as (channels, kernel)."""
    widths = (inputs, *(outputs for outputs, _ in steps))
    return nn.Sequential(*(_conv(width, *step) for width, step in zip(widths[:-1], steps, strict=True)))


class Concat(nn.Module):
    """Parallel branches, concatenated along the channels."""

    def __init__(self, branches: list[nn.Module]) -> None:
        super().__init__()
        self.names = [f"branch{index}" for index in range(len(branches))]
        for name, branch in zip(self.names, branches, strict=True):
            self.add_module(name, branch)

    def forward(self, features: Tensor) -> Tensor:
        """The branches' maps side by side, along the channels."""
        return torch.cat([getattr(self, name)(features) for name in self.names], 1)


class Residual(Concat):
    """ReLU(x + scale * conv1x1(concatenated branches)); the last block of the network omits the ReLU."""

    def __init__(
        self, channels: int, branches: list[nn.Module], inner: int, scale: float, activate: bool = True
    ) -> None:
        super().__init__(branches)
        self.scale = scale
        self.activate = activate
        self.conv2d = nn.Conv2d(inner, channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        """x + scale * conv(branches(x)), through ReLU unless it is the last block."""
        out: Tensor = features + self.scale * self.conv2d(super().forward(features))
        return out.relu() if self.activate else out


def _block35() -> Residual:
    deep = _chain(256, (32, 1), (32, 3), (32, 3))
    return Residual(256, [_conv(256, 32, 1), _chain(256, (32, 1), (32, 3)), deep], 96, 0.17)


def _block17() -> Residual:
    deep = _chain(896, (128, 1), (128, (1, 7)), (128, (7, 1)))
    return Residual(896, [_conv(896, 128, 1), deep], 256, 0.10)


def _block8(scale: float = 0.20, activate: bool = True) -> Residual:
    deep = _chain(1792, (192, 1), (192, (1, 3)), (192, (3, 1)))
    return Residual(1792, [_conv(1792, 192, 1), deep], 384, scale, activate)


def _mixed_6a() -> Concat:
    deep = nn.Sequential(_conv(256, 192, 1), _conv(192, 192, 3), _conv(192, 256, 3, 2, same=False))
    return Concat([_conv(256, 384, 3, 2, same=False), deep, nn.MaxPool2d(3, 2)])


def _mixed_7a() -> Concat:
    wide = nn.Sequential(_conv(896, 256, 1), _conv(256, 384, 3, 2, same=False))
    narrow = nn.Sequential(_conv(896, 256, 1), _conv(256, 256, 3, 2, same=False))
    deep = nn.Sequential(_conv(896, 256, 1), _conv(256, 256, 3), _conv(256, 256, 3, 2, same=False))
    return Concat([wide, narrow, deep, nn.MaxPool2d(3, 2)])


class InceptionResnetV1(Backbone):
    """Stem, 5 Block35, reduction, 10 Block17, reduction, 6 Block8, global average, dropout, FC, BatchNorm.

    There is no classifier: `load_weights` ignores the published `logits.*`.
    """

    def __init__(self, embedding_size: int, dropout: float, image_size: ImageSize) -> None:
        blocks = ("repeat_1", "mixed_6a", "repeat_2", "mixed_7a", "repeat_3", "block8")
        stem = ("conv2d_1a", "conv2d_2a", "conv2d_2b", "maxpool_3a", "conv2d_3b", "conv2d_4a", "conv2d_4b")
        super().__init__(
            embedding_size,
            image_size,
            smallest=75,
            layout={
                "stem": stem,
                **{name: (name,) for name in blocks},
                "embedding": ("avgpool_1a", "dropout", "flatten", "last_linear", "last_bn"),
            },
        )
        self.conv2d_1a = _conv(3, 32, 3, 2, same=False)
        self.conv2d_2a = _conv(32, 32, 3, same=False)
        self.conv2d_2b = _conv(32, 64, 3)
        self.maxpool_3a = nn.MaxPool2d(3, 2)
        self.conv2d_3b = _conv(64, 80, 1)
        self.conv2d_4a = _conv(80, 192, 3, same=False)
        self.conv2d_4b = _conv(192, 256, 3, 2, same=False)
        self.repeat_1 = nn.Sequential(*(_block35() for _ in range(5)))
        self.mixed_6a = _mixed_6a()
        self.repeat_2 = nn.Sequential(*(_block17() for _ in range(10)))
        self.mixed_7a = _mixed_7a()
        self.repeat_3 = nn.Sequential(*(_block8() for _ in range(5)))
        self.block8 = _block8(scale=1.0, activate=False)
        self.avgpool_1a = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.flatten = nn.Flatten()
        self.last_linear = nn.Linear(1792, embedding_size, bias=False)
        self.last_bn = nn.BatchNorm1d(embedding_size, eps=BN_EPS)


def inception_resnet_v1(
    embedding_size: EmbeddingSize = 512, dropout: Dropout = 0.6, image_size: ImageSize = (160, 160)
) -> InceptionResnetV1:
    """Inception-ResNet-v1: 23,482,624 parameters at 512-d for any image size (at least 75 pixels)."""
    return InceptionResnetV1(embedding_size, dropout, image_size)
