"""Load batches of views from a set of faces: order, augmentation and position are pure functions.

The sampler yields (epoch, index) pairs, so workers need no state, and a resumed run continues at the exact batch,
regardless of the number of workers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from kdface.augmentations import Augmentation
from kdface.datasets.contract import read_sample
from kdface.datasets.workers import BROKEN_OFF, frozen_ended, shared, worker_error
from kdface.errors import DataError, UserError
from kdface.faces import FaceSet
from kdface.randomness import generator

Order = Callable[[int], NDArray[np.int64]]


@dataclass
class Batch:
    """Input of a training step.

    Attributes:
        views: name -> (N, H, W, 3) uint8 RGB.
        label: (N,) int64.
        keys: the samples' keys.
        skipped: broken samples, each as "key: reason" (only with on_error=skip).
    """

    views: dict[str, Tensor]
    label: Tensor
    keys: list[str]
    skipped: list[str]

    def to(self, device: torch.device, non_blocking: bool = False) -> Batch:
        """The batch on a device (Lightning calls this)."""
        views = {name: view.to(device, non_blocking=non_blocking) for name, view in self.views.items()}
        return Batch(views, self.label.to(device, non_blocking=non_blocking), self.keys, self.skipped)

    def pin_memory(self) -> Batch:
        """The batch in pinned memory (the loader calls this)."""
        views = {name: view.pin_memory() for name, view in self.views.items()}
        return Batch(views, self.label.pin_memory(), self.keys, self.skipped)


class TrainingSet(Dataset[Any]):
    """Augmented faces. Item (epoch, index) depends on nothing but the run seed."""

    def __init__(
        self, faces: FaceSet, augmentation: Augmentation, seed: int, on_error: Literal["raise", "skip"] = "raise"
    ) -> None:
        self.faces = faces
        self.augmentation = augmentation
        self.seed = seed
        self.on_error = on_error

    def __getitem__(self, item: tuple[int, int]) -> tuple[dict[str, NDArray[np.uint8]], int, str] | str | UserError:
        epoch, index = item
        try:
            sample = read_sample(self.faces, index)
            views = self.augmentation(sample, generator(self.seed, "augment", epoch, sample.key))
        except UserError as error:
            # Raised in a worker, it would be wrapped in the worker's traceback.
            left_out = self.on_error == "skip" and isinstance(error, DataError)
            return f"{self.faces.keys[index]}: {error.problem}" if left_out else error
        return views, sample.label, sample.key

    def __len__(self) -> int:
        return len(self.faces)


def collate(items: list[Any]) -> Batch | UserError:
    """Stack the items of a batch; strings are skipped samples, errors are passed on."""
    for item in items:
        if isinstance(item, UserError):
            return item
    skipped = [item for item in items if isinstance(item, str)]
    kept = [item for item in items if not isinstance(item, str)]
    if not kept:
        return DataError(
            f"every image of a batch is broken, the first one {skipped[0]}", fix="kdface data verify DATASET"
        )
    names = kept[0][0].keys()
    try:
        views = {name: shared(torch.from_numpy(np.stack([views[name] for views, _, _ in kept]))) for name in names}
        label = shared(torch.tensor([label for _, label, _ in kept], dtype=torch.int64))
    except UserError as error:
        return error
    return Batch(views, label, [key for _, _, key in kept], skipped)


def shuffled(images: int, batch_size: int, seed: int) -> Order:
    """Every image once per epoch in an order drawn from (seed, epoch); the last, incomplete batch is dropped.

    Returns a function epoch -> (steps, batch_size) indices. Raises `UserError` if there is not one complete batch.
    """
    steps = images // batch_size
    if steps < 1:
        raise UserError(
            f"loader.batch_size = {batch_size} is more than the {images} training images.",
            fix=f"loader.batch_size={max(2, images // 2)}",
        )

    def order(epoch: int) -> NDArray[np.int64]:
        drawn = generator(seed, "order", epoch).permutation(images)
        return drawn[: steps * batch_size].reshape(steps, batch_size).astype(np.int64)

    return order


class BatchOrder(Sampler[list[tuple[int, int]]]):
    """The (epoch, index) pairs of this rank's part of each batch, starting at any position.

    A step's batch is split into `accumulate` parts and each part over the ranks, so neither changes which images a
    step uses.

    Args:
        order: epoch -> (steps, batch) indices.
        accumulate, rank, world: parts per step, this rank, and the number of ranks.
        limit: batches (parts) per epoch; null: all.
        overfit: repeat those of the first epoch.
    """

    def __init__(
        self,
        order: Order,
        accumulate: int = 1,
        rank: int = 0,
        world: int = 1,
        limit: int | None = None,
        overfit: bool = False,
    ) -> None:
        self.order = order
        self.parts = accumulate
        self.rank = rank
        self.world = world
        steps, size = (int(length) for length in order(0).shape)
        if size % (accumulate * world):
            raise UserError(
                f"loader.batch_size = {size} cannot be divided into {accumulate} parts over {world} ranks.",
                fix=f"loader.batch_size={size - size % (accumulate * world) or accumulate * world}",
            )
        self.whole = steps * accumulate
        self.length = self.whole if limit is None else limit
        self.overfit = overfit
        self.position = 0

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch, start = divmod(self.position, self.length)
        rows = self.order(0 if self.overfit else epoch).reshape(self.whole, -1)
        for row in rows[start : self.length]:
            yield [(epoch, int(index)) for index in row[self.rank :: self.world]]


class ResumableLoader(DataLoader[Any]):
    """A loader that counts its delivered batches and continues from there on resume.

    Raises `UserError` if a worker is killed, or delivers no batch for `timeout` seconds (0: no timeout).
    """

    def __init__(
        self, faces: TrainingSet, batches: BatchOrder, workers: int = 0, pin_memory: bool = False, timeout: int = 0
    ) -> None:
        self.delivered = 0
        self.batches = batches
        super().__init__(
            faces,
            batch_sampler=batches,
            num_workers=workers,
            collate_fn=collate,
            pin_memory=pin_memory,
            persistent_workers=workers > 0,
            timeout=timeout if workers else 0,
            worker_init_fn=_one_thread,
        )

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # torch names its own iterator class
        self.batches.position = self.delivered
        frozen: list[int] = []
        batches = super().__iter__()
        while True:
            try:
                with frozen_ended(self.timeout) as frozen:
                    batch = next(batches)
            except StopIteration:
                return
            except (RuntimeError, *BROKEN_OFF) as error:
                raise worker_error(error, frozen, self.timeout) or error from None
            if isinstance(batch, UserError):
                raise batch
            self.delivered += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """The total number of delivered batches."""
        return {"delivered": self.delivered}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue after the delivered batches."""
        self.delivered = state["delivered"]


def _one_thread(worker: int) -> None:
    """Workers share the machine with training: keep OpenCV from starting a thread pool in each."""
    del worker
    cv2.setNumThreads(0)
