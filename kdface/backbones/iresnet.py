"""iResNet, the backbone of ArcFace, ElasticFace, MaskInv and AI-KD, with InsightFace's key names."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge, Le
from torch import Tensor, nn

from kdface.backbones.backbone import Backbone, Dropout, EmbeddingSize, ImageSize, halved
from kdface.backbones.prelu import PReLU

UNITS = {  # residual blocks per layer
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 14, 3),
    100: (3, 13, 30, 3),
}
CHANNELS = (64, 128, 256, 512)
SE_REDUCTION = 16  # ElasticFace

Width = Annotated[
    int, Ge(8), Le(65536)
]  # channels per layer; with 4, torch 2.13 writes out of bounds in channels_last on AVX2
Depth = Annotated[int, Ge(1), Le(1000)]  # residual blocks of a layer


class SqueezeExcitation(nn.Module):
    """Channel gate x * sigmoid(W2 relu(W1 mean_hw(x))), without biases (Hu et al. 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // SE_REDUCTION, 1, bias=False)
        self.fc2 = nn.Conv2d(channels // SE_REDUCTION, channels, 1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape: x * sigmoid(W2 relu(W1 mean(x)))."""
        squeezed = self.fc1(features.mean((2, 3), keepdim=True)).relu()
        gate: Tensor = self.fc2(squeezed).sigmoid()
        return features * gate


class Block(nn.Module):
    """BN - conv3x3 - BN - PReLU - conv3x3 (stride) - BN [- SE], plus the identity; nothing after the sum.

    The identity passes through a strided 1x1 convolution and BN if stride or width change.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, squeeze_excitation: bool) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.prelu = PReLU(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.se_block = SqueezeExcitation(outputs) if squeeze_excitation else None
        self.downsample: nn.Sequential | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', H', W'): shortcut + bn(conv(prelu(bn(conv(bn(x)))))), no activation after the sum."""
        out: Tensor = self.conv1(self.bn1(features))
        out = self.bn3(self.conv2(self.prelu(self.bn2(out))))
        if self.se_block is not None:
            out = self.se_block(out)
        identity: Tensor = features if self.downsample is None else self.downsample(features)
        return out + identity


class IResNet(Backbone):
    """A 3x3 stem, four layers of residual blocks that each start at stride 2, then BN - dropout - FC - BN.

    The FC takes the flattened map, channel-major. The last BatchNorm, `features`, has its weight fixed at 1.
    As in InsightFace, convolutions are initialised from N(0, 0.1^2), BatchNorm (eps 1e-5) with weight 1 and
    bias 0, PReLU with 0.25, FC with PyTorch's default.

    Args:
        units: residual blocks in layer1 to layer4.
        channels: channels of layer1 to layer4; the stem has channels[0].
        stem_stride: stride of the stem's convolution.
        squeeze_excitation: a channel gate after each block's last BatchNorm (`se_block.fc1`,
            `se_block.fc2`).
    """

    def __init__(
        self,
        units: tuple[int, int, int, int],
        channels: tuple[int, int, int, int],
        embedding_size: int,
        dropout: float,
        image_size: ImageSize,
        stem_stride: Literal[1, 2] = 1,
        squeeze_excitation: bool = False,
    ) -> None:
        layers = {f"layer{index}": (f"layer{index}",) for index in (1, 2, 3, 4)}
        super().__init__(
            embedding_size,
            image_size,
            smallest=16 * stem_stride,
            layout={
                "stem": ("conv1", "bn1", "prelu"),
                **layers,
                "embedding": ("bn2", "dropout", "flatten", "fc", "features"),
            },
        )
        width = channels[0]
        self.conv1 = nn.Conv2d(3, width, 3, stem_stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.prelu = PReLU(width)
        for name, blocks, outputs in zip(layers, units, channels, strict=True):
            first = Block(width, outputs, 2, squeeze_excitation)
            rest = (Block(outputs, outputs, 1, squeeze_excitation) for _ in range(blocks - 1))
            self.add_module(name, nn.Sequential(first, *rest))
            width = outputs
        height_out, width_out = halved(self.image_size, 4 if stem_stride == 1 else 5)
        self.bn2 = nn.BatchNorm2d(width)
        self.dropout = nn.Dropout(dropout)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(width * height_out * width_out, embedding_size)
        self.features = nn.BatchNorm1d(embedding_size)
        self.features.weight.requires_grad_(False)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.1)


def iresnet18(
    embedding_size: EmbeddingSize = 512,
    dropout: Dropout = 0.0,
    image_size: ImageSize = (112, 112),
    squeeze_excitation: bool = False,
) -> IResNet:
    """iResNet-18: 24,025,600 parameters at 512-d and 112x112."""
    return IResNet(UNITS[18], CHANNELS, embedding_size, dropout, image_size, squeeze_excitation=squeeze_excitation)


def iresnet34(
    embedding_size: EmbeddingSize = 512,
    dropout: Dropout = 0.0,
    image_size: ImageSize = (112, 112),
    squeeze_excitation: bool = False,
) -> IResNet:
    """iResNet-34: 34,139,328 parameters at 512-d and 112x112."""
    return IResNet(UNITS[34], CHANNELS, embedding_size, dropout, image_size, squeeze_excitation=squeeze_excitation)


def iresnet50(
    embedding_size: EmbeddingSize = 512,
    dropout: Dropout = 0.0,
    image_size: ImageSize = (112, 112),
    squeeze_excitation: bool = False,
) -> IResNet:
    """iResNet-50: 43,590,848 parameters at 512-d and 112x112."""
    return IResNet(UNITS[50], CHANNELS, embedding_size, dropout, image_size, squeeze_excitation=squeeze_excitation)


def iresnet100(
    embedding_size: EmbeddingSize = 512,
    dropout: Dropout = 0.0,
    image_size: ImageSize = (112, 112),
    squeeze_excitation: bool = False,
) -> IResNet:
    """iResNet-100: 65,156,160 parameters at 512-d and 112x112."""
    return IResNet(UNITS[100], CHANNELS, embedding_size, dropout, image_size, squeeze_excitation=squeeze_excitation)


def iresnet_nano(
    embedding_size: EmbeddingSize = 256,
    dropout: Dropout = 0.0,
    image_size: ImageSize = (112, 112),
    channels: tuple[Width, Width, Width, Width] = (16, 32, 96, 192),
    blocks: tuple[Depth, Depth, Depth, Depth] = (1, 2, 2, 1),
) -> IResNet:
    """A small iResNet for training on a CPU: the same blocks and key names after a stem of stride 2.

    At 112x112 the feature maps are 56 (stem), 28, 14, 7 and 4 pixels wide. The defaults have 1.6 million
    parameters and 52 million multiply-adds. Few channels at 56x56 keep the memory-bound BatchNorm and PReLU
    from dominating the convolutions.

    Args:
        channels: channels of layer1 to layer4; the stem has channels[0].
        blocks: residual blocks in layer1 to layer4.
    """
    return IResNet(blocks, channels, embedding_size, dropout, image_size, stem_stride=2)
