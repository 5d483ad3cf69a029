"""Distillation with each of the losses that compare more than unit embeddings."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its usual name

from kdface.backbones import iresnet_nano
from kdface.datasets.loading import Batch
from kdface.errors import UserError
from kdface.faces import Preprocessing
from kdface.heads import Softmax
from kdface.losses import (
    AttentionTransfer,
    HintTransfer,
    LogitTransfer,
    ProbabilisticTransfer,
    RelationalTransfer,
    SimilarityTransfer,
    VariationalTransfer,
)
from kdface.methods import Distillation, Views
from kdface.teachers import Teacher
from tests.conftest import TINY, Kdface, only_run
from tests.runs.test_resume import weights

SMALL = Preprocessing(size=(32, 32))
VIEWS = Views(student="eyes", teacher="face")


def _network(seed: int, width: int = 8) -> Any:
    torch.manual_seed(seed)
    return iresnet_nano(8, image_size=(32, 32), channels=(8, 8, width, 8), blocks=(1, 1, 1, 1)).eval()


def _head(seed: int, classes: int = 3) -> Softmax:
    torch.manual_seed(seed)
    return Softmax(8, classes)


def _batch() -> Batch:
    draw = torch.Generator().manual_seed(1)
    views = {
        name: torch.randint(0, 256, (5, 32, 32, 3), dtype=torch.uint8, generator=draw) for name in ("eyes", "face")
    }
    return Batch(views, torch.tensor([0, 1, 2, 1, 0]), list("abcde"), [])


def _method(transfer: Any, width: int = 8, head: nn.Module | None = None) -> Distillation:
    teacher = Teacher(_network(7, width), SMALL, head=_head(8) if head is None else head)
    return Distillation(_network(0), _head(1), SMALL, VIEWS, teacher, guidance=2.0, transfer=transfer)


def _computed(seed: int, view: str, until: str = "", width: int = 8) -> Tensor:
    """What a network of this seed makes of a view, up to the end of a layer; written out, without its stages."""
    network = _network(seed, width)
    x: Tensor = (_batch().views[view].permute(0, 3, 1, 2).float() - 127.5) / 127.5
    x = network.prelu(network.bn1(network.conv1(x)))
    for name in ("layer1", "layer2", "layer3", "layer4"):
        x = getattr(network, name)(x)
        if name == until:
            return x
    embedding: Tensor = network.features(network.fc(network.bn2(x).flatten(1)))
    return embedding


def test_logits_by_hand() -> None:
    """t^2 times the mean over images of sum_c p_c log(p_c / q_c)."""
    term = _method(LogitTransfer(temperature=2.0)).terms(_batch())["distillation"]
    student = _computed(0, "eyes") @ _head(1).weight.T
    teacher = _computed(7, "face") @ _head(8).weight.T
    total = 0.0
    for one, other in zip(student.tolist(), teacher.tolist(), strict=True):
        p, q = ([math.exp(z / 2) for z in logits] for logits in (other, one))
        p, q = ([z / sum(powers) for z in powers] for powers in (p, q))
        total += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    assert term.value.item() == pytest.approx(4 * total / 5, rel=1e-4)
    assert term.weight == 2.0  # guidance as it is: it is not lambda of unit embeddings


def test_attention_by_hand() -> None:
    transfer = AttentionTransfer(stages=("layer2", "layer4"))
    expected = 0.0
    for stage in transfer.stages:
        maps = [_computed(0, "eyes", stage), _computed(7, "face", stage)]
        vectors = [F.normalize((feature**2).sum(1).flatten(1)) for feature in maps]
        expected += ((vectors[0] - vectors[1]) ** 2).mean().item()
    assert _method(transfer).terms(_batch())["distillation"].value.item() == pytest.approx(expected, rel=1e-4)


def test_similarity_by_hand() -> None:
    rows = []
    for seed, view in ((0, "eyes"), (7, "face")):
        flat = _computed(seed, view, "layer4").flatten(1)
        rows.append(F.normalize(flat @ flat.T))
    expected = (rows[0] - rows[1]).square().sum().item() / 25
    assert _method(SimilarityTransfer()).terms(_batch())["distillation"].value.item() == pytest.approx(
        expected, rel=1e-4
    )


def test_hints_are_regressed_onto_the_teachers_channels() -> None:
    """The teacher's third layer has other channels than the student's; the regressor is trained along."""
    method = _method(HintTransfer(stages=("layer3",)), width=16)
    hint: Any = method.transfer.hints["layer3"]  # type: ignore[union-attr, index]
    assert hint.regressor.weight.shape == (16, 8, 1, 1)
    predicted = F.conv2d(_computed(0, "eyes", "layer3"), hint.regressor.weight, hint.regressor.bias)
    expected = (predicted - _computed(7, "face", "layer3", 16)).square().mean()
    value = method.terms(_batch())["distillation"].value
    assert value.item() == pytest.approx(expected.item(), rel=1e-4)
    value.backward()  # type: ignore[no-untyped-call]
    assert hint.regressor.weight.grad is not None


@pytest.mark.parametrize("transfer", [RelationalTransfer(), ProbabilisticTransfer(), VariationalTransfer(("layer1",))])
def test_the_gradient_reaches_the_student_alone(transfer: Any) -> None:
    method = _method(transfer)
    assert method.teacher is not None
    method.terms(_batch())["distillation"].value.backward()  # type: ignore[no-untyped-call]
    assert method.backbone.conv1.weight.grad.abs().sum() > 0  # type: ignore[union-attr, operator]
    assert all(parameter.grad is None for parameter in method.teacher.network.parameters())


def test_a_stage_that_there_is_not() -> None:
    with pytest.raises(UserError, match="no stage 'layer5'") as caught:
        _method(AttentionTransfer(stages=("layer5",)))
    assert caught.value.nearest.startswith("layer")


def test_logits_of_other_people_are_not_compared() -> None:
    with pytest.raises(UserError, match="3 and 4 classes"):
        _method(LogitTransfer(), head=_head(8, classes=4))


def test_what_serves_the_comparison_is_not_shipped(kdface: Kdface, tmp_path: Path) -> None:
    """A run with a trained comparison is evaluated and exported without it, and without its teacher."""
    runs = f"paths.runs={tmp_path}/runs"
    assert kdface("train", *TINY, "name=teacher", "trainer.max_steps=1", runs).code == 0
    words = [*TINY, "name=student", "trainer.max_steps=1", runs, "method=distillation", "method.guidance=0.1"]
    words += [
        f"teacher.run={tmp_path}/runs/teacher/seed0",
        "method.transfer={_target_:kdface.losses.VariationalTransfer}",
    ]
    said = kdface("train", *words)
    assert said.code == 0, said.err
    run = only_run(tmp_path / "runs" / "student")
    assert any(name.startswith("transfer.information.layer1") for name in weights(run))
    said = kdface("export", f"run={run}", str(tmp_path / "network.pt"))
    assert said.code == 0, said.err
    assert not any("transfer" in name for name in torch.load(tmp_path / "network.pt", weights_only=True)["state_dict"])
