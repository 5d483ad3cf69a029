"""AI-KD: both terms by hand, what is frozen stays frozen, and a run from labels to a score for each image."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import DataLoader

import kdface
from kdface.assembly.job import Job
from kdface.assembly.load import load_network
from kdface.backbones import iresnet_nano
from kdface.backbones.graded import Graded
from kdface.datasets.loading import Batch
from kdface.errors import UserError
from kdface.faces import FaceSet, Preprocessing
from kdface.lightning import FaceData
from kdface.methods import AIKD, Views
from kdface.methods.aikd import BackboneGroup
from kdface.runs.folder import RunFolder
from kdface.teachers import Teacher
from kdface.teachers.frozen import fingerprint_of
from kdface.training.train import train
from tests.conftest import TINY, UNTESTED, Kdface, command, only_run
from tests.runs.test_resume import weights

SMALL = Preprocessing(size=(32, 32))
VIEWS = Views(student="perturbed", teacher="aligned")


def _network(seed: int = 0, channels: tuple[int, int, int, int] = (8, 8, 8, 8)) -> nn.Module:
    torch.manual_seed(seed)
    return iresnet_nano(8, image_size=(32, 32), channels=channels, blocks=(1, 1, 1, 1)).eval()


def _batch() -> Batch:
    draw = torch.Generator().manual_seed(1)
    names = ("aligned", "perturbed")
    views = {name: torch.randint(0, 256, (5, 32, 32, 3), dtype=torch.uint8, generator=draw) for name in names}
    return Batch(views, torch.tensor([0, 1, 2, 1, 0]), list("abcde"), [])


def _method(**options: Any) -> AIKD:
    method = AIKD(_network(), SMALL, VIEWS, Teacher(_network(seed=7), SMALL), hidden=4, **options)
    method.labels = {"a": 0.0, "b": 0.25, "c": 1.0, "d": 0.5, "e": 0.75}
    return method


def _pixels(images: torch.Tensor) -> torch.Tensor:
    return (images.permute(0, 3, 1, 2).float() - 127.5) / 127.5


@pytest.mark.parametrize("kind", ["smooth_l1", "l1"])
def test_both_terms_by_hand(kind: str) -> None:
    batch, method = _batch(), _method(quality_loss=kind, representation_weight=2.0, quality_weight=3.0)
    terms = method.terms(batch)
    student = _network(seed=7)(_pixels(batch.views["perturbed"]))  # it starts as its teacher
    target = _network(seed=7)(_pixels(batch.views["aligned"]))
    cosines = [
        sum(a * b for a, b in zip(one, other, strict=True))
        / (sum(a * a for a in one) * sum(b * b for b in other)) ** 0.5
        for one, other in zip(student.tolist(), target.tolist(), strict=True)
    ]
    assert terms["representation"].value.item() == pytest.approx(sum(1 - cosine for cosine in cosines) / 5, rel=1e-4)
    graded = method.backbone
    assert isinstance(graded, Graded)
    scores = graded.regression(student)[:, 0].tolist()
    losses = []
    for score, label in zip(scores, [0.0, 0.25, 1.0, 0.5, 0.75], strict=True):
        away = abs(score - label)
        losses.append(away if kind == "l1" else away**2 if away < 0.5 else away - 0.25)
    assert terms["quality"].value.item() == pytest.approx(sum(losses) / 5, rel=1e-5)
    assert (terms["representation"].weight, terms["quality"].weight) == (2.0, 3.0)


def test_the_teacher_is_another_network_than_the_student() -> None:
    method = _method()
    assert method.teacher is not None
    before = {name: value.clone() for name, value in method.teacher.network.state_dict().items()}
    method.train()
    optimizer = torch.optim.SGD(method.parameters(), lr=1.0)
    for _ in range(2):
        loss = sum(term.value for term in method.terms(_batch()).values())
        assert isinstance(loss, torch.Tensor)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    after = method.teacher.network.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    graded = method.backbone
    assert isinstance(graded, Graded)
    moved = graded.backbone.state_dict()
    assert any(not torch.equal(value, moved[name]) for name, value in before.items())


def test_what_is_not_trainable_is_frozen_with_its_statistics() -> None:
    method = _method(trainable=("layer4", "fc"))
    graded = method.backbone
    assert isinstance(graded, Graded)
    before = {name: value.clone() for name, value in graded.backbone.state_dict().items()}
    method.train()
    optimizer = torch.optim.SGD(
        [parameter for group in method.parameter_groups() for parameter in group["params"]], lr=0.5
    )
    loss = sum(term.value for term in method.terms(_batch()).values())
    assert isinstance(loss, torch.Tensor)
    torch.autograd.backward(loss)
    optimizer.step()
    changed = {name for name, value in graded.backbone.state_dict().items() if not torch.equal(value, before[name])}
    assert changed and all(name.startswith(("layer4.", "fc.")) for name in changed)


def test_the_two_parameter_groups() -> None:
    method = _method(backbone_group=BackboneGroup(lr_scale=0.5, momentum=0.1, weight_decay=0.0))
    head, backbone = method.parameter_groups()
    graded = method.backbone
    assert isinstance(graded, Graded)
    assert head["params"] == list(graded.regression.parameters())
    assert {k: v for k, v in backbone.items() if k != "params"} == {
        "lr_scale": 0.5,
        "momentum": 0.1,
        "weight_decay": 0.0,
    }


def test_a_student_of_another_shape_than_its_teacher() -> None:
    teacher = Teacher(_network(channels=(8, 8, 8, 16)), SMALL)
    with pytest.raises(UserError, match="their backbones differ"):
        AIKD(_network(), SMALL, VIEWS, teacher)
    AIKD(_network(), SMALL, VIEWS, teacher, start="scratch")
    eyes = Preprocessing(template="periocular", size=(32, 64))
    student = iresnet_nano(8, image_size=(32, 64), channels=(8, 8, 8, 8), blocks=(1, 1, 1, 1))
    with pytest.raises(UserError, match="sees images of 32x64, its teacher of 32x32") as error:
        AIKD(student, eyes, VIEWS, Teacher(_network(), SMALL))
    assert error.value.fix == "method.start=scratch"


@pytest.mark.parametrize(
    ("sees", "told"), [({"color": "bgr"}, "bgr"), ({"std": 128.0}, "std 128"), ({"mean": 0.0}, "mean 0")]
)
def test_a_teacher_of_other_colours_or_scale_is_not_copied(sees: dict[str, Any], told: str) -> None:
    teacher = Teacher(_network(seed=7), replace(SMALL, **sees))
    with pytest.raises(UserError, match="other colours or another scale") as raised:
        AIKD(_network(), SMALL, VIEWS, teacher)
    assert told in str(raised.value) and raised.value.fix == "method.start=scratch"
    AIKD(_network(), SMALL, VIEWS, teacher, start="scratch")


class _ByBrightness:
    """Labels that are the mean of each image."""

    def __call__(self, teacher: Teacher, faces: FaceSet) -> NDArray[np.float64]:
        return np.array([float(faces[row].image.mean()) for row in range(len(faces))])


def _built() -> tuple[AIKD, FaceData]:
    """A module and its data, with a teacher made here."""
    module, data = kdface.build(kdface.compose(*UNTESTED, "seed=0"))
    own = AIKD(
        *(_network(), module.preprocessing, Views("image", "image")),
        Teacher(_network(seed=7), module.preprocessing, _ByBrightness()),
        check_direction=False,
        hidden=4,
    )
    own.optimize_with(module.optimization)
    return own, data


def _trainer() -> pl.Trainer:
    return pl.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


class _Loaders(pl.LightningDataModule):
    """A datamodule of someone else."""

    def __init__(self, data: FaceData) -> None:
        super().__init__()
        self.data = data

    def train_dataloader(self) -> Any:
        return self.data.train_dataloader()

    def val_dataloader(self) -> Any:
        first = next(iter(self.data.train_dataloader()))
        strange: Any = [replace(first, keys=[f"new/{key}" for key in first.keys])]
        return DataLoader(strange, batch_size=None)


def test_a_trainer_of_the_user_has_labels() -> None:
    module, data = _built()
    _trainer().fit(module, datamodule=data)
    assert set(module.labels) == set(data.training.faces.keys)


def test_a_datamodule_of_the_user_is_told_how_to_get_labels() -> None:
    module, data = _built()
    with pytest.raises(UserError, match="training set of _Loaders is unknown"):
        _trainer().fit(module, datamodule=_Loaders(data))
    module, data = _built()
    module.prepare(data.training)  # as the message says
    trainer = _trainer()
    trainer.fit(module, datamodule=_Loaders(data))
    assert trainer.callback_metrics["val/loss"] > 0  # of the embeddings: these images have no labels


def test_a_quality_head_that_is_not_trained_and_learning_rates_by_part() -> None:
    module, data = _built()
    module.quality_weight = 0
    module.backbone.regression.requires_grad_(False)
    before = {name: value.clone() for name, value in module.backbone.state_dict().items()}
    module.optimize_with(replace(module.optimization, lr_scale={"backbone.backbone.layer1": 0.5}))
    _trainer().fit(module, datamodule=data)
    moved = {name for name, value in module.backbone.state_dict().items() if not torch.equal(value, before[name])}
    assert moved and not any(name.startswith("regression") for name in moved)


def test_a_name_that_the_backbone_lacks() -> None:
    with pytest.raises(UserError, match="layer5"):
        _method(trainable=("layer5",))


@pytest.fixture(scope="module")
def teacher_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    said = command("train", *TINY, "paths.runs=runs", cwd=folder)
    assert said.returncode == 0, said.stderr
    return only_run(folder / "runs")


def test_from_labels_to_scores(kdface: Kdface, teacher_run: Path, tmp_path: Path) -> None:
    words = [*TINY, "method=aikd", "teacher=quality/mated_cosine", f"teacher.run={teacher_run}"]
    before = weights(teacher_run)
    parts = ["method.trainable=[layer4,bn2,fc,features]", "method.backbone_group={momentum:0.1,weight_decay:0.0}"]
    said = kdface("train", *words, *parts, f"paths.runs={tmp_path}/runs")
    assert said.code == 0, said.err
    run = only_run(tmp_path / "runs")
    found = weights(run)
    kept = [name for name in before if name.startswith("backbone.layer1.")]
    assert kept
    for name in kept:
        assert torch.equal(before[name], found[name.replace("backbone.", "backbone.backbone.", 1)]), name
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert {"agreement", "quality_error"} <= set(next(row for row in rows if row["kind"] == "train"))

    import cv2

    faces = tmp_path / "faces"
    faces.mkdir()
    draw = np.random.default_rng(0)
    for name in "abc":
        cv2.imwrite(str(faces / f"{name}.png"), draw.integers(0, 256, (32, 32, 3), dtype=np.uint8))
    said = kdface("quality", str(faces), f"run={run}")
    assert said.code == 0, said.err
    with open(tmp_path / "quality_faces.csv", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert sorted(row["key"] for row in table) == ["a.png", "b.png", "c.png"]
    scores = [float(row["quality"]) for row in table]
    assert scores == sorted(scores, reverse=True)
    assert (tmp_path / "quality_faces.png").stat().st_size > 0
    large = tmp_path / "large"  # the run was trained on crops as they are: none is resized
    large.mkdir()
    cv2.imwrite(str(large / "a.png"), np.zeros((64, 64, 3), dtype=np.uint8))
    said = kdface("quality", str(large), f"run={run}")
    assert said.code == 2 and "a.png: the crop is 64 high, 64 wide" in said.err


def test_an_optimiser_that_would_ignore_a_groups_setting(kdface: Kdface, teacher_run: Path, tmp_path: Path) -> None:
    words = [*TINY, "method=aikd", "teacher=quality/mated_cosine", f"teacher.run={teacher_run}", "optimizer=adamw"]
    said = kdface("train", *words, "method.backbone_group={momentum:0.1}", f"paths.runs={tmp_path}/runs")
    told = " ".join(said.err.split())
    assert said.code == 2 and "momentum = 0.1" in told and "AdamW has no momentum" in told
    assert "method.backbone_group=null" in told and not (tmp_path / "runs").exists()


def test_the_teacher_is_the_same_after_training_and_broken_images_are_left_out(
    kdface: Kdface, teacher_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import cv2

    draw = np.random.default_rng(0)
    for person in "abc":
        (tmp_path / "people" / person).mkdir(parents=True)
        for number in range(6):
            path = tmp_path / "people" / person / f"{number}.png"
            cv2.imwrite(str(path), draw.integers(0, 256, (32, 32, 3), dtype=np.uint8))
    broken = tmp_path / "people" / "b" / "3.png"
    broken.write_bytes(broken.read_bytes()[:300])
    jobs: list[Job] = []

    def seen(job: Job, folder: RunFolder, *rest: Any) -> dict[str, Any]:
        jobs.append(job)
        return train(job, folder, *rest)

    monkeypatch.setattr("kdface.training.train.train", seen)
    tiny = [word for word in TINY if not word.startswith(("dataset", "evaluation"))]
    words = [*tiny, "evaluation=none", "dataset=image_folder", "dataset.root=people", "dataset.size=[32,32]"]
    words += ["method=aikd", "teacher=quality/mated_cosine", f"teacher.run={teacher_run}", "paths.runs=runs"]
    said = kdface("train", *words, "dataset.on_error=raise")
    assert said.code == 2 and "3.png: the PNG is cut short" in said.err
    jobs.clear()
    said = kdface("train", *words, "dataset.on_error=skip")
    assert said.code == 0, said.err
    (job,) = jobs
    method = job.method
    assert isinstance(method, AIKD) and method.teacher is not None
    keys = {key for key in job.data.training.faces.keys if not key.startswith("b/3")}
    assert len(keys) == 17 and set(method.labels) == keys
    # the teacher has the bytes of the run's file, those that it had at the start, and the student has others
    assert load_network(teacher_run).fingerprint == method.teacher.fingerprint
    assert fingerprint_of(method.teacher.network) == method.teacher.fingerprint
    graded = method.backbone
    assert isinstance(graded, Graded) and fingerprint_of(graded.backbone) != method.teacher.fingerprint


def test_quality_labels_need_a_source(kdface: Kdface, teacher_run: Path) -> None:
    said = kdface("train", *TINY, "method=aikd", "teacher=run", f"teacher.run={teacher_run}")
    assert said.code == 2 and "has no quality source" in " ".join(said.err.split()) and "teacher=quality/" in said.err


def test_a_network_without_quality(kdface: Kdface, teacher_run: Path, tmp_path: Path) -> None:
    import cv2

    (tmp_path / "faces").mkdir()
    cv2.imwrite(str(tmp_path / "faces" / "a.png"), np.zeros((32, 32, 3), dtype=np.uint8))
    said = kdface("quality", str(tmp_path / "faces"), f"run={teacher_run}")
    assert said.code == 2 and "gives no face-image quality" in said.err


def test_the_papers_own_metric_is_there_without_data(kdface: Kdface) -> None:
    """Of a run without a teacher, whose own network recognises and grades."""
    words = [word for word in TINY if not word.startswith(("evaluation", "head"))]
    small = [
        f"evaluation.toy_quality{end}.test.{key}" for end in ("", "_p6") for key in ("dataset.people=12", "folds=2")
    ]
    said = kdface("train", *words, "head=magface", "evaluation=toy_quality", *small, "paths.runs=runs")
    assert said.code == 0, said
    (found,) = Path("runs").rglob("results.json")
    metrics = json.loads(found.read_text())["metrics"]
    assert {"toy_quality/fnmr", "toy_quality_p6/recomputed_embeddings/fnmr", "toy_quality_p6/spearman_aligned"} <= set(
        metrics
    )
    assert (
        metrics["toy_quality/fnmr"]["low"]
        <= metrics["toy_quality/fnmr"]["value"]
        <= metrics["toy_quality/fnmr"]["high"]
    )
    assert (found.parent / "figures/toy_quality_edc.png").is_file()


@pytest.mark.parametrize("choice", ["toy_quality", "lfw_ytf_quality"])
def test_a_run_that_grades_nothing_is_told_how_one_would(kdface: Kdface, choice: str) -> None:
    words = [word for word in TINY if not word.startswith("evaluation")]
    said = kdface("train", *words, f"evaluation={choice}", "paths.runs=runs", "paths.data=data")
    assert said.code == 2
    assert "refers to a group whose choice is none" not in said.err
    assert choice != "toy_quality" or "head=magface" in said.err  # LFW is looked for first
