"""NN2, the Inception network of FaceNet (Schroff et al. 2015, table 2), and its smaller kin NN4 and NNS2.

At 160x160 NN2 is the paper's NN3.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from kdface.backbones.backbone import Backbone, EmbeddingSize, ImageSize


class Row(NamedTuple):
    """One row of the paper's table, in channels. A 0 leaves out the 1x1 branch, the 5x5 branch or the projection."""

    single: int
    reduce3: int
    conv3: int
    reduce5: int
    conv5: int
    project: int
    pool: Literal["max", "l2"]
    stride: int

    def outputs(self, inputs: int) -> int:
        """The channels that this row gives for `inputs` channels; a pool without projection passes them on."""
        return self.single + self.conv3 + self.conv5 + (self.project or inputs)


Table = Mapping[str, tuple[Row, ...]]
Stem = tuple[int, int, int]  # channels of conv1 and of the two convolutions of Inception 2

STEM: Stem = (64, 64, 192)
TABLE: Table = {
    "inception3": (  # 3a, 3b, 3c
        Row(64, 96, 128, 16, 32, 32, "max", stride=1),
        Row(64, 96, 128, 32, 64, 64, "l2", stride=1),
        Row(0, 128, 256, 32, 64, 0, "max", stride=2),
    ),
    "inception4": (  # 4a to 4e
        Row(256, 96, 192, 32, 64, 128, "l2", stride=1),
        Row(224, 112, 224, 32, 64, 128, "l2", stride=1),
        Row(192, 128, 256, 32, 64, 128, "l2", stride=1),
        Row(160, 144, 288, 32, 64, 128, "l2", stride=1),
        Row(0, 160, 256, 64, 128, 0, "max", stride=2),
    ),
    "inception5": (  # 5a, 5b
        Row(384, 192, 384, 48, 128, 128, "l2", stride=1),
        Row(384, 192, 384, 48, 128, 128, "max", stride=1),
    ),
}


def without_5x5(table: Table, rows: Mapping[str, tuple[int, ...]]) -> Table:
    """The table without the 5x5 branches of some rows, given as stage -> indices."""
    return {
        name: tuple(
            row._replace(reduce5=0, conv5=0) if place in rows.get(name, ()) else row for place, row in enumerate(stage)
        )
        for name, stage in table.items()
    }


def thinned(channels: int, divisor: int) -> int:
    """The even number nearest to a fraction of the channels, at least 2; 0 stays 0."""
    return max(2, 2 * round(channels / divisor / 2)) if channels else 0


def thinned_table(table: Table, divisor: int) -> Table:
    """The table with a fraction of each branch's channels."""
    return {
        name: tuple(
            Row(
                thinned(row.single, divisor),
                thinned(row.reduce3, divisor),
                thinned(row.conv3, divisor),
                thinned(row.reduce5, divisor),
                thinned(row.conv5, divisor),
                thinned(row.project, divisor),
                row.pool,
                row.stride,
            )
            for row in stage
        )
        for name, stage in table.items()
    }


class L2Pool(nn.Module):
    """The L2 norm over each 3x3 window, sqrt(sum x^2), stride 1, zero padding."""

    def forward(self, features: Tensor) -> Tensor:
        """The root of the sum of squares of each 3x3 neighbourhood, stride 1."""
        # Float32: squares overflow in half precision. The floor keeps the square root's gradient at 0 finite.
        squares = functional.avg_pool2d(features.float().square(), 3, 1, padding=1) * 9.0
        return squares.clamp_min(1e-12).sqrt().to(features.dtype)


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1, scale: float = 1.0) -> nn.Sequential:
    """Convolution with bias and ReLU, initialised from N(0, 2 scale^2 / fan_in) (He et al. 2015)."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2)
    nn.init.normal_(conv.weight, std=scale * math.sqrt(2.0 / (inputs * kernel * kernel)))
    nn.init.constant_(cast(Tensor, conv.bias), 0.0)
    return nn.Sequential(conv, nn.ReLU())


class Inception(nn.Module):
    """The concatenated 1x1, 3x3, 5x5 and pooling branches of one row of the table."""

    def __init__(self, inputs: int, row: Row) -> None:
        super().__init__()
        self.branches = nn.ModuleDict()
        if row.single:
            self.branches["1x1"] = conv(inputs, row.single, 1)
        self.branches["3x3"] = nn.Sequential(conv(inputs, row.reduce3, 1), conv(row.reduce3, row.conv3, 3, row.stride))
        if row.conv5:
            self.branches["5x5"] = nn.Sequential(
                conv(inputs, row.reduce5, 1), conv(row.reduce5, row.conv5, 5, row.stride)
            )
        pooled = nn.Sequential(L2Pool() if row.pool == "l2" else nn.MaxPool2d(3, row.stride, padding=1))
        if row.project:
            # An L2 pool sums nine squares: a third of the scale keeps the variance constant.
            pooled.append(conv(inputs, row.project, 1, scale=1 / 3 if row.pool == "l2" else 1.0))
        self.branches["pooled"] = pooled

    def forward(self, features: Tensor) -> Tensor:
        """The branches' maps, concatenated along the channels."""
        return torch.cat([branch(features) for branch in self.branches.values()], 1)


class NN2(Backbone):
    """Convolution, Inception 2 to 5b, global average, FC; biases and local response normalisation.

    The paper states no constants for the normalisation; these are GoogLeNet's (size 5, alpha 1e-4, beta 0.75).
    """

    def __init__(self, embedding_size: int, image_size: ImageSize, table: Table = TABLE, stem: Stem = STEM) -> None:
        super().__init__(
            embedding_size,
            image_size,
            smallest=32,
            layout={
                "stem": ("conv1", "pool1", "norm1", "inception2", "norm2", "pool2"),
                **{name: (name,) for name in table},
                "embedding": ("average", "flatten", "fc"),
            },
        )
        first, reduced, width = stem
        self.conv1 = conv(3, first, 7, 2)
        self.pool1 = nn.MaxPool2d(3, 2, padding=1)
        self.norm1 = nn.LocalResponseNorm(5)
        self.inception2 = nn.Sequential(conv(first, reduced, 1), conv(reduced, width, 3))
        self.norm2 = nn.LocalResponseNorm(5)
        self.pool2 = nn.MaxPool2d(3, 2, padding=1)
        for name, rows in table.items():
            modules = nn.Sequential()
            for row in rows:
                modules.append(Inception(width, row))
                width = row.outputs(width)
            self.add_module(name, modules)
        self.average = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(width, embedding_size)


def nn2(embedding_size: EmbeddingSize = 128, image_size: ImageSize = (224, 224)) -> NN2:
    """NN2: 7,456,304 parameters and 1,596 million multiply-adds at 128-d and 224x224."""
    return NN2(embedding_size, image_size)


def nn4(embedding_size: EmbeddingSize = 128, image_size: ImageSize = (96, 96)) -> NN2:
    """NN4, NN2 at 96x96 without 5x5 convolutions in its last rows: 6,607,888 parameters, 285 million multiply-adds.

    The paper says only "in the higher layers". Without those of 4e, 5a and 5b the network has the 285 million
    multiply-adds that the paper states for NN4 and the 6.6 million parameters that it states for its smallest
    Inception; without only 5a's and 5b's it would have 289 million, without 4d's as well 281 million.
    """
    return NN2(embedding_size, image_size, without_5x5(TABLE, {"inception4": (4,), "inception5": (0, 1)}))


def nns2(embedding_size: EmbeddingSize = 128, image_size: ImageSize = (140, 116)) -> NN2:
    """A tiny Inception after NNS2: NN2 with a sixth of its channels, 228,580 parameters, 20.5 million multiply-adds.

    For NNS2 the paper states the input, 140x116, 20 million multiply-adds and 4.3 million parameters, but no layers.
    This network matches its input and cost; with NN2's rows that cost allows only this number of parameters.
    """
    return NN2(embedding_size, image_size, thinned_table(TABLE, 6), (thinned(64, 6), thinned(64, 6), thinned(192, 6)))
