"""FaceNet through the command line with every miner; its loss, records, collapse and mistakes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor, nn

from kdface.backbones import nn2
from kdface.config.locate import parameters
from kdface.config.paths import conf_folder
from kdface.datasets import ToyFaces
from kdface.datasets.loading import Batch
from kdface.errors import UserError
from kdface.evaluation.health import Unhealthy
from kdface.faces import Preprocessing
from kdface.heads import CosFace
from kdface.losses import All, BatchHard, Miner, Random, SemiHard, ranking, squared_distances
from kdface.methods import FaceNet, Views
from tests.conftest import TINY, Kdface, command, only_run
from tests.losses.slow import noise, toy

TINY_TRAINING = [word for word in TINY if not word.startswith("evaluation")]
FACENET = [
    *TINY_TRAINING,
    "evaluation=none",
    "method=facenet",
    "method.people_per_batch=4",
    "method.images_per_person=2",
]
MINERS = {
    "All": [],
    "SemiHard": [],
    "SemiHard+easiest": ["+method.miner.fallback=easiest"],
    "AllSemiHard": [],
    "Hard": [],
    "BatchHard": [],
    "EasyPositive": [],
    "DistanceWeighted": [],
    "Random": [],
    "Sandberg": [],
}


def train_records(run: Path) -> list[dict[str, Any]]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["kind"] == "train"]


@pytest.mark.parametrize("name", MINERS)
def test_two_steps_with_every_miner(kdface: Kdface, tmp_path: Path, name: str) -> None:
    words = [f"method.miner._target_=kdface.losses.{name.partition('+')[0]}", *MINERS[name]]
    said = kdface("train", *FACENET, *words, "trainer.max_steps=2", f"paths.runs={tmp_path}/runs")
    assert said.code == 0, said
    run = only_run(tmp_path / "runs")
    records = train_records(run)
    assert [record["step"] for record in records] == [1, 2]
    for record in records:
        assert np.isfinite(record["loss"])
        assert record["loss"] == record["terms"]["triplet"]["raw"]
        assert 0 <= record["active_fraction"] <= 1
        assert 0 <= record["hard_fraction"] <= record["hard_fraction"] + record["semi_hard_fraction"] <= 1
        assert 0 < record["distance_positive"] < 4 and 0 < record["distance_negative"] < 4
    if name in ("All", "Random", "BatchHard"):
        assert records[0]["triplets"] == {"All": 8 * 6, "Random": 8, "BatchHard": 8}[name]
        assert records[0]["loss"] > 0


def test_a_heads_loss_is_added_with_its_weight(kdface: Kdface, tmp_path: Path) -> None:
    words = ["head=cosface", "method.head_weight=0.25", "trainer.max_steps=1"]
    assert kdface("train", *FACENET, *words, f"paths.runs={tmp_path}/runs").code == 0
    (record,) = train_records(only_run(tmp_path / "runs"))
    terms = record["terms"]
    assert set(terms) == {"triplet", "classification"}
    assert terms["classification"]["weighted"] == pytest.approx(0.25 * terms["classification"]["raw"])
    assert record["loss"] == pytest.approx(terms["triplet"]["raw"] + terms["classification"]["weighted"])
    assert "accuracy" in record


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["loader.batch_size=16"], ["make batches of 8", "loader.batch_size = 16", "loader.batch_size=8"]),
        (
            ["method.images_per_person=12", "loader.batch_size=48"],
            ["needs 48 images", "6 people with at most 12 images each offer 36"],
        ),
        (
            ["trainer.accumulate_grad_batches=4"],
            [
                "4 people cannot be divided into 4 parts",
                "method.people_per_batch=8",
                "trainer.accumulate_grad_batches=1",
            ],
        ),
        (["method.margin=0"], ["method.margin = 0", "greater than 0"]),
        (["method.people_per_batch=1"], ["method.people_per_batch = 1", "greater than or equal to 2"]),
        (["method.reduction=avg"], ["method.reduction = 'avg'"]),
        (["method.miner._target_=kdface.losses.SemiHrd"], ["exports no 'SemiHrd'", "SemiHard"]),
        (
            ["method.miner._target_=kdface.losses.DistanceWeighted", "+method.miner.embedding_size=3"],
            ["method.miner.embedding_size = 3 cannot be set", "the backbone"],
        ),
        (["+method.miner.margin=0.3"], ["unknown key 'method.miner.margin'"]),
        (["method.miner=null"], ["method.miner"]),
    ],
)
def test_mistakes(kdface: Kdface, tmp_path: Path, overrides: list[str], told: list[str]) -> None:
    said = kdface("train", *FACENET, *overrides, f"paths.runs={tmp_path}/runs")
    assert said.code == 2, said
    assert "Traceback" not in said.err
    for text in told:
        assert text in said.err, said


def test_the_methods_own_batch_fits_its_trainer(kdface: Kdface) -> None:
    """As shipped: 45 people with 40 images each, of a dataset that has as many."""
    said = kdface("train", "--cfg", "job", "method=facenet")
    assert said.code == 0
    assert "batch_size: 1800" in said.out
    method = facenet(nn.Identity(), people_per_batch=45, images_per_person=40)
    labels = np.arange(45 * 41, dtype=np.int64) % 45
    assert method.order(labels, 1800, seed=0)(0).shape == (1, 1800)


class Stored(nn.Module):
    """A network that returns the first numbers of each image as they are: pixels are embeddings."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.scale = nn.Parameter(torch.ones(1, dtype=torch.float64))

    def forward(self, pixels: Tensor) -> Tensor:
        return pixels.flatten(1)[:, : self.size].double() * self.scale


def facenet(backbone: nn.Module, miner: Miner | None = None, head: nn.Module | None = None, **options: Any) -> FaceNet:
    plain = Preprocessing(mean=0.0, std=1.0)
    return FaceNet(backbone, head, plain, Views("image"), miner or SemiHard(), **options)


class Given(FaceNet):
    """FaceNet that is handed its network's input as float64."""

    def pixels(self, images: Tensor) -> Tensor:
        return images


def given(miner: Miner, **options: Any) -> Given:
    return Given(Stored(2), None, Preprocessing(), Views("image"), miner, **options)


def batch(points: Tensor, labels: Tensor) -> Batch:
    return Batch({"image": points}, labels, [str(row) for row in range(len(labels))], [])


@pytest.mark.parametrize(
    ("miner", "loss", "triplets", "active"),
    [(All(), 0.411217669, 36, 26 / 36), (SemiHard(), 0.108274565, 4, 1.0), (BatchHard(), 0.658701598, 6, 1.0)],
)
def test_loss_and_record_of_the_sheets_toy_batch(miner: Miner, loss: float, triplets: int, active: float) -> None:
    """FaceNet sheet 12.1, embeddings of other lengths: only their direction counts."""
    points, labels = toy()
    method = given(miner)
    (term,) = method.terms(batch(points * torch.tensor([[1.0], [2], [3], [4], [5], [6]]), labels)).values()
    assert term.value.item() == pytest.approx(loss, abs=1e-9)
    record = method.noted
    assert int(record["triplets"]) == triplets
    assert float(record["active_fraction"]) == pytest.approx(active)
    assert float(record["hard_fraction"]) == pytest.approx(21 / 36)  # whatever is mined
    assert float(record["semi_hard_fraction"]) == pytest.approx(5 / 36)
    own = [0.0367, 0.5373, 0.3039, 0.0594, 0.7144, 0.3820]
    other = [0.1206, 0.3419, 1.3160, 0.0246, 0.1590, 0.9699, 0.1590, 0.0246, 0.2180]
    assert float(record["distance_positive"]) == pytest.approx(sum(own) / 6, abs=1e-4)
    assert float(record["distance_negative"]) == pytest.approx(sum(other) / 9, abs=1e-4)


def test_a_batch_without_active_triplets_has_no_loss_and_no_gradient() -> None:
    points = torch.tensor([[1.0, 0.0], [1.0, 0.01], [0.0, 1.0], [0.01, 1.0]], dtype=torch.float64)
    method = given(Random())
    (term,) = method.terms(batch(points, torch.tensor([0, 0, 1, 1]))).values()
    torch.autograd.backward(term.value)
    assert term.value.item() == 0
    assert float(method.noted["active_fraction"]) == 0
    assert float(method.noted["hard_fraction"]) == float(method.noted["semi_hard_fraction"]) == 0
    assert not any(parameter.grad.any() for parameter in method.parameters() if parameter.grad is not None)


def test_a_collapsed_embedding_stops_with_a_diagnosis_and_one_that_recovers_does_not() -> None:
    points, labels = noise(12, 3, size=2)
    near = torch.tensor([[3.0, 4.0]], dtype=torch.float64) + 1e-3 * points
    method = given(BatchHard())
    for _ in range(19):
        method.terms(batch(near, labels))
    method.terms(batch(points, labels))
    for _ in range(19):
        method.terms(batch(near, labels))
    with pytest.raises(Unhealthy, match="the embedding has collapsed") as told:
        method.terms(batch(near, labels))
    for cause in ("learning rate", "hardest negatives", "mislabelled", "SemiHard"):
        assert cause in str(told.value)


def test_one_outlier_does_not_hide_a_collapse() -> None:
    """39 equal embeddings and their opposite, at a distance of 4, of 8 people with 5 images each."""
    labels = torch.arange(8).repeat_interleave(5)
    points = torch.tensor([[3.0, 4.0]], dtype=torch.float64).repeat(40, 1)
    points[17] *= -1
    method = given(SemiHard())
    for _ in range(19):
        method.terms(batch(points, labels))
    with pytest.raises(Unhealthy, match="at least 90% of all pairs of two people"):
        method.terms(batch(points, labels))


def test_people_who_are_one_point_each_have_not_collapsed() -> None:
    """A trained network's batch: images of a person coincide, people do not; two of eight people are one point."""
    labels = torch.arange(8).repeat_interleave(5)
    points = torch.stack([(labels % 7 * 0.8).cos(), (labels % 7 * 0.8).sin()], dim=1).double()
    method = given(All())
    for _ in range(30):
        method.terms(batch(points, labels))
    assert int(method.batches_near) == 0


def test_an_untrained_network_without_batch_norm_has_not_collapsed() -> None:
    torch.manual_seed(1)
    faces = ToyFaces(people=4, images_per_person=4, size=(64, 64))
    method = FaceNet(nn2(32, image_size=(64, 64)), None, faces.preprocessing, Views("image"), All())
    images = torch.stack([torch.from_numpy(faces[row].image) for row in range(len(faces))])
    with torch.no_grad():
        method.terms(batch(images, torch.tensor(faces.labels)))
    assert int(method.batches_near) == 0
    assert float(method.noted["distance_negative"]) < 0.05  # and yet so near


APART = torch.tensor([[1.0, 0.0], [1.0, 0.01], [0.0, 1.0], [0.01, 1.0]], dtype=torch.float64)
# Of each person one image at 0 and one at 90 degrees: a negative is as near as the positive, or nearer.
MIXED = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)


@pytest.mark.parametrize(("points", "told"), [(APART, "100.0% easy"), (MIXED, "100.0% hard")])
def test_batches_that_yield_no_triplet_are_told_of_once(
    caplog: pytest.LogCaptureFixture, points: Tensor, told: str
) -> None:
    labels = torch.tensor([0, 0, 1, 1])
    others, method = batch(toy()[0], toy()[1]), given(SemiHard())
    with caplog.at_level("WARNING", "kdface"):
        for _ in range(19):
            method.terms(batch(points, labels))
        method.terms(others)  # has triplets
        for _ in range(19):
            method.terms(batch(points, labels))
        assert caplog.messages == []
        for _ in range(40):
            method.terms(batch(points, labels))
    (message,) = caplog.messages
    assert "20 batches in a row have yielded no triplet" in message and told in message


def test_collapse_is_counted_on_after_a_resume() -> None:
    points, labels = noise(12, 3, size=2)
    near = torch.tensor([[3.0, 4.0]], dtype=torch.float64) + 1e-3 * points
    method, resumed = given(SemiHard()), given(SemiHard())
    for _ in range(15):
        method.terms(batch(near, labels))
    resumed.load_state_dict(method.state_dict())
    for _ in range(4):
        resumed.terms(batch(near, labels))
    with pytest.raises(Unhealthy):
        resumed.terms(batch(near, labels))


def test_embeddings_that_are_not_finite_stop() -> None:
    points, labels = noise(12, 3, size=2)
    points[4, 0] = torch.nan
    with pytest.raises(Unhealthy, match="NaN or infinity"):
        given(SemiHard()).terms(batch(points, labels))


@pytest.mark.parametrize("labels", [[0, 1, 2, 3], [0, 0, 0, 0]])
def test_a_batch_that_lost_its_triplets_with_broken_images_has_no_loss(labels: list[int]) -> None:
    method = given(SemiHard())
    (term,) = method.terms(batch(noise(4, 2, size=2)[0], torch.tensor(labels))).values()
    term.value.backward()  # type: ignore[no-untyped-call]
    assert term.value == 0 and next(method.parameters()).grad == 0
    assert {name: float(value) for name, value in method.noted.items()} == {"triplets": 0}


@pytest.mark.parametrize("miner", [SemiHard(), All(), Random(), BatchHard()], ids=lambda miner: type(miner).__name__)
def test_a_step_sorts_the_negatives_once(monkeypatch: pytest.MonkeyPatch, miner: Miner) -> None:
    """And the record says what `kinds` says by itself."""
    sorts: list[Tensor] = []
    rank = ranking.rank_negatives

    def counted(distances: Tensor, labels: Tensor) -> ranking.Negatives:
        sorts.append(distances)
        return rank(distances, labels)

    monkeypatch.setattr(ranking, "rank_negatives", counted)
    points, labels = noise(12, 3, size=2)
    method = given(miner)
    for steps in (1, 2):  # nothing is kept from one step to the next
        method.terms(batch(points, labels))
        assert len(sorts) == steps
    alone = ranking.kinds(squared_distances(points), labels, method.margin)
    assert method.noted["hard_fraction"] == alone.hard
    assert method.noted["semi_hard_fraction"] == alone.semi_hard


def test_few_images_are_told_of_with_settings_that_train(kdface: Kdface, tmp_path: Path) -> None:
    """Six people with six images each, and the method's own 45 with 40."""
    words = [*TINY_TRAINING, "evaluation=none", "method=facenet", "loader.batch_size=1800", "trainer.max_steps=1"]
    said = kdface("train", *words, f"paths.runs={tmp_path}/runs")
    assert said.code == 2, said
    fix = next(line for line in said.err.splitlines() if "method.people_per_batch=" in line)
    settings = [word for word in fix.split() if "=" in word]
    assert settings == ["method.people_per_batch=6", "method.images_per_person=6", "loader.batch_size=36"]
    assert kdface("train", *words, *settings, f"paths.runs={tmp_path}/runs").code == 0


def test_a_broken_image_is_told_where_ranks_would_wait_for_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    points, labels = noise(12, 3, size=2)
    broken = Batch({"image": points}, labels, [], ["a/1: cut off"])
    with pytest.raises(UserError, match="a/1: cut off") as told:
        given(SemiHard()).terms(broken)
    assert "kdface data verify" in str(told.value)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 1)  # nobody waits for a rank that is alone
    given(SemiHard()).terms(broken)


def test_the_shipped_choice_states_every_parameter_with_its_default() -> None:
    text = (conf_folder() / "method" / "facenet.yaml").read_text("utf-8")
    stated = yaml.safe_load(text)["method"]
    known = {name: parameter.default for name, parameter in parameters(FaceNet).items()}
    assert stated.pop("_target_") == "kdface.methods.FaceNet"
    assert stated.pop("views") == {"student": "image"}
    assert stated.pop("miner") == {"_target_": "kdface.losses.SemiHard"}
    for injected in ("backbone", "head", "preprocessing", "views", "miner"):
        del known[injected]
    assert stated == known


def test_under_autocast_distances_stay_exact() -> None:
    draws = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (12, 4, 4, 3), generator=draws, dtype=torch.uint8)
    labels = torch.arange(12) // 2
    method = facenet(nn.Sequential(nn.Flatten(), nn.Linear(48, 16)), All())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        embedding = method.backbone(method.pixels(images)).detach()
        (term,) = method.terms(batch(images, labels)).values()
    assert embedding.dtype == torch.bfloat16
    assert term.value.dtype == torch.float32
    unit = nn.functional.normalize(embedding.double())
    distances = (unit[:, None] - unit[None, :]).square().sum(dim=2)
    same = labels[:, None] == labels[None, :]
    assert float(method.noted["distance_negative"]) == pytest.approx(distances[~same].mean().item(), abs=1e-6)


def test_head_sees_embeddings_that_are_not_normalised() -> None:
    points, labels = noise(12, 3, size=2)
    head = CosFace(embedding_size=2, num_classes=3)
    method = Given(Stored(2), head, Preprocessing(), Views("image"), SemiHard(), head_weight=0.5)
    terms = method.terms(batch(3 * points, labels))
    torch.testing.assert_close(terms["classification"].value, head(3 * points, labels).loss)
    assert terms["classification"].weight == 0.5


def test_two_ranks_mine_one_batch_and_step_as_one_rank_does(kdface: Kdface, tmp_path: Path) -> None:
    """A network without batch statistics: the weights after three steps agree to rounding."""
    words = [
        *FACENET,
        "backbone=sfnet4",
        "backbone.embedding_size=8",
        "trainer.max_steps=3",
        "hardware.profile=plain",
        "scheduler=constant",
        "optimizer.lr=0.1",
        "method.miner._target_=kdface.losses.Random",
    ]
    words = [word for word in words if not word.startswith(("backbone.channels", "backbone.blocks", "backbone=ir"))]
    assert kdface("train", *words, f"paths.runs={tmp_path}/one").code == 0
    ranks = ["trainer.devices=2", "trainer.strategy=ddp"]
    said = command("train", *words, *ranks, f"paths.runs={tmp_path}/two", cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    losses, weights = [], []
    for name in ("one", "two"):
        run = only_run(tmp_path / name)
        losses.append([record["loss"] for record in train_records(run)])
        weights.append(torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert losses[0][0] > 0
    for key, value in weights[0].items():
        torch.testing.assert_close(weights[1][key], value, rtol=1e-3, atol=1e-5)
