"""Embeddings of a file teach and recognise as the network would that made them, and nothing more is made of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kdface.augmentations import Misalignment
from kdface.datasets import Seen
from kdface.datasets.embedding_file import EmbeddingFile
from kdface.errors import DataError, UserError
from kdface.evaluation.protocol import Verification
from kdface.evaluation.quality import QualityEDC
from kdface.faces import FaceSet, Preprocessing
from kdface.heads import CosFace
from kdface.losses import ProbabilisticTransfer, RelationalTransfer
from kdface.methods import AIKD, Distillation, Views
from kdface.teachers import StoredTeacher, Teacher, from_embeddings
from kdface.teachers.quality import EmbeddingNorm, MatedCosine
from tests.conftest import UNTESTED, Kdface, only_run
from tests.datasets.test_loading import Noise
from tests.evaluation.test_quality import POLICY, _embedder, _test
from tests.methods.test_distillation import SMALL, VIEWS, _batch, small_network


def _stored(folder: Path, keys: Any, rows: Any, **more: Any) -> StoredTeacher:
    np.savez(folder / "e.npz", keys=np.array(keys), embeddings=np.asarray(rows))
    return from_embeddings(folder / "e.npz", **more)


@pytest.mark.parametrize(
    ("size", "options"),
    [
        (8, {}),
        (12, {}),  # through the linear map between the two sizes
        (12, {"transfer": RelationalTransfer(), "guidance": 1.0}),  # compare distances: any two sizes
        (12, {"transfer": ProbabilisticTransfer(), "guidance": 1.0}),
    ],
)
def test_it_teaches_what_the_network_would(tmp_path: Path, size: int, options: dict[str, Any]) -> None:
    network, batch = Teacher(small_network(size, seed=7), SMALL), _batch()
    order = [3, 1, 4, 0, 2]
    rows = network.embed(batch.views["clean"]).numpy()[order]
    stored = _stored(tmp_path, [batch.keys[row] for row in order], rows)
    terms = []
    for teacher in (network, stored):
        torch.manual_seed(5)
        method = Distillation(small_network(), CosFace(8, 3), SMALL, VIEWS, teacher, **options)
        terms.append(method.terms(batch))
    for name in ("classification", "distillation"):
        assert torch.equal(terms[0][name].value, terms[1][name].value)
        assert terms[0][name].weight == terms[1][name].weight
    assert torch.isfinite(terms[1]["distillation"].value)


def test_centred_embeddings_forget_a_common_shift(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(5, 8))
    shifted = _stored(tmp_path, list("abcde"), (rows + 100).astype(np.float64), center=True)
    assert shifted.fingerprint != from_embeddings(tmp_path / "e.npz").fingerprint  # labels of one are not the other's
    expected = rows - rows.mean(axis=0)
    found = shifted.embed_view(torch.empty(0), ["d", "a"]).numpy()
    np.testing.assert_allclose(found, expected[[3, 0]], atol=1e-4)  # float32 of numbers about 100


def test_sources_of_quality_that_compare_embeddings(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(20, 6)).astype(np.float32)
    faces = Noise()
    teacher = _stored(tmp_path, faces.keys, rows)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    mates = [[j for j in range(20) if j != i and faces.labels[j] == faces.labels[i]] for i in range(20)]
    expected = [float(np.mean([unit[i] @ unit[j] for j in mates[i]])) for i in range(20)]
    assert MatedCosine()(teacher, faces) == pytest.approx(expected, abs=1e-6)
    assert EmbeddingNorm()(teacher, faces) == pytest.approx(np.linalg.norm(rows, axis=1), rel=1e-6)
    with pytest.raises(UserError, match="without a network"):
        teacher.embed(torch.zeros(1, 8, 8, 3, dtype=torch.uint8))


def test_it_recognises_in_tests_of_quality(tmp_path: Path) -> None:
    """As the network whose embeddings, image and mirror image summed, are in the file."""

    class Frozen:
        preprocessing = Noise.preprocessing

        def embed(self, images: torch.Tensor) -> torch.Tensor:
            return images.reshape(len(images), -1).float()[:, 100:140] - 110.0

        def to(self, device: Any) -> Frozen:
            return self

    test = _test()
    faces: FaceSet = test.dataset
    images = torch.from_numpy(np.stack([faces[row].image for row in range(20)]))
    rows = (Frozen().embed(images) + Frozen().embed(images.flip(2))).numpy()
    stored = _stored(tmp_path, faces.keys, rows)
    outcomes = [
        QualityEDC(test, recognition=network, policy=POLICY, resamples=0).evaluate(_embedder())
        for network in (Frozen(), stored)
    ]
    assert outcomes[0].metrics == outcomes[1].metrics and outcomes[0].metrics["fnmr"].value
    assert outcomes[1].choices["recognition"] == f"embeddings {stored.fingerprint}"

    moved = Seen(faces, Misalignment(pixels=1.0), "perturbed")
    options: dict[str, Any] = {"perturbed": moved, "policy": POLICY, "resamples": 0}
    aligned = QualityEDC(test, recompute_embeddings=False, recognition=stored, **options).evaluate(_embedder())
    assert aligned.metrics["aligned_embeddings/fnmr"].value == outcomes[0].metrics["fnmr"].value
    with pytest.raises(UserError, match="are of the aligned images"):
        QualityEDC(test, recognition=stored, **options)

    compared = Verification(faces, test.pairs, recognition=stored, probe_recognition=stored)
    assert compared.evaluate(_embedder()).scores == pytest.approx(outcomes[0].scores)
    needed = test.pairs.left[0]
    kept = [row for row, key in enumerate(faces.keys) if key != needed]
    other = _stored(tmp_path, [faces.keys[row] for row in kept], rows[kept])
    for build in (
        lambda: QualityEDC(test, recognition=other, policy=POLICY),
        lambda: Verification(faces, test.pairs, recognition=other),
    ):
        with pytest.raises(DataError, match=rf"1 of \d+ images of noise have no embedding: {needed}"):
            build()


def test_a_copy_cannot_be_made_of_it(tmp_path: Path) -> None:
    backbone: Any = small_network()
    teacher = _stored(tmp_path, ["a"], np.ones((1, 8)))
    with pytest.raises(UserError, match="have no weights"):
        AIKD(backbone, SMALL, Views("perturbed", "aligned"), teacher, hidden=4)
    assert AIKD(backbone, SMALL, Views("perturbed", "aligned"), teacher, hidden=4, start="scratch").teacher is teacher


def _toy_embeddings(folder: Path, size: int = 5, leave_out: int = 0) -> None:
    from kdface.datasets import ToyFaces

    faces = ToyFaces(people=6, images_per_person=6, size=(32, 32))
    rows = np.random.default_rng(1).normal(size=(len(faces), size))
    kept = slice(leave_out, None)
    np.savez(folder / "e.npz", keys=np.array(faces.keys)[kept], embeddings=rows[kept])


BLACK_BOX = [*UNTESTED, "method=maskinv", "teacher=embeddings", "teacher.file=e.npz", "trainer.max_steps=2"]


def test_a_run_is_taught_by_a_file(kdface: Kdface, tmp_path: Path) -> None:
    """Training images without an embedding are named before a run folder is made; another file is another teacher."""
    _toy_embeddings(tmp_path, leave_out=2)
    said = kdface("train", *BLACK_BOX)
    assert said.code == 2 and "2 of 36 images of toy_faces have no embedding" in " ".join(said.err.split())
    assert not (tmp_path / "runs").exists()
    _toy_embeddings(tmp_path)
    said = kdface("train", *BLACK_BOX)
    assert said.code == 0, said.err
    run = only_run(tmp_path / "runs")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    trained = [line for line in lines if line["kind"] == "train"]
    assert trained and all(line["terms"]["distillation"]["raw"] > 0 and "agreement" in line for line in trained)
    about = json.loads((run / "data.json").read_text())["teacher"]
    assert len(about["fingerprint"]) == 64
    assert (
        kdface("evaluate", f"run={run}", "evaluation=toy_pairs", "evaluation.toy_pairs.dataset.size=[32,32]").code == 0
    )
    assert "this run is finished" in kdface("train", *BLACK_BOX).out
    _toy_embeddings(tmp_path, size=6)
    said = kdface("train", *BLACK_BOX)
    assert said.code == 2 and "its teacher has changed" in said.err


def test_the_development_faces_have_an_embedding_each(real_data: Path) -> None:
    from kdface.datasets import ImageFolder

    for name, images in (("pins90", 12148), ("ytf347", None)):
        file = real_data / "embeddings" / f"{name}.npz"
        if not file.is_file():
            pytest.skip("no embeddings beside the real faces")
        faces = ImageFolder(real_data / name, size=(112, 112), name=name)
        teacher = StoredTeacher(EmbeddingFile(file))
        teacher.require_knows(faces)
        assert teacher.embedding_size == 128 and len(faces) == (images or len(faces))
        drawn = [faces.keys[row] for row in (0, len(faces) // 2, len(faces) - 1)]
        with np.load(file) as arrays:
            place = arrays["keys"].tolist().index(drawn[1])
            expected = arrays["embeddings"][place]
        shown = teacher.embed_view(torch.zeros(3, 1, 1, 3, dtype=torch.uint8), drawn)
        assert shown[1].tolist() == expected.tolist()
        teacher.require_sees(Preprocessing("other", (7, 7)), "any images")
