"""Parts of one's own: what a network and a head must be is said when they are built; batches of one image."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from kdface.backbones import iresnet_nano
from kdface.datasets.loading import Batch
from kdface.errors import UserError
from kdface.faces import Preprocessing
from kdface.heads import CosFace, PartialFC
from kdface.losses.transfer import SimilarityTransfer
from kdface.methods import Distillation, SphereFaceR, Views
from kdface.teachers import Teacher
from tests.conftest import TINY, Kdface, only_run

SMALL = Preprocessing(size=(32, 32))
WORDS = [word for word in TINY if not word.startswith(("evaluation", "backbone"))]
OWN = """
import torch
from torch import Tensor, nn
from kdface.heads import HeadOutput

class Flat(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 6))

    def forward(self, images: Tensor) -> Tensor:
        return self.layer(images)

class Maps(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.layer(images)

class Other(nn.Module):
    def __init__(self) -> None:
        super().__init__()

    def forward(self, images: Tensor) -> Tensor:
        raise RuntimeError("made for 64 pixels")

class ByName(nn.Module):
    def __init__(self, embedding_size: int, num_classes: int) -> None:
        super().__init__()
        self.layer = nn.Linear(embedding_size, num_classes)

    def forward(self, embedding: Tensor, label: Tensor) -> HeadOutput:
        logits = self.layer(embedding)
        return HeadOutput(loss=nn.functional.cross_entropy(logits, label), logits=logits, cosine=logits)

class LossAlone(nn.Module):
    def __init__(self, embedding_size: int, num_classes: int) -> None:
        super().__init__()
        self.layer = nn.Linear(embedding_size, num_classes)

    def forward(self, embedding: Tensor, label: Tensor) -> Tensor:
        return nn.functional.cross_entropy(self.layer(embedding), label)
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "own_parts.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("KDFACE_PLUGINS", "own_parts")
    return "own_parts"


@pytest.mark.parametrize(
    ("group", "name", "told"),
    [
        ("backbone", "Flat", ""),
        ("backbone", "Maps", "backbone Maps returns a tensor (1, 4, 30, 30) for an image"),
        ("backbone", "Other", "fails on an image of 32x32: made for 64 pixels"),
        ("head", "LossAlone", "head LossAlone returns a Tensor"),
        ("head", "ByName", "logits (N, C), cosine (N, C)), given by position"),
    ],
)
def test_what_a_part_must_be_is_said_when_it_is_built(
    kdface: Kdface, own: str, tmp_path: Path, group: str, name: str, told: str
) -> None:
    (tmp_path / "conf" / group).mkdir(parents=True)
    (tmp_path / "conf" / group / "own.yaml").write_text(f"# my own\n_target_: {own}.{name}\n")
    words = [*WORDS, f"{group}=own", "evaluation=none", "trainer.max_steps=1", f"paths.runs={tmp_path}/runs"]
    said = kdface("train", "--config-dir", "conf", *words)
    if not told:
        assert said.code == 0, said
        state = torch.load(only_run(tmp_path / "runs") / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        assert state["head.weight"].shape[1] == 6
        return
    text = " ".join(said.err.split())
    assert said.code == 2 and told in text and "Traceback" not in text
    assert ("HeadOutput" if group == "head" else "embedding_size = D") in text
    assert not list((tmp_path / "runs").rglob("DONE"))


class Plain(nn.Module):
    embedding_size = 4

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)[:, :4]


def test_a_network_without_maps_is_named_where_maps_are_compared() -> None:
    backbone = iresnet_nano(4, image_size=(32, 32), channels=(8, 8, 8, 8), blocks=(1, 1, 1, 1))
    for student, teacher, whose in ((backbone, Plain(), "teacher's"), (Plain(), backbone, "student's")):
        with pytest.raises(UserError, match=f"{whose} Plain has no with_maps"):
            views = Views("image", "image")
            Distillation(student, None, SMALL, views, Teacher(teacher, SMALL), transfer=SimilarityTransfer())


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["trainer.accumulate_grad_batches=4", "loader.batch_size=4"], 2),
        (["trainer.accumulate_grad_batches=4", "loader.batch_size=8"], 0),
        (["trainer.accumulate_grad_batches=2", "loader.batch_size=4"], 0),
    ],
)
def test_parts_of_one_image_are_refused_with_two_ways_out(
    kdface: Kdface, tmp_path: Path, caplog: pytest.LogCaptureFixture, words: list[str], code: int
) -> None:
    plain = [word for word in TINY if not word.startswith("evaluation")]
    with caplog.at_level(logging.WARNING, logger="kdface"):
        said = kdface("train", *plain, "evaluation=none", *words, "trainer.max_steps=1", f"paths.runs={tmp_path}/runs")
    assert said.code == code, said
    if code:
        fix = "loader.batch_size=8, or trainer.accumulate_grad_batches=2"
        assert "leaves one image per part" in said.err and fix in said.err
        assert not (tmp_path / "runs").exists()
    else:
        assert "BatchNorm sees parts of 2 images" in caplog.text


def test_a_batch_that_broken_images_leave_with_one_is_told() -> None:
    backbone = iresnet_nano(8, image_size=(32, 32), channels=(8, 8, 8, 8), blocks=(1, 1, 1, 1))
    method = SphereFaceR(backbone, CosFace(8, 3), SMALL, Views("image"))
    batch = Batch({"image": torch.zeros(1, 32, 32, 3, dtype=torch.uint8)}, torch.tensor([0]), ["a"], ["b: cut short"])
    with pytest.raises(UserError, match=r"after skipping broken ones \(b: cut short\): batch normalisation needs two"):
        method.on_train_batch_start(batch, 0)


def test_an_accuracy_among_the_classes_that_were_drawn_is_named_so() -> None:
    x, y = torch.randn(6, 8), torch.randint(20, (6,))
    head = PartialFC(CosFace(8, 20), sample_rate=0.5)
    assert "accuracy" not in head(x, y).metrics(y) and "accuracy_sampled" in head(x, y).metrics(y)
    assert "accuracy" in head.eval()(x, y).metrics(y)
    assert "accuracy" in PartialFC(CosFace(8, 20), sample_rate=1.0)(x, y).metrics(y)
