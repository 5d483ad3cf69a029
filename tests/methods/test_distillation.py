"""Distillation and MaskInv: the loss by hand, a teacher that stays as it is, and the step at which guidance rises."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from kdface.assembly.load import load_network
from kdface.assembly.method import build_method
from kdface.backbones import iresnet_nano
from kdface.config.compose import compose
from kdface.datasets.loading import Batch
from kdface.errors import UserError
from kdface.faces import Preprocessing
from kdface.heads import CosFace
from kdface.methods import Distillation, MaskInv, Views
from kdface.teachers import Teacher
from tests.conftest import TINY, Kdface, command, only_run
from tests.runs.test_resume import kill_at, records, weights

SMALL = Preprocessing(size=(32, 32))
VIEWS = Views(student="masked", teacher="clean")


def small_network(size: int = 8, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return iresnet_nano(size, image_size=(32, 32), channels=(8, 8, 8, 8), blocks=(1, 1, 1, 1)).eval()


def _batch() -> Batch:
    draw = torch.Generator().manual_seed(1)
    views = {
        name: torch.randint(0, 256, (5, 32, 32, 3), dtype=torch.uint8, generator=draw) for name in ("clean", "masked")
    }
    return Batch(views, torch.tensor([0, 1, 2, 1, 0]), list("abcde"), [])


def test_a_validation_is_no_part_of_the_window() -> None:
    options = {"raised_guidance": 3000.0, "raise_when_stable": 2}
    method = MaskInv(small_network(), CosFace(8, 3), SMALL, VIEWS, Teacher(small_network(seed=7), SMALL), **options)  # type: ignore[arg-type]
    method.train().terms(_batch())
    before = method.watched.tolist()
    method.eval().terms(_batch())
    assert method.watched.tolist() == before and before[0] == 1
    method.train().terms(_batch())
    assert method.watched[2] < float("inf")  # the window has ended


def _pixels(images: torch.Tensor) -> torch.Tensor:
    return (images.permute(0, 3, 1, 2).float() - 127.5) / 127.5


def _method(teacher: Teacher, **options: Any) -> Distillation:
    return Distillation(small_network(), CosFace(8, 3), SMALL, VIEWS, teacher, **options)


def test_both_terms_by_hand() -> None:
    teacher, batch = Teacher(small_network(seed=7), SMALL), _batch()
    terms = _method(teacher, guidance=100.0).terms(batch)
    student = small_network()(_pixels(batch.views["masked"]))
    target = small_network(seed=7)(_pixels(batch.views["clean"]))
    total = 0.0
    for one, other in zip(student.tolist(), target.tolist(), strict=True):
        length = [sum(v * v for v in embeddings) ** 0.5 for embeddings in (one, other)]
        total += sum((a / length[0] - b / length[1]) ** 2 for a, b in zip(one, other, strict=True))
    assert terms["distillation"].value.item() == pytest.approx(total / (5 * 8), rel=1e-5)
    assert terms["distillation"].weight == 100.0 * 8 / 512  # lambda is published for 512 components
    assert set(terms) == {"classification", "distillation"}


def test_guidance_of_zero_is_training_without_a_teacher() -> None:
    assert set(_method(Teacher(small_network(), SMALL), guidance=0.0).terms(_batch())) == {"classification"}


def test_without_a_reference_size_the_weight_is_lambda() -> None:
    method = _method(Teacher(small_network(), SMALL), guidance=3.0, reference_size=None)
    assert method.terms(_batch())["distillation"].weight == 3.0


def test_the_teacher_is_frozen_and_no_part_of_the_method() -> None:
    network = small_network(seed=7).train()
    teacher = Teacher(network, SMALL)
    method = _method(teacher)
    own = {id(parameter) for parameter in method.parameters()}
    assert not any(id(parameter) in own for parameter in network.parameters())
    assert not any("teacher" in name for name in method.state_dict())
    method.train()
    assert not any(module.training for module in network.modules())
    before = {name: value.clone() for name, value in network.state_dict().items()}
    loss = sum(term.value * term.weight for term in method.terms(_batch()).values())
    assert isinstance(loss, torch.Tensor)
    torch.autograd.backward(loss)
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_embeddings_of_another_size_are_projected() -> None:
    method = _method(Teacher(small_network(12, seed=7), SMALL), guidance=1.0)
    projection = method.projection
    assert isinstance(projection, nn.Linear) and projection.weight.shape == (12, 8)
    assert method.terms(_batch())["distillation"].weight == 12 / 512
    assert method.embed(_batch().views["clean"], SMALL).shape == (5, 8)  # shipped without it


def test_before_guidance_begins_ranks_find_a_gradient_of_the_projection_and_it_does_not_move() -> None:
    """Data-parallel training waits for every parameter's gradient from the first step on."""
    teacher = Teacher(small_network(12, seed=7), SMALL)
    options: dict[str, Any] = {"guidance": 0.0, "raised_guidance": 3000.0, "raise_when_stable": 100}
    method = MaskInv(small_network(), CosFace(8, 3), SMALL, VIEWS, teacher, **options)
    (term,) = method.terms(_batch()).values()
    assert method.head is not None
    loss = method.head(method.backbone(_pixels(_batch().views["masked"])), _batch().label).loss
    assert term.value.item() == pytest.approx(loss.item(), rel=1e-5)
    torch.autograd.backward(term.value)
    trained = [parameter for parameter in method.parameters() if parameter.requires_grad]
    assert trained and all(parameter.grad is not None for parameter in trained)
    assert not any(parameter.grad.any() for parameter in method.projection.parameters() if parameter.grad is not None)
    method.on_before_optimizer_step(torch.optim.SGD(trained, 0.1, weight_decay=0.1))
    assert all(parameter.grad is None for parameter in method.projection.parameters())


@pytest.mark.parametrize("options", [{}, {"raise_epoch": 1, "raise_when_stable": 5}])
def test_there_is_one_rule_for_raising_the_guidance(options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="exactly one of"):
        MaskInv(
            small_network(),
            CosFace(8, 3),
            SMALL,
            VIEWS,
            Teacher(small_network(), SMALL),
            raised_guidance=3000.0,
            **options,
        )


@pytest.mark.parametrize(
    ("losses", "raised_from"),
    [
        ([10, 10, 8, 8, 7.95, 7.95, 1, 1], 7),  # windows of 2: means 10, 8, 7.95: less than a hundredth under 8
        ([10, 10, 8, 8, 6, 6, 4, 4], None),
        ([10, 10, 12, 12, 6, 6], 5),  # rising is stable enough
    ],
)
def test_the_stable_rule_by_hand(losses: list[float], raised_from: int | None) -> None:
    method = MaskInv(
        small_network(),
        CosFace(8, 3),
        SMALL,
        VIEWS,
        Teacher(small_network(), SMALL),
        raised_guidance=9.0,
        raise_when_stable=2,
    )
    seen = [method._stable(torch.tensor(loss)) for loss in losses]
    expected = len(losses) + 1 if raised_from is None else raised_from
    assert seen == [step >= expected for step in range(1, len(losses) + 1)]


@pytest.fixture(scope="module")
def teacher_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    said = command("train", *TINY, "trainer.max_steps=2", "paths.runs=runs", cwd=folder)
    assert said.returncode == 0, said.stderr
    return only_run(folder / "runs")


def _maskinv(teacher: Path) -> list[str]:
    return [*TINY, "method=maskinv", f"teacher.run={teacher}", "augmentation.probability=0.5", "backbone.dropout=0.2"]


HIGH = ["method.raised_guidance=3000", "method.raise_epoch=1", "trainer.max_epochs=3", "resume.every_n_train_steps=3"]


def test_high_guidance_begins_at_its_epoch_and_survives_a_kill(teacher_run: Path, tmp_path: Path) -> None:
    """Four steps an epoch: steps 1 to 4 weigh 100 * 8 / 512, steps 5 to 12 weigh 3000 * 8 / 512."""
    words = [*_maskinv(teacher_run), *HIGH]
    for name in ("straight", "killed"):
        if name == "killed":
            for step in (2, 6):
                kill_at(step, tmp_path / name, tmp_path, words)
        said = command("train", *words, f"paths.runs={tmp_path / name}", cwd=tmp_path)
        assert said.returncode == 0, said.stderr
    runs = [only_run(tmp_path / name) for name in ("straight", "killed")]
    guidance = [row["guidance"] for row in records(runs[0]) if row["kind"] == "train"]
    assert guidance == pytest.approx([100 * 8 / 512] * 4 + [3000 * 8 / 512] * 8)
    assert records(runs[0]) == records(runs[1])
    expected, found = weights(runs[0]), weights(runs[1])
    assert all(value.numpy().tobytes() == found[name].numpy().tobytes() for name, value in expected.items())
    assert not any("teacher" in name for name in expected)
    told = json.loads((runs[0] / "data.json").read_text())["teacher"]["fingerprint"]
    assert len(told) == 64


@pytest.mark.parametrize("options", [{"raise_epoch": 1}, {"raise_when_stable": 5}])
def test_when_to_raise_without_what_to_raise_to(options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="raised_guidance = null"):
        MaskInv(small_network(), CosFace(8, 3), SMALL, VIEWS, Teacher(small_network(), SMALL), **options)


def test_a_raise_that_would_never_come(kdface: Kdface, teacher_run: Path) -> None:
    words = [*_maskinv(teacher_run), "method.raised_guidance=3000", "method.raise_epoch=2"]  # of two epochs
    said = kdface("train", *words)
    assert said.code == 2 and "never be raised" in " ".join(said.err.split())


def test_a_student_of_another_embedding_size_ships_without_its_projection(
    kdface: Kdface, teacher_run: Path, tmp_path: Path
) -> None:
    words = [*_maskinv(teacher_run), "backbone.embedding_size=12", "trainer.max_steps=2", f"paths.runs={tmp_path}/runs"]
    assert kdface("train", *words).code == 0
    run = only_run(tmp_path / "runs")
    assert any("projection" in name for name in weights(run))
    said = kdface("export", f"run={run}", "network.pt")
    assert said.code == 0, said.err
    assert not any(
        "projection" in name for name in torch.load(tmp_path / "network.pt", weights_only=True)["state_dict"]
    )


def test_a_teacher_must_be_finished_and_stay_the_one_it_was(kdface: Kdface, teacher_run: Path, tmp_path: Path) -> None:
    teacher = Path(shutil.copytree(teacher_run, tmp_path / "teacher"))
    words = [*_maskinv(teacher), "trainer.max_steps=1", f"paths.runs={tmp_path}/runs"]
    (teacher / "DONE").unlink()
    said = kdface("train", *words)
    assert said.code == 2 and "is not finished" in said.err
    (teacher / "DONE").write_text("finished\n")
    assert kdface("train", *words).code == 0
    assert "this run is finished" in kdface("train", *words).out
    content = torch.load(teacher / "checkpoints" / "last.ckpt", weights_only=True)
    content["state_dict"]["backbone.fc.bias"] += 1
    torch.save(content, teacher / "checkpoints" / "last.ckpt")
    said = kdface("train", *words)
    assert said.code == 2 and "its teacher has changed" in said.err


def test_each_seed_draws_its_own_projection(teacher_run: Path) -> None:
    """Loading the teacher seeds the generator with the teacher's seed."""
    drawn = []
    for seed in (0, 1):
        tree = compose([*_maskinv(teacher_run), "backbone.embedding_size=12", f"seed={seed}"]).tree
        drawn.append(build_method(tree, SMALL, 6, load_network).state_dict()["projection.weight"])
    assert not torch.equal(*drawn)


def test_a_method_that_learns_from_a_teacher_says_so(kdface: Kdface) -> None:
    said = kdface("train", *TINY, "method=maskinv", "teacher=none")
    assert said.code == 2 and "requires a teacher" in said.err and "teacher=run" in said.err


def test_a_teacher_that_is_not_there(kdface: Kdface) -> None:
    said = kdface("train", *TINY, "method=maskinv", "teacher.run=nowhere")
    assert said.code == 2 and "nowhere" in said.err and "Traceback" not in said.err


def test_a_teacher_of_other_images(kdface: Kdface, teacher_run: Path) -> None:
    other = ["dataset.size=[64,64]", "evaluation.toy_pairs.dataset.size=[64,64]"]
    said = kdface("train", *TINY, *other, "method=maskinv", f"teacher.run={teacher_run}")
    assert said.code == 2 and "do not see the same kind of image" in said.err


def test_a_method_with_a_teacher_is_evaluated_without_it(kdface: Kdface, teacher_run: Path, tmp_path: Path) -> None:
    words = [*_maskinv(teacher_run), "trainer.max_steps=2", f"paths.runs={tmp_path}/runs"]
    assert kdface("train", *words).code == 0
    run = only_run(tmp_path / "runs")
    trained = json.loads((run / "results.json").read_text())["metrics"]
    moved = teacher_run.rename(teacher_run.with_name("elsewhere"))
    try:
        said = kdface("evaluate", f"run={run}", "hardware.threads=1")
    finally:
        moved.rename(teacher_run)
    assert said.code == 0, said.err
    again = json.loads((run / "evaluations" / "toy_pairs" / "results.json").read_text())["metrics"]
    assert again == trained
