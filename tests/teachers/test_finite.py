"""A teacher of values that are not finite is refused: weights, outputs at load and in a first step, labels."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kdface.assembly.load import load_network
from kdface.errors import UserError
from kdface.heads import CosFace
from kdface.methods import Distillation
from kdface.teachers import Teacher, from_run, from_weights
from kdface.teachers.quality import EmbeddingNorm
from kdface.teachers.quality.labels import quality_labels
from tests.conftest import UNTESTED, Kdface, only_run
from tests.methods.test_distillation import SMALL, VIEWS, small_network
from tests.teachers.quality.stand_ins import Linear, random_faces


def spoilt(network: nn.Module, name: str, value: float) -> nn.Module:
    network.state_dict()[name].view(-1)[0] = value
    return network


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights(tmp_path: Path, value: float) -> None:
    network = small_network()
    name = next(name for name in network.state_dict() if name.endswith("running_mean"))
    torch.save(spoilt(network, name, value).state_dict(), tmp_path / "published.pt")
    with pytest.raises(UserError, match=r"its .*running_mean has non-finite values"):
        Teacher(network, SMALL).require_finite()
    with pytest.raises(UserError, match=name) as error:
        from_weights(small_network(seed=3), tmp_path / "published.pt")  # type: ignore[arg-type]
    assert str(tmp_path / "published.pt") in error.value.problem
    assert error.value.origin == f"teacher.weights={tmp_path}/published.pt"
    assert error.value.fix.startswith("teacher.weights=FILE")


def test_weights_of_its_head() -> None:
    head = spoilt(CosFace(8, 3), "weight", torch.nan)
    with pytest.raises(UserError, match="its head's weight has non-finite values"):
        Teacher(small_network(), SMALL, head=head).require_finite()


def test_outputs_of_finite_weights() -> None:
    """A running variance below zero: its root is NaN, and no weight is."""
    network = small_network()
    name = next(name for name in network.state_dict() if name.endswith("running_var"))
    with pytest.raises(UserError, match="its embeddings contain 8 non-finite values of 8"):
        Teacher(spoilt(network, name, -1.0), SMALL).require_finite()
    Teacher(small_network(), SMALL).require_finite()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_teacher_of_another_precision_teaches(dtype: torch.dtype) -> None:
    teacher = Teacher(small_network().to(dtype), SMALL)
    teacher.require_finite()
    assert teacher.embed(torch.zeros(1, 32, 32, 3, dtype=torch.uint8)).dtype == dtype


class Counted(nn.Module):
    """Not finite from a call on."""

    embedding_size = 8

    def __init__(self, bad_from: int) -> None:
        super().__init__()
        self.calls, self.bad_from = 0, bad_from

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        return torch.full((len(images), 8), torch.nan if self.calls > self.bad_from else 1.0)


def test_the_first_outputs_are_checked_and_later_ones_wait_for_no_device(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.zeros(2, 32, 32, 3, dtype=torch.uint8)
    teacher = Teacher(Counted(1), SMALL)
    teacher.embed(images)
    asked: list[Tensor] = []
    original = Tensor.isfinite

    def noted(self: Tensor) -> Tensor:
        asked.append(self)
        return original(self)

    monkeypatch.setattr(Tensor, "isfinite", noted)
    assert teacher.embed(images).isnan().all() and not asked
    teacher.check_next()
    with pytest.raises(UserError, match="16 non-finite values of 16"):
        teacher.embed(images)
    assert len(asked) == 1


@pytest.fixture(scope="module")
def teacher_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from kdface.cli import main

    runs = tmp_path_factory.mktemp("teacher")
    assert main(["train", *UNTESTED, "head=cosface", "trainer.max_steps=1", f"paths.runs={runs}"]) == 0
    return only_run(runs)


def _distilled(run: Path) -> tuple[str, ...]:
    return ("train", *UNTESTED, "method=distillation", "trainer.max_steps=2", f"teacher.run={run}")


def test_the_run_of_a_teacher_that_diverged_is_named(kdface: Kdface, teacher_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "diverged"
    shutil.copytree(teacher_run, run)
    content = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    name = next(name for name in content["state_dict"] if name.endswith("running_var"))
    content["state_dict"][name][0] = -1.0
    torch.save(content, run / "checkpoints/last.ckpt")
    said = kdface(*_distilled(run), "paths.runs=runs")
    assert said.code == 2 and "is unusable" in said.err and f"teacher.run={run}" in said.err
    assert not (tmp_path / "runs").exists()  # before a folder is made
    content["state_dict"][name][0] = torch.nan
    torch.save(content, run / "checkpoints/last.ckpt")
    with pytest.raises(UserError, match="non-finite") as error:
        from_run(run, load_network)
    assert error.value.origin == f"teacher.run={run}"


def test_outputs_of_a_runs_first_step(kdface: Kdface, teacher_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Finite at load, not on the images of the run: a precision or a view that overflows."""
    embed, calls = Teacher.embed, []

    def overflowing(self: Teacher, images: Tensor) -> Tensor:
        calls.append(len(images))
        if len(images) > 1:
            self.network = Counted(0)
        return embed(self, images)

    monkeypatch.setattr(Teacher, "embed", overflowing)
    said = kdface(*_distilled(teacher_run), "paths.runs=runs")
    assert said.code == 2 and "64 non-finite values of 64" in said.err
    assert f"teacher.run={teacher_run}" in said.err and calls == [1, 8]


def test_every_comparison_is_checked() -> None:
    """Transfers ask the network for maps and logits, past `embed`."""
    from kdface.losses import AttentionTransfer
    from tests.methods.test_distillation import _batch

    network = small_network(seed=7)
    name = next(name for name in network.state_dict() if name.endswith("running_var"))
    teacher = Teacher(network, SMALL)
    method = Distillation(small_network(), None, SMALL, VIEWS, teacher, guidance=1.0, transfer=AttentionTransfer())
    method.terms(_batch())
    spoilt(network, name, -1.0)
    method.terms(_batch())
    teacher.check_next()
    with pytest.raises(UserError, match="its outputs contain"):
        method.terms(_batch())


def test_kept_scores_that_are_not_finite_are_made_again(tmp_path: Path) -> None:
    faces = random_faces(4, 1, (4, 6))
    teacher = Teacher(Linear((4, 6)), faces.preprocessing)
    made = quality_labels(EmbeddingNorm(), teacher, faces, tmp_path)
    (path,) = tmp_path.iterdir()
    kept = dict(np.load(path))
    np.savez(path, **{**kept, "scores": np.array([1.0, np.nan, 2.0, 3.0])})
    assert quality_labels(EmbeddingNorm(), teacher, faces, tmp_path).quality.tolist() == made.quality.tolist()
    assert np.load(path)["scores"].tolist() == kept["scores"].tolist()


def test_scores_that_are_not_finite_name_the_teacher(tmp_path: Path) -> None:
    faces = random_faces(4, 1, (4, 6))
    network = Linear((4, 6))
    network.weight.data[0, 0] = torch.inf
    teacher = Teacher(network, faces.preprocessing, origin="teacher.run=runs/t")
    with pytest.raises(UserError) as error:
        quality_labels(EmbeddingNorm(), teacher, faces, tmp_path)
    assert error.value.origin == "teacher.run=runs/t" and "non-finite" in error.value.problem


def test_scores_whose_difference_overflows_are_scaled_all_the_same() -> None:
    faces = random_faces(3, 1, (4, 6))
    teacher = Teacher(Linear((4, 6)), faces.preprocessing)
    labels = quality_labels(lambda *_: np.array([-1.5e308, 0.0, 1.5e308]), teacher, faces)
    assert labels.quality.tolist() == [0.0, 0.5, 1.0]
