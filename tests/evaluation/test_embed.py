"""Embeddings: original plus mirror, once, by key."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kdface.evaluation import Embedder
from kdface.faces import Preprocessing
from tests.datasets.test_loading import Noise


def test_rows_are_those_of_the_keys_original_plus_mirror_each_image_once() -> None:
    seen: list[int] = []

    def network(images: torch.Tensor, kind: Preprocessing) -> torch.Tensor:
        assert kind == faces.preprocessing
        assert images.dtype == torch.uint8 and images.shape[1:] == (8, 8, 3)
        seen.append(len(images))
        return images[:, 0, :2, 0].float()  # two pixels of the first row: the mirror has others

    faces = Noise()
    embed = Embedder(network, batch_size=3)
    found = embed(faces, ["07", "02", "07"])
    for row, index in zip(found, (7, 2, 7), strict=True):
        line = faces[index].image[0, :, 0].astype(np.float32)
        assert row == pytest.approx(line[:2] + line[::-1][:2])
    embed(faces, ["02", "11"])
    assert sum(seen) == 2 * 3  # 07, 02 and 11, each with its mirror


def test_an_image_alone_is_remembered_apart_from_its_sum_with_the_mirror() -> None:
    faces, seen = Noise(), 0

    def network(images: torch.Tensor, kind: Preprocessing) -> torch.Tensor:
        nonlocal seen
        seen += len(images)
        return images[:, 0, :2, 0].float()

    embed = Embedder(network)
    line = faces[7].image[0, :, 0].astype(np.float32)
    for _ in range(2):
        assert embed(faces, ["07"], mirror=False)[0] == pytest.approx(line[:2])
        assert embed(faces, ["07"])[0] == pytest.approx(line[:2] + line[::-1][:2])
    assert seen == 1 + 2


def test_a_key_that_the_dataset_lacks() -> None:
    with pytest.raises(KeyError):
        Embedder(lambda images, kind: images[:, 0, :, 0].float())(Noise(), ["99"])
