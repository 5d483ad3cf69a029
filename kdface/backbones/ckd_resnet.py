"""The network of CKD: a pre-activation IR-SE ResNet that flattens its last map, for images of any shape."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kdface.backbones.backbone import Backbone, EmbeddingSize, ImageSize, halved

CHANNELS = (64, 128, 256, 512)
SE_REDUCTION = 16


class SqueezeExcitation(nn.Module):
    """The channel gate sigmoid(W2 relu(W1 mean_hw(x) + b1) + b2), (N, C, H, W) -> (N, C, 1, 1) (Hu et al. 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, channels // SE_REDUCTION)
        self.fc2 = nn.Linear(channels // SE_REDUCTION, channels)

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) to a gate (N, C, 1, 1) in 0..1: sigmoid(W2 relu(W1 mean(x)))."""
        gate: Tensor = self.fc2(self.fc1(features.mean((2, 3))).relu()).sigmoid()
        return gate[:, :, None, None]


class Block(nn.Module):
    """SE(conv3x3,s(ReLU(BN(conv3x3(ReLU(BN(x))))))) + shortcut(x); no BN after the second convolution.

    The shortcut is x itself, or BN(conv1x1,s(x)) if the stride is not 1.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu2 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, stride, padding=1, bias=False)
        self.se = SqueezeExcitation(outputs)
        self.downsample: nn.Sequential | None = None
        if stride != 1:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', H', W'): shortcut + gate * conv(relu(bn(conv(relu(bn(x)))))) (pre-activation)."""
        out = self.conv1(self.relu1(self.bn1(features)))
        out = self.conv2(self.relu2(self.bn2(out)))
        shortcut = features if self.downsample is None else self.downsample(features)
        return torch.addcmul(shortcut, out, self.se(out))


class CKDResNet(Backbone):
    """A 3x3 stem without pooling, four layers of two blocks that each start at stride 2, then BN - FC - BN.

    The FC takes the flattened map. Convolutions are initialised He normal (fan out), all linear weights from
    N(0, 0.01^2) with PyTorch's default biases, BatchNorm with weight 1 and bias 0.

    Follows the official code of Jung et al., "Periocular Embedding Learning with Consistent Knowledge Distillation
    from Face" (arXiv 2012.06746).
    """

    def __init__(self, embedding_size: int, image_size: ImageSize) -> None:
        layers = {f"layer{index}": (f"layer{index}",) for index in (1, 2, 3, 4)}
        super().__init__(
            embedding_size,
            image_size,
            smallest=16,
            layout={"stem": ("conv1", "bn1", "relu"), **layers, "embedding": ("bn4", "flatten", "fc5", "bn5")},
        )
        width = CHANNELS[0]
        self.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        for name, outputs in zip(layers, CHANNELS, strict=True):
            self.add_module(name, nn.Sequential(Block(width, outputs, 2), Block(outputs, outputs, 1)))
            width = outputs
        height_out, width_out = halved(self.image_size, 4)
        self.bn4 = nn.BatchNorm2d(width)
        self.flatten = nn.Flatten()
        self.fc5 = nn.Linear(width * height_out * width_out, embedding_size)
        self.bn5 = nn.BatchNorm1d(embedding_size)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.01)


def ckd_resnet18(embedding_size: EmbeddingSize = 512, image_size: ImageSize = (128, 128)) -> CKDResNet:
    """CKD's ResNet-18: 28,041,016 parameters at 512-d and 128x128 (face), 17,555,256 at 48x128 (periocular)."""
    return CKDResNet(embedding_size, image_size)
