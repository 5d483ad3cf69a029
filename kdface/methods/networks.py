"""The networks of a method and their outputs: embeddings, quality, logits."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from kdface.errors import UserError
from kdface.evaluation import Embedder, Outcome
from kdface.faces import Preprocessing
from kdface.heads import Classifier
from kdface.methods.parts import freeze
from kdface.pixels import normalised
from kdface.teachers import Teacher


@dataclass(frozen=True)
class Views:
    """Which view of the augmentation each network sees.

    Attributes:
        student: the view of the trained network.
        teacher: the view of the frozen network; null for methods without one.
    """

    student: str
    teacher: str | None = None

    def named(self) -> dict[str, str]:
        """role -> view, for the roles in use."""
        return {role: view for role, view in vars(self).items() if view is not None}


class Networks(pl.LightningModule):
    """The networks of a method, without optimisation.

    Attributes:
        preprocessing: of the student's view.
        teacher: the frozen network, if the method has one; not registered as a submodule, so never trained or saved.
        backbone: the trained network.
        embedder: the evaluated and exported network: the backbone, or the average of its weights.
        head: class weights and loss; null for methods without a head.
        people: class names of the head; set by the code that builds the method, empty if unknown.
        frozen: parts that stay in eval mode.
        started_from: SHA-256 of the weights the backbone was initialised from; empty if random.
        noted: detached values to log under train/ in addition to the loss terms.
        outcomes: results of the last validation, by test set.
    """

    def __init__(
        self,
        backbone: nn.Module,
        head: nn.Module | None,
        preprocessing: Preprocessing,
        views: Views,
        teacher: Teacher | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.preprocessing = preprocessing
        self.views = views
        self.teacher = teacher
        self.people: tuple[str, ...] = ()
        self.averaged: nn.Module | None = None
        self.frozen: list[nn.Module] = []
        self.started_from = ""
        self.memory_format = torch.contiguous_format
        self.noted: dict[str, Tensor] = {}
        self.outcomes: dict[str, Outcome] = {}
        self._embedder = Embedder(self.embed)

    @property
    def embedder(self) -> nn.Module:
        """The evaluated and exported network: the average of the weights if there is one, else the trained backbone."""
        return self.averaged if self.averaged is not None else self.backbone

    @property
    def sees(self) -> tuple[Preprocessing, ...]:
        """The preprocessings it can be evaluated on."""
        return (self.preprocessing,)

    def pixels(self, images: Tensor) -> Tensor:
        """(N, H, W, 3) uint8 RGB -> (N, 3, H, W), (pixel - mean) / std, in the networks' colour order and memory
        format."""
        return normalised(images, self.preprocessing, self.memory_format, next(self.backbone.parameters()).dtype)

    def embed(self, images: Tensor, preprocessing: Preprocessing) -> Tensor:
        """(N, H, W, 3) uint8 RGB, with a preprocessing in `sees` -> (N, D) embeddings, not normalised."""
        del preprocessing  # a single network has only one
        embedding: Tensor = self.embedder(self.pixels(images))
        return embedding

    def forward(self, images: Tensor) -> Tensor:
        """(N, H, W, 3) uint8 RGB like the student's view -> (N, D) embeddings of the evaluated network, not normalised,
        in its current mode (`eval()` for inference).

        Raises `UserError` for images of another type or shape.
        """
        height, width = self.preprocessing.size
        if images.dtype != torch.uint8 or images.shape[1:] != (height, width, 3):
            raise UserError(
                f"{type(self).__name__} was given images of {images.dtype} and shape {tuple(images.shape)}.",
                expected=f"a tensor of torch.uint8 and shape (N, {height}, {width}, 3): aligned crops, RGB, 0 to 255",
            )
        return self.embed(images, self.preprocessing)

    @property
    def grades(self) -> bool:
        """Whether it predicts face-image quality."""
        return hasattr(self.head, "quality")

    def quality(self, images: Tensor, preprocessing: Preprocessing) -> Tensor:
        """(N, H, W, 3) uint8 RGB with the student's preprocessing -> (N,) face-image quality, higher is better.

        Raises `UserError` if it predicts none, or if the preprocessing differs.
        """
        self.preprocessing.require_equal(preprocessing, "the grading network", "the images")
        grade = getattr(self.head, "quality", None)
        if grade is None:
            raise UserError(
                "this network gives no face-image quality.",
                fix="use a run whose method or head predicts quality: aikd, magface or crfiqa",
            )
        score: Tensor = grade(self.embedder(self.pixels(images)))
        return score

    @property
    def classifies(self) -> bool:
        """Whether its head is a softmax over the training people."""
        return isinstance(self.head, Classifier)

    def head_for(self, preprocessing: Preprocessing) -> nn.Module | None:
        """The head that classifies images with a preprocessing in `sees`."""
        self.preprocessing.require_equal(preprocessing, "the classifier", "the images")
        return self.head

    def logits(self, images: Tensor, preprocessing: Preprocessing) -> Tensor:
        """(N, H, W, 3) uint8 RGB, with a preprocessing in `sees` -> (N, C) logits of `people`, without margin.

        With averaged weights, the last step's head is applied to the averaged backbone.

        Raises `UserError` if there is no head, or it is not a softmax.
        """
        head = self.head_for(preprocessing)
        if not isinstance(head, Classifier):
            raise UserError(
                f"this network has no logits of people: its head is {type(head).__name__}.",
                expected="a softmax over all classes",
                fix="use a run with a softmax or margin-softmax head",
            )
        return head.logits(self.embed(images, preprocessing))

    def embed_for(self, rank: int = 0, world: int = 1) -> Embedder:
        """An `Embedder` of the evaluated network on its current device, for protocols."""
        return Embedder(
            self.embed,
            next(self.backbone.parameters()).device,
            rank=rank,
            world=world,
            quality_network=self.quality,
            classifier=self.logits,
            people=self.people,
        )

    def use_memory_format(self, channels_last: bool) -> None:
        """Store weights and images as NHWC (channels_last) or NCHW; the hardware profile picks the faster one."""
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.to(memory_format=self.memory_format)
        if self.teacher is not None:
            self.teacher.use_memory_format(self.memory_format)

    def add_average(self) -> None:
        """Add the averaged copy of the backbone, which is evaluated and exported in its place."""
        self.averaged = copy.deepcopy(self.backbone).requires_grad_(False).eval()

    def freeze_parts(self, names: Sequence[str]) -> None:
        """Freeze parts of the backbone: weights and normalisation statistics.

        Raises `UserError` if a name matches no part, or nothing is left to train.
        """
        self.frozen = [*self.frozen, *freeze(self, names)]
        self.train()  # Lightning keeps each module's mode

    def train(self, mode: bool = True) -> Self:
        """Set the mode; the averaged copy and frozen parts stay in eval mode."""
        super().train(mode)
        self.hold_frozen()
        return self

    def hold_frozen(self) -> None:
        """Keep untrained modules in eval mode, so that their normalisation statistics do not change."""
        for module in self.frozen if self.averaged is None else (*self.frozen, self.averaged):
            module.eval()

    @property
    def normalises(self) -> bool:
        """Whether it trains a batch normalisation, whose statistics depend on the micro-batch."""
        kinds = (nn.BatchNorm1d, nn.BatchNorm2d, nn.SyncBatchNorm)
        return any(isinstance(part, kinds) and part.training for part in self.modules())

    @property
    def normalises_vectors(self) -> bool:
        """Whether one of these needs two images: a vector, unlike a feature map, has one value per channel."""
        return any(isinstance(part, nn.BatchNorm1d) and part.training for part in self.modules())
