"""NN1, the Zeiler & Fergus network of FaceNet (Schroff et al. 2015, table 1)."""

from __future__ import annotations

import math

from torch import Tensor, nn

from kdface.backbones.backbone import Backbone, EmbeddingSize, ImageSize, halved
from kdface.backbones.nn2 import conv

_HIDDEN = 32 * 128  # of both maxout layers


class Maxout(nn.Module):
    """Fully connected, the maximum of each two adjacent outputs (Goodfellow et al. 2013): (N, I) -> (N, O)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, 2 * outputs)
        nn.init.normal_(self.linear.weight, std=math.sqrt(1.0 / inputs))
        nn.init.zeros_(self.linear.bias)

    def forward(self, features: Tensor) -> Tensor:
        """(N, D) to (N, D'): the larger of each pair of linear outputs."""
        pairs: Tensor = self.linear(features)
        return pairs.view(len(pairs), -1, 2).max(2).values


class NN1(Backbone):
    """Convolutions with 1x1 reductions, local response normalisation, two maxout layers, FC; with biases.

    The paper gives no constants for the normalisation; these are GoogLeNet's, as in `NN2`.
    """

    def __init__(self, embedding_size: int, image_size: ImageSize) -> None:
        super().__init__(
            embedding_size,
            image_size,
            smallest=32,
            layout={
                "stem": ("conv1", "pool1", "norm1"),
                "layer2": ("conv2a", "conv2", "norm2", "pool2"),
                "layer3": ("conv3a", "conv3", "pool3"),
                "layer4": ("conv4a", "conv4", "conv5a", "conv5", "conv6a", "conv6", "pool4"),
                "hidden": ("flatten", "fc1", "fc2"),
                "embedding": ("fc7128",),
            },
        )
        self.conv1 = conv(3, 64, 7, 2)
        self.pool1 = nn.MaxPool2d(3, 2, padding=1)
        self.norm1 = nn.LocalResponseNorm(5)
        self.conv2a = conv(64, 64, 1)
        self.conv2 = conv(64, 192, 3)
        self.norm2 = nn.LocalResponseNorm(5)
        self.pool2 = nn.MaxPool2d(3, 2, padding=1)
        self.conv3a = conv(192, 192, 1)
        self.conv3 = conv(192, 384, 3)
        self.pool3 = nn.MaxPool2d(3, 2, padding=1)
        self.conv4a = conv(384, 384, 1)
        self.conv4 = conv(384, 256, 3)
        self.conv5a = conv(256, 256, 1)
        self.conv5 = conv(256, 256, 3)
        self.conv6a = conv(256, 256, 1)
        self.conv6 = conv(256, 256, 3)
        self.pool4 = nn.MaxPool2d(3, 2, padding=1)
        height, width = halved(self.image_size, 5)
        self.flatten = nn.Flatten()
        self.fc1 = Maxout(256 * height * width, _HIDDEN)
        self.fc2 = Maxout(_HIDDEN, _HIDDEN)
        self.fc7128 = nn.Linear(_HIDDEN, embedding_size)


def nn1(embedding_size: EmbeddingSize = 128, image_size: ImageSize = (220, 220)) -> NN1:
    """NN1: 140,025,664 parameters, 140,006,592 of them no biases, and 1,606 million multiply-adds at 128-d and 220x220.

    The paper's 140 million and 1.6 billion. Nearly all lie in the maxout layers, the first of which grows with the
    image.
    """
    return NN1(embedding_size, image_size)
