"""Embeddings: computed once per (weights, dataset), with or without the mirror image, by key, all or none."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdface.datasets.embedding_file import EmbeddingFile
from kdface.errors import UserError
from kdface.faces import FaceSet, Preprocessing
from kdface.progress import track

Network = Callable[[Tensor, Preprocessing], Tensor]  # (N, H, W, 3) uint8 RGB of that kind -> (N, D)
Quality = Callable[[Tensor, Preprocessing], Tensor]  # (N, H, W, 3) uint8 RGB of that kind -> (N,)
Logits = Callable[[Tensor, Preprocessing], Tensor]  # (N, H, W, 3) uint8 RGB of that kind -> (N, C)


@runtime_checkable
class Recognition(Protocol):
    """A frozen recognition network; `kdface.teachers.Teacher` is one."""

    preprocessing: Preprocessing

    def embed(self, images: Tensor) -> Tensor:
        """(N, H, W, 3) uint8 RGB -> (N, D)."""

    def to(self, device: torch.device | str) -> Recognition:
        """Move it to a device."""


@runtime_checkable
class Stored(Protocol):
    """A recogniser known only by a file of embeddings; `kdface.teachers.StoredTeacher` is one."""

    file: EmbeddingFile


class Tested(Protocol):
    """Interface that protocols can require of the tested network; `kdface.methods.Method` implements it."""

    @property
    def grades(self) -> bool:
        """Whether the network predicts face-image quality."""

    @property
    def classifies(self) -> bool:
        """Whether its head is a softmax over all training people."""

    @property
    def people(self) -> Sequence[str]:
        """The training people."""


Task = Callable[[Tensor, FaceSet], Tensor]  # (N, H, W, 3) uint8 RGB of a dataset -> (N, ...)
Known = dict[int, tuple[FaceSet, dict[str, NDArray[np.float32]]]]  # by the dataset's id: rows by key


class Embedder:
    """Embeds images of a dataset by key and caches the results, shared by protocols on the same dataset.

    Args:
        network: (N, H, W, 3) uint8 and their preprocessing -> (N, D); called without gradients.
        quality_network: (N, H, W, 3) uint8 and their preprocessing -> (N,) face-image quality, if available.
        classifier: (N, H, W, 3) uint8 and their preprocessing -> (N, C) logits of classes, if available.
        people: the names of these classes.
        device: of the network.
        batch_size: images per forward pass (plus as many mirror images).
        rank, world: this process embeds its share of whole batches, so that every row is bit-identical to a single
            rank's; results are gathered by row and asserted complete.
    """

    def __init__(
        self,
        network: Network,
        device: torch.device | str = "cpu",
        batch_size: int = 256,
        rank: int = 0,
        world: int = 1,
        quality_network: Quality | None = None,
        classifier: Logits | None = None,
        people: Sequence[str] = (),
    ) -> None:
        self.network = network
        self.quality_network = quality_network
        self.classifier = classifier
        self.people = tuple(people)
        self.device = torch.device(device)
        self.batch_size = batch_size
        self.rank = rank
        self.world = world
        self._known: Known = {}
        self._alone: Known = {}
        self._qualities: Known = {}
        self._logits: Known = {}

    def __call__(self, dataset: FaceSet, keys: Sequence[str], mirror: bool = True) -> NDArray[np.float32]:
        """(len(keys), D): f(image) + f(mirrored image) of each key, or f(image) alone; not normalised.

        The sum follows InsightFace; its direction is that of the mean. Rows correspond to `keys`, regardless of the
        number of ranks. Raises `kdface.errors.DataError` for unreadable images and `KeyError` for missing keys.
        """
        if mirror:
            return self._recall(self._known, self._both, dataset, keys)
        return self._recall(self._alone, self._one, dataset, keys)

    def add(self, dataset: FaceSet, keys: Sequence[str], images: Tensor) -> None:
        """Embed already loaded images, (N, H, W, 3) uint8, and cache the results; see `share`."""
        with torch.no_grad():
            rows = self._both(images, dataset).cpu().numpy()
        self._known.setdefault(id(dataset), (dataset, {}))[1].update(zip(keys, rows, strict=True))

    def share(self, dataset: FaceSet, keys: Sequence[str]) -> int:
        """Share what was added on any rank with all ranks; returns the number of keys that no rank has."""
        _, known = self._known.setdefault(id(dataset), (dataset, {}))
        if self.world > 1:
            parts: list[Any] = [None] * self.world
            torch.distributed.all_gather_object(parts, known)
            for part in parts:
                known.update(part)
        return len(set(keys) - known.keys())

    def quality(self, dataset: FaceSet, keys: Sequence[str]) -> NDArray[np.float64]:
        """(len(keys),): the quality of each image, without its mirror image; higher is better."""
        if self.quality_network is None:
            raise UserError("this network gives no face-image quality.")
        return self._recall(self._qualities, self._quality, dataset, keys)[:, 0].astype(np.float64)

    def logits(self, dataset: FaceSet, keys: Sequence[str]) -> NDArray[np.float32]:
        """(len(keys), C): the logits of `people`, without margin and without mirror images."""
        if self.classifier is None:
            raise UserError("this network gives no logits of people.")
        return self._recall(self._logits, self._classes, dataset, keys)

    def posterior(self, dataset: FaceSet, keys: Sequence[str]) -> NDArray[np.float32]:
        """(len(keys), C): the probabilities of `people`, the softmax of `logits`."""
        return np.asarray(torch.from_numpy(self.logits(dataset, keys)).softmax(1).numpy(), dtype=np.float32)

    def embed_and_grade(self, dataset: FaceSet, keys: Sequence[str], network: Recognition | None = None) -> None:
        """Compute and cache embeddings and qualities of these keys, reading each image once.

        Args:
            network: computes the embeddings; null: the embedder's network.
        """
        if self.quality_network is None:
            raise UserError("this network gives no face-image quality.")
        embed = embedder_of(network, self)
        tasks: dict[Task, Known] = {self._quality: self._qualities}
        if not isinstance(network, Stored):
            tasks[embed._both] = embed._known
        self._learn(tasks, dataset, keys)

    def frozen(self, network: Recognition) -> Embedder:
        """An embedder of a frozen network, on this one's device, shared by test sets with the same network."""
        network.to(self.device)
        if network not in _FROZEN and isinstance(network, Stored):
            _FROZEN[network] = StoredEmbeddings(network.file)
        if network not in _FROZEN:
            held = weakref.proxy(network)
            _FROZEN[network] = Embedder(
                lambda images, _: held.embed(images), self.device, self.batch_size, self.rank, self.world
            )
        return _FROZEN[network]

    def _recall(self, store: Known, compute: Task, dataset: FaceSet, keys: Sequence[str]) -> NDArray[np.float32]:
        self._learn({compute: store}, dataset, keys)
        return np.stack([store[id(dataset)][1][key] for key in keys])

    def _learn(self, tasks: Mapping[Task, Known], dataset: FaceSet, keys: Sequence[str]) -> None:
        """Compute missing results for these keys, in one pass for tasks that miss the same ones."""
        wanted: dict[tuple[str, ...], list[Task]] = {}
        for task, store in tasks.items():
            _, known = store.setdefault(id(dataset), (dataset, {}))
            if missing := sorted(set(keys) - known.keys()):
                wanted.setdefault(tuple(missing), []).append(task)
        rows = {key: row for row, key in enumerate(dataset.keys)} if wanted else {}
        for lacking, together in wanted.items():
            found = self._compute(together, dataset, [rows[key] for key in lacking])
            for task, values in zip(together, found, strict=True):
                tasks[task][id(dataset)][1].update(zip(lacking, values, strict=True))

    def _both(self, batch: Tensor, dataset: FaceSet) -> Tensor:
        kind = dataset.preprocessing
        return self.network(batch, kind).float() + self.network(batch.flip(2), kind).float()

    def _one(self, batch: Tensor, dataset: FaceSet) -> Tensor:
        return self.network(batch, dataset.preprocessing).float()

    def _quality(self, batch: Tensor, dataset: FaceSet) -> Tensor:
        assert self.quality_network is not None
        return self.quality_network(batch, dataset.preprocessing).float()[:, None]

    def _classes(self, batch: Tensor, dataset: FaceSet) -> Tensor:
        assert self.classifier is not None
        return self.classifier(batch, dataset.preprocessing).float()

    def _compute(self, tasks: Sequence[Task], dataset: FaceSet, rows: list[int]) -> list[NDArray[np.float32]]:
        size, count = self.batch_size, len(rows)
        chunks = [range(start, min(start + size, count)) for start in range(0, count, size)][self.rank :: self.world]
        mine = [key for chunk in chunks for key in chunk]
        found: list[list[NDArray[np.float32]]] = [[] for _ in tasks]
        for chunk in track(chunks, f"embedding {dataset.name}", unit=size, total=len(mine)):
            images = torch.from_numpy(np.stack([dataset[rows[key]].image for key in chunk])).to(self.device)
            with torch.inference_mode():
                for task, parts in zip(tasks, found, strict=True):
                    parts.append(task(images, dataset).cpu().numpy())
        whole = [np.concatenate(parts) if parts else np.zeros((0, 0), np.float32) for parts in found]
        return whole if self.world == 1 else [self._gather(part, mine, len(rows)) for part in whole]

    def _gather(self, part: NDArray[np.float32], mine: list[int], expected: int) -> NDArray[np.float32]:
        """Gather the ranks' parts by row; every row exactly once."""
        parts: list[tuple[list[int], NDArray[np.float32]] | None] = [None] * self.world
        torch.distributed.all_gather_object(parts, (mine, part))
        filled = [part for part in parts if part is not None and len(part[0])]
        order = np.concatenate([np.asarray(rows) for rows, _ in filled])
        if sorted(order.tolist()) != list(range(expected)):
            raise RuntimeError(f"evaluation is incomplete: {len(set(order.tolist()))} of {expected} images embedded")
        whole = np.concatenate([rows for _, rows in filled])
        return np.asarray(whole[np.argsort(order)], dtype=np.float32)


class StoredEmbeddings(Embedder):
    """Embeddings from a file, by image key, compared as stored: mirror images are not available."""

    def __init__(self, file: EmbeddingFile) -> None:
        super().__init__(_no_network)
        self.file = file

    def __call__(self, dataset: FaceSet, keys: Sequence[str], mirror: bool = True) -> NDArray[np.float32]:
        """(len(keys), D), as stored. Raises `DataError` for keys that the file lacks, and `UserError` for a set whose
        images are not those that were embedded, such as masked ones."""
        del mirror
        self.file.require(dataset, keys)
        return self.file.look_up(keys, dataset.name)


def _no_network(images: Any, kind: Any) -> Any:
    raise UserError("embeddings from a file come without a network: they cannot embed images.")


# Embedders of frozen networks, kept for the lifetime of the network.
_FROZEN: weakref.WeakKeyDictionary[Recognition, Embedder] = weakref.WeakKeyDictionary()


def embedder_of(network: Recognition | None, own: Embedder) -> Embedder:
    """The network's embedder, or the run's if no network is given."""
    return own if network is None else own.frozen(network)


def require_sees(network: Recognition, faces: FaceSet, keys: Sequence[str]) -> None:
    """Raise `UserError` if a network expects another preprocessing, apart from colour order and pixel scale.

    Embeddings from a file belong to the original images, of any preprocessing, so sets that alter them are rejected.
    Raises `DataError` for keys missing from the file.
    """
    if isinstance(network, Stored):
        network.file.require(faces, keys)
        return
    theirs, ours = network.preprocessing, faces.preprocessing
    kind = replace(theirs, color=ours.color, mean=ours.mean, std=ours.std)
    kind.require_equal(ours, "the recognition network", faces.name)
