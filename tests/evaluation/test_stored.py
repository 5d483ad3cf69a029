"""Embeddings of a file are evaluated as a network's are, by the keys of the images, and files run nothing."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kdface.datasets.embedding_file import EmbeddingFile, read_embeddings
from kdface.datasets.seen import Seen
from kdface.errors import DataError, UserError
from kdface.evaluation.embed import StoredEmbeddings
from tests.conftest import Kdface
from tests.datasets.test_loading import Noise

TOY = [f"evaluation.toy_pairs.{override}" for override in ("folds=2", "pairs_per_fold=8", "fars=[0.25]")]
TOY += [f"evaluation.toy_pairs.dataset.{override}" for override in ("people=8", "images_per_person=4", "size=[32,32]")]


def test_a_file_is_evaluated_by_the_keys_of_the_images(kdface: Kdface, tmp_path: Path) -> None:
    """Embeddings that tell the people apart give an accuracy of 1; the order in the file is free."""
    from kdface.datasets import ToyFaces

    faces = ToyFaces(people=8, images_per_person=4, size=(32, 32), split="test")
    order = np.random.default_rng(0).permutation(len(faces))
    rows = np.eye(8)[np.asarray(faces.labels)] + 0.01
    np.savez(tmp_path / "e.npz", keys=np.array(faces.keys)[order], embeddings=rows[order])
    said = kdface("evaluate", "embeddings=e.npz", "evaluation=toy_pairs", *TOY)
    assert said.code == 0, said.err
    (file,) = tmp_path.glob("runs/embeddings/e-*/toy_pairs/results.json")
    found: dict[str, Any] = json.loads(file.read_text())
    assert found["metrics"]["toy_pairs/accuracy"]["value"] == 1
    assert list((file.parent / "scores").glob("*.npz"))
    said = kdface("evaluate", "embeddings=e.npz", "evaluation=toy_pairs", "optimizer.lr=1")
    assert said.code == 2 and "optimizer.lr=1" in said.err


def test_keys_may_differ_in_suffix_and_zeros_and_those_that_lack_are_named(tmp_path: Path) -> None:
    class Ada(Noise):
        keys = ("Ada/Ada_0001.jpg", "Ada/Ada_0002.jpg", "Bo/Bo_0001.jpg")

    np.savez(tmp_path / "e.npz", keys=["Ada/Ada_2.png", "Ada/Ada_1.png"], embeddings=np.array([[1, 2], [3, 4]]))
    stored = StoredEmbeddings(EmbeddingFile(tmp_path / "e.npz"))
    assert stored(Ada(), Ada.keys[:2]).tolist() == [[3, 4], [1, 2]]
    with pytest.raises(DataError, match=r"1 of 3 images of noise have no embedding: Bo/Bo_0001\.jpg"):
        stored(Ada(), Ada.keys)
    with pytest.raises(UserError, match="gives no face-image quality"):
        stored.quality(Ada(), Ada.keys)


class Payload:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("ran",)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"keys": ["a", "b"], "embeddings": np.ones((3, 2))}, "2 keys and 3 embeddings"),
        ({"keys": ["a", "a"], "embeddings": np.ones((2, 2))}, "2 keys, 1 different"),
        ({"keys": ["a", "b"], "embeddings": np.array([[1, 2], [np.nan, 1]])}, "the embedding of b is not finite"),
        ({"keys": [1, 2], "embeddings": np.ones((2, 2))}, "keys are int64"),
        ({"keys": ["a"], "embeddings": np.ones(3)}, "float64 of"),
        ({"keys": [], "embeddings": np.ones((0, 2))}, "keys are float64"),
        ({"keys": ["a"]}, "not such a file"),
        ({"keys": ["a"], "embeddings": np.array([Payload()], dtype=object)}, "not such a file"),
    ],
)
def test_files_that_are_no_embeddings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: dict[str, Any], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez(tmp_path / "e.npz", **content)
    with pytest.raises(DataError, match=said):
        read_embeddings(tmp_path / "e.npz")
    assert not (tmp_path / "ran").exists()


def test_damaged_missing_and_other_files(tmp_path: Path) -> None:
    np.savez(tmp_path / "e.npz", keys=["a"], embeddings=np.ones((1, 2)))
    whole = (tmp_path / "e.npz").read_bytes()
    for cut in (0, 3, len(whole) // 2, len(whole) - 1):
        (tmp_path / "cut.npz").write_bytes(whole[:cut])
        with pytest.raises(DataError, match="damaged"):
            read_embeddings(tmp_path / "cut.npz")
    with pytest.raises(UserError, match="does not exist"):
        read_embeddings(tmp_path / "gone.npz")
    (tmp_path / "e.csv").write_text("keys")
    with pytest.raises(UserError, match="unsupported format for embeddings"):
        read_embeddings(tmp_path / "e.csv")


def test_the_development_faces_by_a_public_recogniser(
    kdface: Kdface, real_data: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """LFW View 2: FNMR 1.3 % at FMR 1 % and 4.2 % at FMR 0.1 %, as measured elsewhere."""
    file = real_data / "embeddings" / "lfw.npz"
    if not file.is_file():
        pytest.skip("no embeddings beside the real faces")
    assert kdface("evaluate", f"embeddings={file}", "evaluation=lfw", f"paths.data={real_data}").code == 0
    (results,) = tmp_path.glob("runs/embeddings/lfw-*/lfw/results.json")
    metrics = json.loads(results.read_text())["metrics"]
    assert metrics["lfw/accuracy_exact"]["value"] == pytest.approx(0.988, abs=1e-3)
    assert metrics["lfw/fmr100"]["value"] == pytest.approx(0.013, abs=5e-4)
    assert metrics["lfw/fmr1000"]["value"] == pytest.approx(0.042, abs=5e-4)


def test_a_set_that_changes_its_images_has_no_stored_embeddings(tmp_path: Path) -> None:
    """Under the keys of masked faces lie the embeddings of the bare ones."""
    from kdface.augmentations import Misalignment
    from kdface.datasets import JPEG, Pixels, Resized

    faces = Noise()
    np.savez(tmp_path / "e.npz", keys=faces.keys, embeddings=np.eye(20))
    stored = StoredEmbeddings(EmbeddingFile(tmp_path / "e.npz"))
    assert stored(Resized(faces, (4, 4)), faces.keys).shape == (20, 20)
    moved = Seen(faces, Misalignment(pixels=1.0), "perturbed")
    for changed in (moved, JPEG(faces, 50), Pixels(faces, 16), Resized(moved, (4, 4))):
        with pytest.raises(UserError, match="are of the original images"):
            stored(changed, faces.keys)


def test_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A column of lists of one length; without the package the message says what to install."""
    file = tmp_path / "e.parquet"
    file.write_bytes(b"PAR1")
    with monkeypatch.context() as absent, pytest.raises(UserError, match="needs the package pyarrow"):
        absent.setitem(sys.modules, "pyarrow", None)
        read_embeddings(file)
    pa = pytest.importorskip("pyarrow", reason="reads Parquet")
    from pyarrow import parquet

    with pytest.raises(DataError, match="not such a file"):
        read_embeddings(file)
    rows = [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]
    for kind in (pa.list_(pa.float32()), pa.list_(pa.float64(), 2)):
        parquet.write_table(pa.table({"keys": ["a", "b", "c"], "embeddings": pa.array(rows, kind)}), file)
        keys, found = read_embeddings(file)
        assert keys == ["a", "b", "c"] and found.tolist() == rows
    for broken in ([[1.0], [2.0, 3.0]], [[1.0, 2.0], None], [1.0, 2.0]):
        parquet.write_table(pa.table({"keys": ["a", "b"], "embeddings": pa.array(broken)}), file)
        with pytest.raises(DataError, match="not such a file"):
            read_embeddings(file)
