"""The recogniser: a network, what images it takes, and at which thresholds it was tested."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kdface.errors import UserError
from kdface.evaluation.scores import unit
from kdface.faces import Preprocessing
from kdface.pixels import normalised
from kdface.recogniser.crops import Crops, One, batches, is_one, listed, named
from kdface.recogniser.points import Points, choose

_BATCH = 64  # images in one forward pass
_BLOCK = 1 << 22  # scores computed at once


@dataclass(frozen=True)
class Decision:
    """Attributes:
    score: cosine of the two embeddings.
    threshold: the one used; a pair is accepted when its score is at least this.
    same: accepted as one person.
    """

    score: float
    threshold: float
    same: bool


@dataclass(frozen=True)
class Candidate:
    """Attributes:
    name: a person of the gallery.
    score: the highest cosine with an image of that person.
    """

    name: str
    score: float


@dataclass(frozen=True)
class Identified:
    """Attributes:
    probe: its path, or its number.
    candidates: people of the gallery, the most alike first.
    threshold: null: none was asked for.
    known: whether the first candidate reaches the threshold; null: there is none.
    """

    probe: str
    candidates: tuple[Candidate, ...]
    threshold: float | None
    known: bool | None


class Recogniser:
    """Embeds, grades, verifies and identifies aligned face crops.

    Crops are (H, W, 3) uint8 RGB of `size`: arrays, tensors, files, or a folder. What a network saw in training
    (colours, mean, scale) is done to them here. The embedding of an image is f(x) + f(mirrored x), as in every
    evaluation, so that the thresholds of results.json hold; `mirror=False` gives f(x).

    Args:
        network: (N, 3, H, W), (pixel - mean) / std -> (N, D), not normalised.
        preprocessing: the images that it takes.
        grade: (N, D) embeddings, not normalised -> (N,) face-image quality; null: it gives none.
        points: thresholds by test set.
        resizes: it was trained on crops that were shrunk: files of their shape are shrunk too.
        batch_size: images in one forward pass, and as many mirror images.
        device: where it computes.
        about: what is known of it, for display.

    Example:
        recogniser = kdface.load("runs/demo")
        embeddings = recogniser.embed("faces/ada")
    """

    def __init__(
        self,
        network: nn.Module,
        preprocessing: Preprocessing,
        grade: Callable[[Tensor], Tensor] | None = None,
        points: Points | None = None,
        resizes: bool = False,
        batch_size: int = _BATCH,
        device: torch.device | str = "cpu",
        about: Mapping[str, Any] | None = None,
    ) -> None:
        self.network = network.eval().requires_grad_(False)
        self.preprocessing = preprocessing
        self.points: Points = points or {}
        self.resizes = resizes
        self.batch_size = batch_size
        self.about = dict(about or {})
        self.device = torch.device("cpu")
        self._grade = grade
        self._dtype = next((parameter.dtype for parameter in network.parameters()), torch.float32)
        self.to(device)

    def __repr__(self) -> str:
        height, width = self.size
        thresholds = ", ".join(self.points) or "none"
        return f"Recogniser({height}x{width}, {self.device}, quality: {self.grades}, thresholds: {thresholds})"

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of its crops in pixels."""
        return self.preprocessing.size

    @property
    def grades(self) -> bool:
        """Whether it gives face-image quality."""
        return self._grade is not None

    def to(self, device: torch.device | str) -> Recogniser:
        """Compute on this device from now on."""
        self.device = torch.device(device)
        self.network.to(self.device)
        owner = getattr(self._grade, "__self__", None)  # its own head
        if isinstance(owner, nn.Module):
            owner.to(self.device)
        return self

    def embed(self, images: Crops, mirror: bool = True) -> NDArray[np.float32]:
        """(N, D) embeddings, not normalised, in the order given; of a folder in that of its sorted paths.

        Raises:
            UserError: an array is not uint8 RGB of `size`.
            DataError: a file cannot be read, or is no crop of that size.
        """
        return self._rows(listed(images), lambda batch: self.embed_batch(batch, mirror))

    def quality(self, images: Crops) -> NDArray[np.float32]:
        """(N,) face-image quality, higher is better. Raises as `embed`, and `UserError` if the network gives none."""
        return self._rows(listed(images), self.quality_batch)

    @torch.inference_mode()
    def embed_batch(self, batch: NDArray[np.uint8], mirror: bool = True) -> Tensor:
        """(n, H, W, 3) uint8 RGB, one forward pass -> (n, D) float32."""
        pixels = self._pixels(batch)
        embedding = self.network(pixels).float()
        return cast(Tensor, embedding + self.network(pixels.flip(3)).float()) if mirror else cast(Tensor, embedding)

    @torch.inference_mode()
    def quality_batch(self, batch: NDArray[np.uint8]) -> Tensor:
        """(n, H, W, 3) uint8 RGB, one forward pass -> (n,) float32."""
        if self._grade is None:
            raise UserError(
                "this network gives no face-image quality.",
                expected="a run of method=aikd, or of a head that grades (head=magface, head=crfiqa)",
            )
        return self._grade(self.network(self._pixels(batch))).float()

    @overload  # a str is a sequence of str to a type checker
    def verify(  # type: ignore[overload-overlap]
        self, a: One, b: One, *, far: float | None = None, threshold: float | None = None, test: str | None = None
    ) -> Decision: ...

    @overload
    def verify(
        self,
        a: Sequence[One],
        b: Sequence[One],
        *,
        far: float | None = None,
        threshold: float | None = None,
        test: str | None = None,
    ) -> list[Decision]: ...

    def verify(
        self, a: Any, b: Any, *, far: float | None = None, threshold: float | None = None, test: str | None = None
    ) -> Decision | list[Decision]:
        """Do two crops show one person? Of two sequences, each crop is compared with the one at its place.

        Args:
            far: decide at the tested threshold for this false-accept rate, such as 1e-3.
            threshold: decide at this cosine instead.
            test: the test set that the threshold is taken from, if several have one.

        Raises:
            UserError: neither `far` nor `threshold` is given, or there is no threshold at that FAR.
        """
        limit = self._threshold(far, threshold, test)
        for side in (a, b):
            if isinstance(side, str | Path) and Path(side).expanduser().is_dir():
                raise UserError(
                    f"{side} is a folder, and one crop is compared with one.",
                    expected="a file on either side; recogniser.identify(gallery, probes) takes folders",
                )
        found = [Decision(float(score), limit, bool(score >= limit)) for score in self.scores(a, b)]
        return found[0] if is_one(a) and is_one(b) else found

    def scores(self, a: Crops, b: Crops) -> NDArray[np.float64]:
        """(N,) cosines of each crop of `a` with the one at its place in `b`. Raises as `embed` does."""
        left, right = listed(a), listed(b)
        if len(left) != len(right):
            raise UserError(
                f"{len(left)} and {len(right)} crops: which is compared with which is not clear.",
                expected="as many on both sides; recogniser.identify(gallery, probes) compares all with all",
            )
        rows = unit(self.embed([*left, *right]))
        return np.asarray(np.clip((rows[: len(left)] * rows[len(left) :]).sum(axis=1), -1, 1), dtype=np.float64)

    def identify(
        self,
        gallery: Mapping[str, Crops] | str | Path,
        probes: Crops,
        *,
        top: int = 1,
        far: float | None = None,
        threshold: float | None = None,
        test: str | None = None,
    ) -> list[Identified]:
        """Who of the gallery is most like each probe: people by the highest cosine with one of their images.

        Args:
            gallery: name -> crops; or a folder with a folder of crops for each person.
            probes: the crops to name.
            top: candidates of each probe.
            far, threshold, test: as for `verify`; with none, no probe is rejected. A FAR is that of one comparison:
                against n people a stranger is accepted about n times as often.

        Raises:
            UserError: the gallery is empty; or as `embed` and `verify`.
        """
        people = {str(name): listed(crops) for name, crops in gallery_of(gallery).items()}
        limit = None if far is None and threshold is None else self._threshold(far, threshold, test)
        names = list(people)
        owner = np.repeat(np.arange(len(names)), [len(images) for images in people.values()])
        rows = unit(self.embed([entry for images in people.values() for entry in images]))
        entries = listed(probes)
        asked = unit(self.embed(entries))
        starts = np.flatnonzero(np.diff(owner, prepend=-1))
        found = []
        step = max(1, _BLOCK // len(rows))
        for start in range(0, len(asked), step):
            best = np.maximum.reduceat(np.clip(asked[start : start + step] @ rows.T, -1, 1), starts, axis=1)
            order = np.argsort(-best, axis=1, kind="stable")[:, :top]
            for place, (scores, ranked) in enumerate(zip(best, order, strict=True), start):
                candidates = tuple(Candidate(names[person], float(scores[person])) for person in ranked)
                known = None if limit is None else candidates[0].score >= limit
                found.append(Identified(named(entries)[place], candidates, limit, known))
        return found

    def _threshold(self, far: float | None, threshold: float | None, test: str | None) -> float:
        return choose(self.points, far, test).threshold if threshold is None else threshold

    def _rows(self, entries: Sequence[Any], compute: Callable[[NDArray[np.uint8]], Tensor]) -> NDArray[np.float32]:
        parts = [compute(batch).cpu().numpy() for batch in batches(entries, self.size, self.batch_size, self.resizes)]
        return np.concatenate(parts)

    def _pixels(self, batch: NDArray[np.uint8]) -> Tensor:
        images = torch.from_numpy(batch).to(self.device)
        return normalised(images, self.preprocessing, dtype=self._dtype)


def gallery_of(gallery: Mapping[str, Crops] | str | Path) -> Mapping[str, Crops]:
    """Name -> crops, of a folder with a folder for each person. Raises `UserError` if nobody is in it."""
    if isinstance(gallery, str | Path):
        from kdface.datasets.folders import scan

        root = Path(gallery).expanduser()
        people, _ = scan(root)
        return {person: [root / person / file for file in files] for person, files in people.items()}
    if not gallery:
        raise UserError("the gallery is empty.", expected="name -> crops, of one person or more")
    return gallery
