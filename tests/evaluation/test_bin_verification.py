"""Verification over InsightFace's .bin files: as they are stored, and masked on one side or both."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from kdface.augmentations import SyntheticMask
from kdface.datasets import BinPairs, Seen, ToyFaces
from kdface.errors import UserError
from kdface.evaluation import bin_verification
from kdface.evaluation.embed import Embedder
from kdface.faces import FaceSet, Preprocessing
from tests.datasets.test_bin_pairs import png, py2_pickle, py2_string

PAIRS = 10


def _signature(images: torch.Tensor, kind: Preprocessing) -> torch.Tensor:
    """The mean colour of every eighth of the image's rows, less grey."""
    return images.float().reshape(len(images), 8, -1, 3).mean(2).flatten(1) - 128


def _by_hand(faces: FaceSet, row: int) -> np.ndarray:
    found = faces[row].image.astype(np.float64).reshape(8, -1, 3).mean(1).ravel() - 128
    return np.asarray(found / np.linalg.norm(found))


def test_the_second_image_of_each_pair_or_both_wear_the_mask(tmp_path: Path) -> None:
    images = [py2_string(png(seed)) for seed in range(2 * PAIRS)]
    (tmp_path / "set.bin").write_bytes(py2_pickle(images, [True, False] * (PAIRS // 2)))
    bare = BinPairs(tmp_path / "set.bin")
    masked = Seen(bare, SyntheticMask(probability=1.0), "masked")
    scores = {}
    sets: dict[str, tuple[FaceSet, FaceSet]] = {"bare": (bare, bare), "clean": (bare, masked), "both": (masked, masked)}
    for name, sides in sets.items():
        protocol = bin_verification(sides[0], fars=(0.2,), probes=sides[1] if name == "clean" else None)
        scores[name] = protocol.evaluate(Embedder(_signature)).scores
        expected = [float(_by_hand(sides[0], 2 * k) @ _by_hand(sides[1], 2 * k + 1)) for k in range(PAIRS)]
        assert scores[name] == pytest.approx(expected, abs=1e-5)
    assert not np.allclose(scores["bare"], scores["clean"]) and not np.allclose(scores["clean"], scores["both"])


def test_a_set_without_pairs_is_told() -> None:
    with pytest.raises(UserError, match="has no pairs"):
        bin_verification(ToyFaces(people=4, images_per_person=4))
