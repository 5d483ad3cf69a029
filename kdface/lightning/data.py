"""Faces as a LightningDataModule: training batches that resume exactly, and the images of evaluation protocols."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytorch_lightning as pl
from torch.utils.data import DataLoader, Dataset

from kdface.datasets.contract import read_sample
from kdface.datasets.loading import BatchOrder, Order, ResumableLoader, TrainingSet, collate
from kdface.errors import UserError
from kdface.evaluation import EvaluationProtocol
from kdface.evaluation.protocol import datasets_of
from kdface.faces import FaceSet


class FaceImages(Dataset[Any]):
    """The images of a face set by key, as a single view `image`, for evaluation."""

    def __init__(self, faces: FaceSet, keys: list[str]) -> None:
        self.faces = faces
        self.keys = keys
        self._rows = {key: row for row, key in enumerate(faces.keys)}

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> tuple[dict[str, Any], int, str] | UserError:
        try:
            sample = read_sample(self.faces, self._rows[self.keys[index]])
        except UserError as error:
            return error
        return {"image": np.asarray(sample.image)}, sample.label, sample.key


class Batches(list[list[int]]):
    """A list with attributes, which Lightning takes for a batch sampler when it predicts."""


def whole_batches(count: int, batch_size: int, rank: int = 0, world: int = 1) -> Batches:
    """The batches of this rank. Batches are not split, so that every row is bit-identical to a single rank's; if they
    cannot be distributed evenly, the first one is repeated, since ranks must take equally many steps."""
    chunks = [list(range(start, min(start + batch_size, count))) for start in range(0, count, batch_size)]
    return Batches([*chunks, *chunks[:1] * (-len(chunks) % world)][rank::world])


class FaceData(pl.LightningDataModule):
    """Training, validation and test loaders of a run. Batches are `kdface.datasets.loading.Batch`.

    The training loader splits each batch over the ranks itself (`Trainer(use_distributed_sampler=False)`), draws
    from (seed, epoch, sample) alone, and resumes at the exact batch of a checkpoint. Validation and test load the
    images that the protocols read, with one loader per dataset, as the view `image`.

    Args:
        training: augmented faces.
        order: epoch -> (steps, batch) indices (`kdface.datasets.loading.shuffled`).
        validation, test: name -> protocol.
        num_workers: loader processes per rank.
        batches: batches (accumulated parts) per epoch; null: all.
        overfit: repeat those of the first epoch.
        evaluation_batch_size: images per batch of validation and test; that of training is the `order`'s.
        timeout: seconds to wait for a batch from a loader process; 0: no timeout.
    """

    def __init__(
        self,
        training: TrainingSet,
        order: Order,
        validation: Mapping[str, EvaluationProtocol] | None = None,
        test: Mapping[str, EvaluationProtocol] | None = None,
        num_workers: int = 0,
        batches: int | None = None,
        overfit: bool = False,
        evaluation_batch_size: int = 256,
        timeout: int = 0,
    ) -> None:
        super().__init__()
        self.training = training
        self.order = order
        self.validation = dict(validation or {})
        self.test = dict(test or {})
        self.num_workers = num_workers
        self.batches = batches
        self.overfit = overfit
        self.evaluation_batch_size = evaluation_batch_size
        self.timeout = timeout
        self.loader: ResumableLoader | None = None
        self._delivered = 0

    def train_dataloader(self) -> ResumableLoader:
        """This rank's share of the training batches, ordered by (seed, epoch), after those already delivered."""
        trainer = self.trainer
        parts, rank, world = 1, 0, 1
        if trainer is not None:
            parts, rank, world = trainer.accumulate_grad_batches, trainer.global_rank, trainer.world_size
        batches = BatchOrder(self.order, parts, rank, world, self.batches, self.overfit)
        gpu = trainer is not None and trainer.strategy.root_device.type == "cuda"
        self.loader = ResumableLoader(self.training, batches, self.num_workers, gpu, self.timeout)
        self.loader.load_state_dict({"delivered": self._delivered})
        return self.loader

    def val_dataloader(self) -> list[DataLoader[Any]]:
        """One loader for each validation set; empty without one."""
        return self._images(self.validation)

    def test_dataloader(self) -> list[DataLoader[Any]]:
        """One loader for each test set; empty without one."""
        return self._images(self.test)

    def predict_dataloader(self) -> Any:
        """Raises `UserError`: which images are meant is not known."""
        raise UserError(
            "FaceData does not know which of its images to predict.",
            fix="trainer.predict(module, data.test_dataloader())",
        )

    def _images(self, protocols: Mapping[str, EvaluationProtocol]) -> list[DataLoader[Any]]:
        trainer = self.trainer
        rank, world = (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)
        loaders = []
        for faces, keys in datasets_of(protocols):
            loader: DataLoader[Any] = DataLoader(
                FaceImages(faces, keys),
                batch_sampler=whole_batches(len(keys), self.evaluation_batch_size, rank, world),
                collate_fn=_whole,
                num_workers=self.num_workers,
                timeout=self.timeout if self.num_workers else 0,
            )
            loaders.append(loader)
        return loaders

    def state_dict(self) -> dict[str, int]:
        """The number of delivered batches."""
        return {"delivered": self._delivered if self.loader is None else self.loader.delivered}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Continue after the delivered batches."""
        self._delivered = int(state_dict["delivered"])


def _whole(items: list[Any]) -> Any:
    batch = collate(items)
    if isinstance(batch, UserError):
        raise batch
    return batch
