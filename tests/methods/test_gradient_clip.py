"""Gradients clipped by part of the method, and settings of parameter groups that an optimiser does not have."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from kdface.config.compose import compose
from kdface.config.fingerprint import fingerprint
from kdface.errors import UserError
from kdface.faces import Preprocessing
from kdface.hardware import profile_for
from kdface.heads import CosFace
from kdface.methods import Optimization, SphereFaceR, Views
from kdface.methods.schedules import constant
from tests.conftest import TINY, Kdface, only_run

WORDS = [
    *(word for word in TINY if not word.startswith("evaluation")),
    *("evaluation=none", "head=cosface", "optimizer.momentum=0", "optimizer.weight_decay=0", "scheduler=constant"),
    *("trainer.max_steps=1", "loader.batch_size=8"),
]


def weights(kdface: Kdface, runs: Path, *words: str) -> dict[str, Tensor]:
    said = kdface("train", *WORDS, *words, f"paths.runs={runs}")
    assert said.code == 0, said
    state: dict[str, Tensor] = torch.load(only_run(runs) / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    return state


def length(values: dict[str, Tensor]) -> float:
    return float(torch.cat([value.double().flatten() for value in values.values()]).norm())


@pytest.mark.parametrize("parts", ["", "trainer.accumulate_grad_batches=2"])
def test_one_part_is_clipped_to_its_norm_and_the_other_moves_as_without(
    kdface: Kdface, tmp_path: Path, parts: str
) -> None:
    """With a learning rate of 1 and plain gradient descent, a step is the gradient."""
    more = [parts] if parts else []
    free = weights(kdface, tmp_path / "free", "optimizer.lr=1", *more)
    clipped = weights(kdface, tmp_path / "clipped", "optimizer.lr=1", "gradient_clip={backbone:0.01}", *more)
    start = weights(kdface, tmp_path / "start", "optimizer.lr=0", *more)
    trained = [
        name for name in start if start[name].is_floating_point() and name.rpartition(".")[2] in ("weight", "bias")
    ]
    moves = [
        {name: start[name] - state[name] for name in trained if name.startswith("backbone.")}
        for state in (free, clipped)
    ]
    assert length(moves[0]) > 1 and length(moves[1]) == pytest.approx(0.01, rel=1e-3)
    for name, move in moves[0].items():
        torch.testing.assert_close(moves[1][name] / 0.01, move / length(moves[0]), atol=1e-4, rtol=1e-3)
    assert torch.equal(free["head.weight"], clipped["head.weight"])
    assert not torch.equal(free["head.weight"], start["head.weight"])


def planned(head: nn.Module, largest: dict[str, float]) -> None:
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(3, 2))
    method = SphereFaceR(backbone, head, Preprocessing(), Views("image"))
    method.optimize_with(
        Optimization(
            optimizer=lambda groups: torch.optim.SGD(groups, 0.1),
            schedule=lambda optimizer, steps, epoch: constant(optimizer, steps),
            total_steps=1,
            steps_per_epoch=1,
            seed=0,
            gradient_clip=largest,
        )
    )


def test_a_part_must_be_there() -> None:
    with pytest.raises(UserError, match="'backbon'") as told:
        planned(CosFace(2, 4), {"backbon": 5.0})
    assert told.value.fix == "gradient_clip={backbone:5.0}"


def test_a_norm_must_be_one(kdface: Kdface) -> None:
    said = kdface("train", *WORDS, "gradient_clip={backbone:-1}")
    assert said.code == 2 and "gradient_clip" in said.err and "greater than 0" in said.err


def test_runs_that_do_not_clip_by_part_keep_their_name() -> None:
    tree = compose(TINY).tree
    assert tree.pop("gradient_clip") is None
    assert fingerprint(tree) == fingerprint({**tree, "gradient_clip": None})
    assert fingerprint(tree) != fingerprint({**tree, "gradient_clip": {"backbone": 5.0}})


@pytest.mark.parametrize(
    "recipe",
    [
        *(f"elasticface/ms1mv2_r100_{name}" for name in ("arc", "arc_plus", "cos", "cos_plus")),
        *(f"maskinv/ms1mv2_r100_{name}" for name in ("aug", "lg", "hg")),
    ],
)
def test_published_clips_are_of_the_backbone_alone(recipe: str) -> None:
    words = [f"experiment={recipe}", "dataset.root=/tmp", *(["teacher.weights=/w"] if "maskinv" in recipe else [])]
    tree = compose(words).tree
    assert tree["gradient_clip"] == {"backbone": 5.0} and tree["trainer"]["gradient_clip_val"] is None


def test_half_precision_on_a_processor_is_bfloat16_in_records_and_evaluation_too(
    kdface: Kdface, tmp_path: Path
) -> None:
    weights(kdface, tmp_path / "runs", "trainer.precision=16-mixed", "trainer.accelerator=cpu")
    environment = json.loads((only_run(tmp_path / "runs") / "environment.json").read_text())
    assert environment["profile"]["precision"] == "bf16-mixed"


def test_half_precision_on_a_gpu_has_no_fused_optimiser(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which would clip gradients that still have the scale of the loss."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    for precision, fused in (("16-mixed", False), (16, False), ("bf16-mixed", True), (None, True)):
        assert profile_for("auto", precision=precision).fused is fused
    assert profile_for("auto", precision="16").precision == "16-mixed"
    assert profile_for("auto", "cpu", "16-mixed").precision == "bf16-mixed"
