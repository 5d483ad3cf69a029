"""Distillation losses as configurable parts: the `method.transfer` of method=distillation.

Each is called with both networks' outputs on one batch, and weights the losses of this package as in its paper.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Len
from torch import Tensor, nn

from kdface.losses.distillation import tempered_kl
from kdface.losses.feature_maps import FitNetsHint, VariationalInformation, attention_transfer
from kdface.losses.relational import probabilistic_transfer, rkd_angle, rkd_distance, similarity_preserving

Weight = Annotated[float, Ge(0)]
StageNames = Annotated[tuple[str, ...], Len(1)]


@dataclass(frozen=True)
class Computed:
    """Outputs of a network on a batch.

    Attributes:
        embedding: (N, D).
        logits: (N, C) of its head; None if it has no head, or logits were not requested.
        maps: stage -> (N, C, H, W), of the requested stages.
    """

    embedding: Tensor
    logits: Tensor | None = None
    maps: Mapping[str, Tensor] = field(default_factory=dict)


class Transfer(nn.Module, ABC):
    """A loss between the outputs of a student and a teacher.

    Attributes:
        stages: names of the backbone stages whose maps it compares (`Backbone.layout`).
        needs_logits: whether it compares logits.
    """

    stages: tuple[str, ...] = ()
    needs_logits = False

    def prepare(self, student: Mapping[str, int], teacher: Mapping[str, int]) -> None:
        """Build its trainable modules, given the channels of each stage's map."""
        del student, teacher

    @abstractmethod
    def forward(self, student: Computed, teacher: Computed) -> Tensor:
        """-> scalar; the teacher's outputs carry no gradient."""


class LogitTransfer(Transfer):
    """Knowledge distillation: `tempered_kl` of both heads' logits (Hinton et al. 2015), as used in their losses.

    Args:
        temperature: t; 2.5 in CKD's code.
    """

    needs_logits = True

    def __init__(self, temperature: Annotated[float, Gt(0)] = 2.5) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, student: Computed, teacher: Computed) -> Tensor:
        """T^2 KL(teacher / T || student / T), mean over the batch."""
        assert student.logits is not None and teacher.logits is not None
        return tempered_kl(student.logits, teacher.logits, self.temperature)


class RelationalTransfer(Transfer):
    """Relational knowledge distillation (RKD) of embeddings: distance * `rkd_distance` + angle * `rkd_angle`.

    Args:
        distance, angle: weights; 25 and 50 in the paper and in CKD's code.
    """

    def __init__(self, distance: Weight = 25.0, angle: Weight = 50.0) -> None:
        super().__init__()
        self.distance = distance
        self.angle = angle

    def forward(self, student: Computed, teacher: Computed) -> Tensor:
        """distance * RKD-D + angle * RKD-A, of the embeddings."""
        pair = student.embedding, teacher.embedding
        return self.distance * rkd_distance(*pair) + self.angle * rkd_angle(*pair)


class ProbabilisticTransfer(Transfer):
    """Probabilistic knowledge transfer (PKT) of embeddings: `probabilistic_transfer`."""

    def forward(self, student: Computed, teacher: Computed) -> Tensor:
        """KL of the two batches' conditional probabilities of neighbours (PKT)."""
        return probabilistic_transfer(student.embedding, teacher.embedding)


class SimilarityTransfer(Transfer):
    """Similarity-preserving distillation (SP): the sum of `similarity_preserving` over stages; the paper uses the last.

    Args:
        stages: of both backbones.
    """

    def __init__(self, stages: StageNames = ("layer4",)) -> None:
        super().__init__()
        self.stages = stages

    def forward(self, student: Computed, teacher: Computed) -> Tensor:
        """The squared difference of the batches' row-normalised Gram matrices, summed over stages (SP)."""
        return _sum(similarity_preserving(student.maps[stage], teacher.maps[stage]) for stage in self.stages)


class AttentionTransfer(Transfer):
    """Attention transfer (AT): the sum of `attention_transfer` over stages.

    Args:
        stages: of both backbones.
        p: power of the activations.
    """

    def __init__(
        self, stages: StageNames = ("layer1", "layer2", "layer3", "layer4"), p: Annotated[float, Ge(1)] = 2.0
    ) -> None:
        super().__init__()
        self.stages = stages
        self.p = p

    def forward(self, student: Computed, teacher: Computed) -> Tensor:
        """The squared difference of normalised attention maps, summed over stages (AT)."""
        return _sum(attention_transfer(student.maps[stage], teacher.maps[stage], self.p) for stage in self.stages)


class HintTransfer(Transfer):
    """FitNets' hint: the sum of `FitNetsHint` over stages, each with its jointly trained regressor.

    Args:
        stages: of both backbones; the paper uses one, in the middle.
    """

    def __init__(self, stages: StageNames = ("layer2",)) -> None:
        super().__init__()
        self.stages = stages
        self.hints = nn.ModuleDict()

    def prepare(self, student: Mapping[str, int], teacher: Mapping[str, int]) -> None:
        """Build a 1x1 convolution from the student's to the teacher's channels for each stage."""
        self.hints.update({stage: FitNetsHint(student[stage], teacher[stage]) for stage in self.stages})

    def forward(self, student: Computed, teacher: Computed) -> Tensor:
        """The squared difference of the convolved maps and the teacher's, summed over stages (FitNets)."""
        return _sum(self.hints[stage](student.maps[stage], teacher.maps[stage]) for stage in self.stages)


class VariationalTransfer(Transfer):
    """Variational information distillation (VID): the sum of `VariationalInformation` over stages, trained jointly.

    Args:
        stages: of both backbones.
        initial_variance: see `VariationalInformation`.
    """

    def __init__(
        self,
        stages: StageNames = ("layer1", "layer2", "layer3", "layer4"),
        initial_variance: Annotated[float, Gt(1e-5)] = 5.0,
    ) -> None:
        super().__init__()
        self.stages = stages
        self.initial_variance = initial_variance
        self.information = nn.ModuleDict()

    def prepare(self, student: Mapping[str, int], teacher: Mapping[str, int]) -> None:
        """Build a predictor of the teacher's maps with a variance per channel for each stage."""
        for stage in self.stages:
            self.information[stage] = VariationalInformation(student[stage], teacher[stage], self.initial_variance)

    def forward(self, student: Computed, teacher: Computed) -> Tensor:
        """The negative Gaussian log-likelihood of the teacher's maps, summed over stages (VID)."""
        return _sum(self.information[stage](student.maps[stage], teacher.maps[stage]) for stage in self.stages)


def _sum(terms: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(terms)).sum()
