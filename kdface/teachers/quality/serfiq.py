"""Stochastic embedding robustness: Terhörst et al., "SER-FIQ" (CVPR 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
from annotated_types import Ge, Gt, Lt
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import normalize, pdist

from kdface.backbones import Backbone
from kdface.errors import UserError
from kdface.faces import FaceSet
from kdface.precision import wide
from kdface.teachers.frozen import Teacher
from kdface.teachers.quality.source import Options, batches


@dataclass(frozen=True)
class SERFIQ(Options):
    """Robustness of an embedding to dropout. One forward pass per image, plus T passes of the last layers.

    T dropout masks on the last feature map give T embeddings of unit norm z_t; with D the mean over all pairs s < t of
    |z_s - z_t|_2, q = 2 sigmoid(-D) = 2 / (1 + exp(D)). BatchNorm uses its running statistics. The mean over pairs
    follows the released code; the paper's factor of (T - 1) / T on D does not change the order.

    All images share the T masks, so that scores do not depend on the draw.

    Attributes:
        passes: T.
        dropout: probability of dropping a feature; None: the rate the network was trained with.
        seed: of the masks' generator.

    Raises:
        UserError: the network has no dropout layer, or was trained without dropout and `dropout` is None.
    """

    needs_network: ClassVar[bool] = True
    passes: Annotated[int, Ge(2)] = 100
    dropout: Annotated[float, Gt(0), Lt(1)] | None = None
    seed: int = 0

    def network_options(self, teacher: Teacher) -> dict[str, float]:
        """Non-weight inputs of the scores: the network's dropout rate, if used."""
        return {} if self.dropout is not None else {"dropout": split_at_dropout(teacher.network)[1].p}

    def __call__(self, teacher: Teacher, faces: FaceSet) -> NDArray[np.float64]:
        trunk, layer, tail = split_at_dropout(teacher.network)
        rate = layer.p if self.dropout is None else self.dropout
        if rate == 0:
            raise UserError(
                f"SER-FIQ compares embeddings under dropout, but this {type(teacher.network).__name__} was trained "
                "without it (p = 0): all of them would be equal.",
                fix="use a teacher trained with dropout, or set a rate that it was not trained for: "
                "teacher.quality.dropout=0.4",
            )
        masks: Tensor | None = None
        found = np.empty(len(faces))
        with torch.no_grad():
            for rows, images in batches(teacher, faces, "quality by SER-FIQ"):
                features = trunk(teacher.pixels(images))
                if masks is None:
                    masks = self._masks(features[0], rate)
                for row, feature in zip(rows, features, strict=True):
                    embeddings = normalize(wide(tail(feature * masks)))
                    found[row] = 2.0 * torch.sigmoid(-pdist(embeddings).mean()).item()
        return found

    def _masks(self, features: Tensor, rate: float) -> Tensor:
        """(T, C, H, W): zero with probability `rate`, else 1 / (1 - rate)."""
        source = torch.Generator().manual_seed(self.seed)  # on the CPU, so that every device has the same masks
        kept = torch.rand((self.passes, *features.shape), generator=source) >= rate
        return kept.to(features) / (1.0 - rate)


def split_at_dropout(network: nn.Module) -> tuple[nn.Sequential, nn.Dropout, nn.Sequential]:
    """Split a backbone into the layers before its dropout layer, that layer, and those after it, sharing modules.

    Raises:
        UserError: the network is not a kdface backbone or has no dropout layer between its parts.
    """
    parts: list[nn.Module] = []
    if isinstance(network, Backbone):
        parts = [network.get_submodule(name) for names in network.layout.values() for name in names]
    for place, part in enumerate(parts):
        if isinstance(part, nn.Dropout):
            return nn.Sequential(*parts[:place]), part, nn.Sequential(*parts[place + 1 :])
    raise UserError(
        f"SER-FIQ repeats the layers after a network's dropout, but {type(network).__name__} has no dropout layer.",
        expected="iresnet18, iresnet34, iresnet50, iresnet100, iresnet_nano or inception_resnet_v1",
        fix="use such a teacher, or another quality source",
    )
