"""MobileFaceNet (Chen et al. 2018, arXiv 1804.07573): a face network of about one million parameters."""

from __future__ import annotations

from collections import OrderedDict
from typing import Annotated

from annotated_types import Ge, Le
from torch import Tensor, nn

from kdface.backbones.backbone import Backbone, EmbeddingSize, ImageSize, halved
from kdface.backbones.iresnet import Depth
from kdface.backbones.prelu import PReLU

PAPER = (1, 4, 6, 2)  # blocks of the stem's second part and of the three layers


def _conv(
    inputs: int,
    outputs: int,
    kernel: int | tuple[int, int],
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
    activate: bool = True,
) -> nn.Sequential:
    """Convolution, BatchNorm and, unless linear, PReLU per channel."""
    parts: list[tuple[str, nn.Module]] = [
        ("conv", nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)),
        ("bn", nn.BatchNorm2d(outputs)),
    ]
    if activate:
        parts.append(("prelu", PReLU(outputs)))
    return nn.Sequential(OrderedDict(parts))


class Bottleneck(nn.Module):
    """Inverted residual: 1x1 to `inner` channels, 3x3 depthwise (stride), linear 1x1; plus the input at stride 1."""

    def __init__(self, inputs: int, outputs: int, inner: int, stride: int) -> None:
        super().__init__()
        self.residual = stride == 1 and inputs == outputs
        self.conv = _conv(inputs, inner, 1)
        self.conv_dw = _conv(inner, inner, 3, stride, padding=1, groups=inner)
        self.project = _conv(inner, outputs, 1, activate=False)

    def forward(self, features: Tensor) -> Tensor:
        """Expand by 1x1, filter each channel by 3x3, project by 1x1; plus x if the shapes match."""
        out: Tensor = self.project(self.conv_dw(self.conv(features)))
        return out + features if self.residual else out


def _repeat(channels: int, inner: int, blocks: int) -> nn.Sequential:
    """Residual bottlenecks, named `model` as in the published weights."""
    bottlenecks = nn.Sequential(*(Bottleneck(channels, channels, inner, 1) for _ in range(blocks)))
    return nn.Sequential(OrderedDict([("model", bottlenecks)]))


class MobileFaceNet(Backbone):
    """Table 1 of the paper, with the key names of the common PyTorch port (InsightFace_Pytorch).

    The last map is not averaged: a depthwise convolution of its full size (GDConv, 7x7 at 112x112) weights
    each cell.

    InsightFace's variants multiply the channels between bottlenecks by `width` and keep those inside; the second
    convolution of the stem, still with 64 groups, then has `width` channels per group.
    """

    def __init__(
        self,
        embedding_size: int,
        image_size: ImageSize,
        width: int = 1,
        blocks: tuple[int, int, int, int] = PAPER,
    ) -> None:
        super().__init__(
            embedding_size,
            image_size,
            smallest=16,
            layout={
                "stem": ("conv1", "conv2_dw"),
                "layer1": ("conv_23", "conv_3"),
                "layer2": ("conv_34", "conv_4"),
                "layer3": ("conv_45", "conv_5"),
                "embedding": ("conv_6_sep", "conv_6_dw", "conv_6_flatten", "linear", "bn"),
            },
        )
        narrow, wide = 64 * width, 128 * width
        self.conv1 = _conv(3, narrow, 3, 2, padding=1)
        self.conv2_dw = (
            _conv(narrow, narrow, 3, padding=1, groups=64) if blocks[0] == 1 else _repeat(narrow, 128, blocks[0])
        )
        self.conv_23 = Bottleneck(narrow, narrow, 128, 2)
        self.conv_3 = _repeat(narrow, 128, blocks[1])
        self.conv_34 = Bottleneck(narrow, wide, 256, 2)
        self.conv_4 = _repeat(wide, 256, blocks[2])
        self.conv_45 = Bottleneck(wide, wide, 512, 2)
        self.conv_5 = _repeat(wide, 256, blocks[3])
        self.conv_6_sep = _conv(wide, 512, 1)
        self.conv_6_dw = _conv(512, 512, halved(self.image_size, 4), groups=512, activate=False)
        self.conv_6_flatten = nn.Flatten()
        self.linear = nn.Linear(512, embedding_size, bias=False)
        self.bn = nn.BatchNorm1d(embedding_size)


def mobilefacenet(embedding_size: EmbeddingSize = 512, image_size: ImageSize = (112, 112)) -> MobileFaceNet:
    """MobileFaceNet: 1,200,512 parameters at 512-d and 1,003,136 at the paper's 128-d.

    The paper's 0.99 million are at 128-d with BatchNorm folded into the convolutions; 221 million multiply-adds.
    """
    return MobileFaceNet(embedding_size, image_size)


def mobilefacenet_wide(
    embedding_size: EmbeddingSize = 512,
    image_size: ImageSize = (112, 112),
    width: Annotated[int, Ge(1), Le(64)] = 2,
    blocks: tuple[Depth, Depth, Depth, Depth] = PAPER,
) -> MobileFaceNet:
    """InsightFace's MobileFaceNet (`mbf`): 2,059,520 parameters at 512-d.

    Args:
        width: channels between the bottlenecks, as a multiple of the paper's; 4 is `mbf_large`.
        blocks: of the stem's second part and of the three layers; (2, 8, 12, 4) is `mbf_large`.
    """
    return MobileFaceNet(embedding_size, image_size, width, blocks)
