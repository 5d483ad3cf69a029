"""The networks of a method, and what they answer: embeddings, quality, logits."""

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
        student: the view of the network that is trained.
        teacher: the view of the frozen network; null for methods without one.
    """

    student: str
    teacher: str | None = None

    def named(self) -> dict[str, str]:
        """role -> view, for the roles that are filled."""
        return {role: view for role, view in vars(self).items() if view is not None}


class Networks(pl.LightningModule):
    """The networks of a method before anything is trained.

    Attributes:
        preprocessing: the images of the student's view.
        teacher: the frozen network, for methods that have one; it is not a module, so it is never trained or saved.
        backbone: the network that is trained.
        embedder: the network that is evaluated and shipped: the backbone, or the average of its weights.
        head: class weights and loss; null for methods that have none.
        people: the head's classes by name; set by the code that builds the method, empty if unknown.
        frozen: parts that stay in eval mode.
        started_from: SHA-256 of the weights that its backbone was given; empty if they were drawn.
        noted: what the loss finds beside its terms, detached; logged below train/.
        outcomes: what the last validation found, by test set.
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
        """What is shipped and evaluated: the average of the weights if there is one, else the trained backbone."""
        return self.averaged if self.averaged is not None else self.backbone

    @property
    def sees(self) -> tuple[Preprocessing, ...]:
        """The kinds of image that it can be evaluated on."""
        return (self.preprocessing,)

    def pixels(self, images: Tensor) -> Tensor:
        """(N, H, W, 3) uint8 RGB -> (N, 3, H, W), (pixel - mean) / std, in the networks' colours and memory format."""
        return normalised(images, self.preprocessing, self.memory_format, next(self.backbone.parameters()).dtype)

    def embed(self, images: Tensor, preprocessing: Preprocessing) -> Tensor:
        """(N, H, W, 3) uint8 RGB, of a kind that it `sees` -> (N, D) embeddings, not normalised."""
        del preprocessing  # one network sees one kind
        embedding: Tensor = self.embedder(self.pixels(images))
        return embedding

    @property
    def grades(self) -> bool:
        """Whether it gives face-image quality."""
        return hasattr(self.head, "quality")

    def quality(self, images: Tensor, preprocessing: Preprocessing) -> Tensor:
        """(N, H, W, 3) uint8 RGB of the student's kind -> (N,) face-image quality, higher is better.

        Raises `UserError` if it gives none, and for images of another kind.
        """
        self.preprocessing.require_equal(preprocessing, "the grading network", "the images")
        grade = getattr(self.head, "quality", None)
        if grade is None:
            raise UserError(
                "this network gives no face-image quality.",
                fix="take a run whose method or head grades: aikd, magface or crfiqa",
            )
        score: Tensor = grade(self.embedder(self.pixels(images)))
        return score

    @property
    def classifies(self) -> bool:
        """Whether it tells its training people apart by a softmax."""
        return isinstance(self.head, Classifier)

    def head_for(self, preprocessing: Preprocessing) -> nn.Module | None:
        """The head that classifies images of a kind that it `sees`."""
        self.preprocessing.require_equal(preprocessing, "the classifier", "the images")
        return self.head

    def logits(self, images: Tensor, preprocessing: Preprocessing) -> Tensor:
        """(N, H, W, 3) uint8 RGB, of a kind that it `sees` -> (N, C) logits of `people`, without any margin.

        Where weights are averaged, the head is that of the last step, before the averaged backbone.

        Raises `UserError` if the head is no softmax, or there is none.
        """
        head = self.head_for(preprocessing)
        if not isinstance(head, Classifier):
            raise UserError(
                f"this network gives no logits of people: its head is {type(head).__name__}.",
                expected="a softmax over all classes",
                fix="take a run with a softmax or a margin softmax for its head",
            )
        return head.logits(self.embed(images, preprocessing))

    def embed_for(self, rank: int = 0, world: int = 1) -> Embedder:
        """What protocols embed with: the evaluated network, where it is now."""
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
        """Lay weights and images out as NHWC (channels_last) or NCHW; the hardware profile says which is faster."""
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.to(memory_format=self.memory_format)
        if self.teacher is not None:
            self.teacher.use_memory_format(self.memory_format)

    def add_average(self) -> None:
        """Add the averaged copy of the backbone: not trained itself, evaluated and shipped in its place."""
        self.averaged = copy.deepcopy(self.backbone).requires_grad_(False).eval()

    def freeze_parts(self, names: Sequence[str]) -> None:
        """Leave parts of the backbone as they are: their weights, and the statistics of their normalisation.

        Raises `UserError` for a name that no part has, and where nothing is left to train.
        """
        self.frozen = [*self.frozen, *freeze(self, names)]
        self.train()  # Lightning leaves each module in the mode in which it finds it

    def train(self, mode: bool = True) -> Self:
        """The averaged copy and what is frozen stay in eval mode whatever the rest does."""
        super().train(mode)
        self.hold_frozen()
        return self

    def hold_frozen(self) -> None:
        """What is not trained stays in eval mode: its normalisation statistics do not move."""
        for module in self.frozen if self.averaged is None else (*self.frozen, self.averaged):
            module.eval()

    @property
    def normalises(self) -> bool:
        """Whether it trains a batch normalisation, whose statistics are those of the part of a batch that it sees."""
        kinds = (nn.BatchNorm1d, nn.BatchNorm2d, nn.SyncBatchNorm)
        return any(isinstance(part, kinds) and part.training for part in self.modules())

    @property
    def normalises_vectors(self) -> bool:
        """Whether one of these needs two images: a vector, unlike a map, has no other values of a channel."""
        return any(isinstance(part, nn.BatchNorm1d) and part.training for part in self.modules())
