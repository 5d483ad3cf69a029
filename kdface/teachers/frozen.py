"""A frozen network that teaches: never trained, never in a checkpoint, and its weights are loaded or there is none."""

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
    """How useful each image is for recognition, by some measure.

    A pure function of network, images, people and its own options. Where it is a dataclass, as all sources here are,
    its fields name the options and the scores can be kept on disk (`kdface.teachers.quality.labels`).
    """

    def __call__(self, teacher: Teacher, faces: FaceSet) -> NDArray[np.float64]:
        """(len(faces),) raw scores, higher is better."""


class Teacher:
    """A network in eval mode without gradients. Not a module, so it is in no optimiser, checkpoint or DDP wrapper.

    Its first outputs are checked for finite values, and those after each `check_next`; others are not, since a check
    waits for the device.

    Attributes:
        network: (N, 3, H, W) -> (N, D).
        preprocessing: the images it was trained on; a view of another kind is an error.
        quality: where quality labels come from, for methods that ask for them.
        head: class weights of its training, where they are known.
        origin: where it comes from, KEY=PATH; empty: unknown.
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
    ) -> None:
        self.network = network.eval().requires_grad_(False)
        self.preprocessing = preprocessing
        self.quality = quality
        self.head = None if head is None else head.eval().requires_grad_(False)
        self.origin = origin
        self.embedding_size = int(network.embedding_size)  # type: ignore[arg-type]
        self.fingerprint = fingerprint_of(network)
        self.memory_format = torch.contiguous_format
        self._unchecked = True

    def pixels(self, images: Tensor) -> Tensor:
        """(N, H, W, 3) uint8 RGB -> (N, 3, H, W), (pixel - mean) / std, in the network's colours and type."""
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
        """Check the outputs that come next for finite values."""
        self._unchecked = True

    def check(self, what: str, *outputs: Tensor) -> None:
        """Raise `UserError` if these are to be checked and one holds a value that is not finite."""
        if not self._unchecked:
            return
        self._unchecked = False
        bad = sum(int((~output.isfinite()).sum()) for output in outputs)
        if bad:
            half = f" in {outputs[0].dtype}" if outputs[0].dtype in (torch.float16, torch.bfloat16) else ""
            raise self.unusable(
                f"its {what} hold {bad} values of {sum(output.numel() for output in outputs)} that are not finite{half}"
            )

    def require_finite(self) -> None:
        """Raise `UserError` if its weights, its head's, or its embedding of an image of noise are not finite."""
        for whose, module in (("its", self.network), ("its head's", self.head)):
            for name, value in ({} if module is None else module.state_dict()).items():
                if value.dtype.is_floating_point and not value.isfinite().all():
                    raise self.unusable(f"{whose} {name} has values that are not finite")
        size = (1, *self.preprocessing.size, 3)
        self.check_next()
        self.embed(torch.randint(0, 256, size, dtype=torch.uint8, generator=torch.Generator().manual_seed(0)))

    def unusable(self, why: str) -> UserError:
        """Why it cannot teach, as a message that names it."""
        path = self.origin.partition("=")[2]
        return UserError(
            f"the teacher {type(self.network).__name__}{f' of {path}' if path else ''} teaches nothing: {why}.",
            expected="a network whose training did not diverge",
            origin=self.origin,
            fix=_another(self.origin),
        )

    def embed_view(self, images: Tensor, keys: Sequence[str]) -> Tensor:
        """(N, H, W, 3) uint8 RGB and the keys of these images in their dataset -> (N, D), not normalised."""
        del keys  # a network looks at the image
        return self.embed(images)

    def require_sees(self, kind: Preprocessing, where: str) -> None:
        """Raise `UserError` for images of another template or size; it normalises them itself."""
        same = replace(self.preprocessing, color=kind.color, mean=kind.mean, std=kind.std)
        same.require_equal(kind, "the teacher", where)

    def require_knows(self, faces: FaceSet) -> None:
        """Raise `DataError` for training images that it knows nothing about; a network answers for any."""

    def to(self, device: torch.device | str) -> Teacher:
        """Itself, on a device."""
        self.network.to(device)
        if self.head is not None:
            self.head.to(device)
        return self

    def use_memory_format(self, layout: torch.memory_format) -> None:
        """Lay weights and images out as NHWC or NCHW."""
        self.memory_format = layout
        self.network.to(memory_format=layout)  # type: ignore[call-overload]


def fingerprint_of(network: nn.Module) -> str:
    """SHA-256 over names, shapes and bytes of everything in the state of a network; of an ONNX file, of its bytes."""
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
    """What cannot be loaded is said to be a teacher, and where it comes from."""
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
    """The network that a run trained (its average, where it kept one), frozen.

    Args:
        run: a run folder, or a folder that holds just one.
        load_network: the framework's own loader of runs, injected.
        quality: where quality labels come from, for methods that ask for them.
    """
    origin = f"teacher.run={run}"
    with _named(origin):
        teacher = load_network(run)
    teacher.quality = quality
    teacher.origin = origin
    return teacher


def from_file(file: Path, load_network: LoadNetwork, quality: QualitySource | None = None) -> Teacher:
    """The network of a file, frozen: exported by kdface, ONNX, or a published state dict.

    Args:
        file: what images its network takes stands in it, or in the card beside it, FILE.yaml.
        load_network: the framework's own loader of files, injected.
        quality: where quality labels come from, for methods that ask for them.
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
    """A published network: an architecture and a file of its weights, which must fit exactly.

    Args:
        backbone: the architecture, with its `image_size`.
        weights: a state dict, as InsightFace and facenet-pytorch publish theirs.
        mean, std: it sees (pixel - mean) / std, pixels in 0..255.
        bgr: it was trained on images in OpenCV's order of channels.
        quality: where quality labels come from, for methods that ask for them.
    """
    origin = f"teacher.weights={weights}"
    with _named(origin):
        load_weights(backbone, weights)
    seen = Preprocessing("arcface", backbone.image_size, "bgr" if bgr else "rgb", mean, std)
    return Teacher(backbone, seen, quality, origin=origin)
