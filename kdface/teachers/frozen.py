"""A frozen teacher network: never trained, never checkpointed, and never with random weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Protocol, runtime_checkable

import numpy as np
import torch
from annotated_types import Gt
from numpy.typing import NDArray
from torch import Tensor, nn

from kdface.backbones import Backbone, load_weights
from kdface.backbones.weights import digest_of
from kdface.errors import UserError
from kdface.faces import FaceSet, Preprocessing
from kdface.pixels import normalised


@runtime_checkable
class QualitySource(Protocol):
    """Interface of quality sources, which score how useful each image is for recognition.

    A pure function of network, images, people and its options. If it is a dataclass, as all sources here are, its
    fields are the options and scores can be cached on disk (`kdface.teachers.quality.labels`).
    """

    def __call__(self, teacher: Teacher, faces: FaceSet) -> NDArray[np.float64]:
        """(len(faces),) raw scores, higher is better."""


class Teacher:
    """A network in eval mode without gradients. Not a module, so never part of an optimiser, checkpoint or DDP.

    Only its first outputs, and those after each `check_next`, are checked for finite values, since a check
    synchronises with the device.

    Attributes:
        network: (N, 3, H, W) -> (N, D).
        preprocessing: of its training images; views with another preprocessing raise an error.
        quality: source of quality labels, for methods that need them.
        head: class weights of its training, if known.
        origin: where it was loaded from, KEY=PATH; empty: unknown.
        people: names of the head's classes; empty: unknown.
        embedding_size: D.
        fingerprint: SHA-256 of its weights.
    """

    def __init__(
        self,
        network: nn.Module,
        preprocessing: Preprocessing,
        quality: QualitySource | None = None,
        head: nn.Module | None = None,
        origin: str = "",
        people: Sequence[str] = (),
    ) -> None:
        self.network = network.eval().requires_grad_(False)
        self.preprocessing = preprocessing
        self.quality = quality
        self.head = None if head is None else head.eval().requires_grad_(False)
        self.origin = origin
        self.people = tuple(people)
        self.embedding_size = int(network.embedding_size)  # type: ignore[arg-type]
        self.fingerprint = fingerprint_of(network)
        self.memory_format = torch.contiguous_format
        self._unchecked = True

    def pixels(self, images: Tensor) -> Tensor:
        """(N, H, W, 3) uint8 RGB -> (N, 3, H, W), (pixel - mean) / std, in the network's colour order and type."""
        weight = next(self.network.parameters(), None)
        return normalised(
            images, self.preprocessing, self.memory_format, torch.float32 if weight is None else weight.dtype
        )

    @torch.no_grad()
    def embed(self, images: Tensor) -> Tensor:
        """(N, H, W, 3) uint8 RGB -> (N, D), not normalised, without gradient."""
        self.network.eval()
        embedding: Tensor = self.network(self.pixels(images))
        self.check("embeddings", embedding)
        return embedding

    def check_next(self) -> None:
        """Check the next outputs for finite values."""
        self._unchecked = True

    def check(self, what: str, *outputs: Tensor) -> None:
        """Raise `UserError` if a check is due and an output is not finite."""
        if not self._unchecked:
            return
        self._unchecked = False
        bad = sum(int((~output.isfinite()).sum()) for output in outputs)
        if bad:
            half = f" in {outputs[0].dtype}" if outputs[0].dtype in (torch.float16, torch.bfloat16) else ""
            raise self.unusable(
                f"its {what} contain {bad} non-finite values of {sum(output.numel() for output in outputs)}{half}"
            )

    def require_finite(self) -> None:
        """Raise `UserError` if its weights, its head's, or its embedding of a noise image are not finite."""
        for whose, module in (("its", self.network), ("its head's", self.head)):
            for name, value in ({} if module is None else module.state_dict()).items():
                if value.dtype.is_floating_point and not value.isfinite().all():
                    raise self.unusable(f"{whose} {name} has non-finite values")
        size = (1, *self.preprocessing.size, 3)
        self.check_next()
        self.embed(torch.randint(0, 256, size, dtype=torch.uint8, generator=torch.Generator().manual_seed(0)))

    def unusable(self, why: str) -> UserError:
        """The error that names the teacher and why it is unusable."""
        path = self.origin.partition("=")[2]
        return UserError(
            f"the teacher {type(self.network).__name__}{f' of {path}' if path else ''} is unusable: {why}.",
            expected="a network whose training did not diverge",
            origin=self.origin,
            fix=_another(self.origin),
        )

    def embed_view(self, images: Tensor, keys: Sequence[str]) -> Tensor:
        """(N, H, W, 3) uint8 RGB and the images' dataset keys -> (N, D), not normalised."""
        del keys  # a network uses the image
        return self.embed(images)

    def require_sees(self, kind: Preprocessing, where: str) -> None:
        """Raise `UserError` for images of another template or size; normalisation is its own."""
        same = replace(self.preprocessing, color=kind.color, mean=kind.mean, std=kind.std)
        same.require_equal(kind, "the teacher", where)

    def require_knows(self, faces: FaceSet) -> None:
        """Raise `DataError` for training images it has no embeddings of; networks support any image."""

    def to(self, device: torch.device | str) -> Teacher:
        """Move it to a device."""
        self.network.to(device)
        if self.head is not None:
            self.head.to(device)
        return self

    def use_memory_format(self, layout: torch.memory_format) -> None:
        """Store weights and images as NHWC or NCHW."""
        self.memory_format = layout
        self.network.to(memory_format=layout)  # type: ignore[call-overload]


def fingerprint_of(network: nn.Module) -> str:
    """SHA-256 over names, shapes and bytes of a network's state; for ONNX over the file."""
    own = getattr(network, "fingerprint", None)
    return own if isinstance(own, str) else digest_of(network.state_dict())


def _another(origin: str) -> str:
    key = origin.partition("=")[0]
    return (
        f"{key}={'FILE' if key.endswith(('weights', 'file')) else 'FOLDER'}, another teacher"
        if key
        else "another teacher"
    )


@contextmanager
def _named(origin: str) -> Iterator[None]:
    """Add to loading errors that it is a teacher, and its origin."""
    try:
        yield
    except UserError as error:
        raise UserError(
            error.problem,
            expected=error.expected,
            nearest=error.nearest,
            origin=origin,
            fix=error.fix or _another(origin),
        ) from None


LoadNetwork = Callable[[Path], Teacher]


def from_run(run: Path, load_network: LoadNetwork, quality: QualitySource | None = None) -> Teacher:
    """A run's network (its weight average, if it has one), frozen.

    Args:
        run: a run folder, or a folder that contains exactly one.
        load_network: loads a run's network, injected.
        quality: source of quality labels, for methods that need them.
    """
    origin = f"teacher.run={run}"
    with _named(origin):
        teacher = load_network(run)
    teacher.quality = quality
    teacher.origin = origin
    return teacher


def from_file(file: Path, load_network: LoadNetwork, quality: QualitySource | None = None) -> Teacher:
    """A network from a file, frozen: exported by kdface, ONNX, or a published state dict.

    Args:
        file: includes its preprocessing, or has a card FILE.yaml next to it that does.
        load_network: loads a network from a file, injected.
        quality: source of quality labels, for methods that need them.
    """
    origin = f"teacher.file={file}"
    with _named(origin):
        teacher = load_network(file)
    teacher.quality = quality
    teacher.origin = origin
    return teacher


def from_weights(
    backbone: Backbone,
    weights: Path,
    mean: float = 127.5,
    std: Annotated[float, Gt(0)] = 127.5,
    bgr: bool = False,
    quality: QualitySource | None = None,
) -> Teacher:
    """A published network: an architecture and a file of weights, which must match exactly.

    Args:
        backbone: the architecture, with its `image_size`.
        weights: a state dict, as published by InsightFace and facenet-pytorch.
        mean, std: its input is (pixel - mean) / std, pixels in 0..255.
        bgr: it was trained on images in OpenCV's channel order.
        quality: source of quality labels, for methods that need them.
    """
    origin = f"teacher.weights={weights}"
    with _named(origin):
        load_weights(backbone, weights)
    seen = Preprocessing("arcface", backbone.image_size, "bgr" if bgr else "rgb", mean, std)
    return Teacher(backbone, seen, quality, origin=origin)
