"""Harmonic embedding: what is mined over both networks, what each stage trains, and exact resumes."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from kdface.assembly.load import load_network, load_run
from kdface.backbones import iresnet_nano
from kdface.cli import main
from kdface.config.locate import parameters
from kdface.config.paths import conf_folder
from kdface.datasets import ToyFaces
from kdface.datasets.loading import Batch
from kdface.errors import UserError
from kdface.evaluation import random_pairs
from kdface.evaluation.health import Unhealthy
from kdface.faces import Preprocessing
from kdface.losses import BatchHard, Miner, SemiHard
from kdface.methods import Harmonic, Optimization, Views
from kdface.methods.schedules import constant
from kdface.teachers import Teacher
from kdface.teachers.frozen import fingerprint_of
from tests.conftest import TINY, Kdface, command, only_run
from tests.losses.slow import noise
from tests.runs.test_resume import kill_at, records, weights

SMALL = Preprocessing(size=(32, 32))
VIEWS = Views(student="image", teacher="image")
PLAINLY = [*(word for word in TINY if not word.startswith("evaluation")), "evaluation=none"]
MARGIN = 0.5


def _network(size: int = 4, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return iresnet_nano(size, image_size=(32, 32), channels=(8, 8, 8, 8), blocks=(1, 1, 1, 1)).eval()


class Points(nn.Module):
    """An old network that has one embedding for each image: the first pixel of an image names it."""

    def __init__(self, points: Tensor) -> None:
        super().__init__()
        self.points = nn.Parameter(points)
        self.embedding_size = points.shape[1]

    def forward(self, pixels: Tensor) -> Tensor:
        return self.points[pixels[:, 0, 0, 0].long()]


PLAIN = Preprocessing(size=(32, 32), mean=0.0, std=1.0)


def _sgd(groups: Iterable[Any]) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, 0.1)


def _constant(optimizer: torch.optim.Optimizer, steps: int, epoch: int) -> LRScheduler:
    return constant(optimizer, steps)


class Given(Harmonic):
    """The embeddings of the new network are given; what is done with them is tested."""

    def loss(self, new: Tensor, labels: Tensor) -> Tensor:
        images = torch.zeros(len(labels), 32, 32, 3, dtype=torch.uint8)
        images[:, 0, 0, 0] = torch.arange(len(labels))
        batch = Batch({"image": images}, labels, [], [])
        self.backbone.forward = lambda pixels: new
        (term,) = self.terms(batch).values()
        return term.value


def _given(old: Tensor, miner: Miner | None = None, **options: Any) -> Given:
    teacher = Teacher(Points(old), PLAIN)
    backbone = _network(old.shape[1])
    return Given(backbone, None, PLAIN, VIEWS, teacher, miner or SemiHard(), Path(), None, margin=MARGIN, **options)


def _by_loops(new: Tensor, old: Tensor, labels: Tensor) -> tuple[float, int]:
    """Sum and number of hinges of the hardest semi-hard negative of each pair of which one image is the new network's.

    A point is (network, image); the two points of an image are a pair as well.
    """
    points = {("new", i): row for i, row in enumerate(new)} | {("old", i): row for i, row in enumerate(old)}
    total, count = 0.0, 0
    for a, at in points.items():
        for p, positive in points.items():
            if a == p or labels[a[1]] != labels[p[1]] or (a[0] == "old" and p[0] == "old"):
                continue
            reach = float((at - positive).square().sum())
            found = [
                far
                for n, negative in points.items()
                if labels[n[1]] != labels[a[1]]
                for far in [float((at - negative).square().sum())]
                if reach < far < reach + MARGIN
            ]
            if found:
                total, count = total + reach - min(found) + MARGIN, count + 1
    return total, count


def test_triplets_over_the_union_against_loops() -> None:
    (new, labels), (old, _) = noise(14, 4, seed=1, size=4), noise(14, 4, seed=2, size=4)
    method = _given(old, reduction="sum")
    total, count = _by_loops(new, old, labels)
    assert count > 100
    assert method.loss(3 * new, labels).item() == pytest.approx(total, rel=1e-9)
    assert int(method.noted["triplets"]) == count
    assert float(method.noted["agreement"]) == pytest.approx(float((new * old).sum(1).mean()))


def test_two_networks_that_agree_double_the_batch() -> None:
    """With v1 = v2 the triplets are those of the batch repeated once, pairs within the second half left out."""
    points, labels = noise(12, 3, seed=3, size=4)
    method = _given(points, reduction="sum")
    assert method.loss(points, labels).item() == pytest.approx(_by_loops(points, points, labels)[0], rel=1e-9)
    assert float(method.noted["agreement"]) == pytest.approx(1.0)


def test_the_gradient_reaches_the_new_network_alone() -> None:
    (new, labels), (old, _) = noise(14, 4, seed=1, size=4), noise(14, 4, seed=2, size=4)
    method = _given(old)
    new.requires_grad_()
    torch.autograd.backward(method.loss(new, labels))
    assert new.grad is not None and new.grad.any()
    assert method.teacher is not None and all(
        parameter.grad is None for parameter in method.teacher.network.parameters()
    )
    assert not any("teacher" in name for name in method.state_dict())


@pytest.mark.parametrize("last", [None, ("fc", "features"), ("fc",)])
@pytest.mark.parametrize("ranks", [1, 2])
def test_while_the_last_layer_is_trained_alone_nothing_before_it_is_differentiated(
    last: tuple[str, ...] | None, ranks: int
) -> None:
    """The last layer's gradient keeps its bits; on several ranks, which wait for every gradient, the others' are 0."""
    old, new = Teacher(_network(8, seed=7), SMALL), _network(8)
    method = Harmonic(new, None, SMALL, VIEWS, old, BatchHard(), Path(), last_layer_epochs=1, last_layer=last)
    method.optimize_with(Optimization(_sgd, _constant, total_steps=8, steps_per_epoch=4, seed=0))
    names = last or ("bn2", "dropout", "fc", "features")
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (8, 32, 32, 3), dtype=torch.uint8, generator=draw)
    batch = Batch({"image": images}, torch.tensor([0, 0, 1, 1, 2, 2, 3, 3]), [], [])
    gradients = []
    for step in (0, 4):
        method.trainer = SimpleNamespace(global_step=step, world_size=ranks)  # type: ignore[assignment]
        for name, module in new.named_children():
            module.train(name in names)
        torch.manual_seed(1)  # of dropout
        (term,) = method.terms(batch).values()
        torch.autograd.backward(term.value)
        gradients.append({name: value.grad for name, value in new.named_parameters()})
        new.zero_grad(set_to_none=True)
    frozen, whole = gradients
    for name, gradient in whole.items():
        if gradient is None:
            continue
        found = frozen[name]
        if name.partition(".")[0] in names:
            assert found is not None and torch.equal(found, gradient), name
        elif name.partition(".")[0] not in ("fc", "features"):
            assert gradient.any(), name
            assert found is None if ranks == 1 else found is not None and not found.any(), name


def test_a_last_layer_that_is_not_there() -> None:
    old = Teacher(_network(8), SMALL)
    with pytest.raises(UserError, match="'fcc'") as told:
        Harmonic(_network(8), None, SMALL, VIEWS, old, SemiHard(), Path(), last_layer=("fcc",))
    assert told.value.nearest == "fc"


def test_a_new_network_that_collapses_beside_an_old_one_that_does_not() -> None:
    old, labels = noise(12, 3, size=4)
    method = _given(old, BatchHard())
    near = torch.tensor([[3.0, 4.0, 0.0, 0.0]], dtype=torch.float64) + 1e-3 * old
    with pytest.raises(Unhealthy, match="the embedding has collapsed"):
        for _ in range(20):
            method.loss(near, labels)


def test_the_start_is_copied_but_for_the_last_layer() -> None:
    backbone, trained, old = _network(8), _network(6, seed=5), Teacher(_network(8, seed=7), SMALL)
    drawn = {name: value.clone() for name, value in backbone.state_dict().items()}
    Harmonic(backbone, None, SMALL, VIEWS, old, SemiHard(), Path("new"), lambda run: Teacher(trained, SMALL))
    for name, value in backbone.state_dict().items():
        last = name.partition(".")[0] in ("bn2", "fc", "features")
        assert torch.equal(value, drawn[name] if last else trained.state_dict()[name]), name


def test_what_does_not_fit() -> None:
    old = Teacher(_network(8), SMALL)
    with pytest.raises(UserError, match="has 6 components and the old one 8"):
        Harmonic(_network(6), None, SMALL, VIEWS, old, SemiHard(), Path())
    torch.manual_seed(0)
    wide = iresnet_nano(8, image_size=(32, 32), channels=(8, 8, 8, 16), blocks=(1, 1, 1, 1))
    with pytest.raises(UserError, match="a different architecture"):
        Harmonic(_network(8), None, SMALL, VIEWS, old, SemiHard(), Path(), lambda run: Teacher(wide, SMALL))
    other = Preprocessing(size=(32, 32), mean=0.0)
    with pytest.raises(UserError, match="the network to start from"):
        Harmonic(_network(8), None, SMALL, VIEWS, old, SemiHard(), Path(), lambda run: Teacher(_network(8), other))
    with pytest.raises(UserError, match="does not define its last layer"):
        Harmonic(nn.Linear(2, 2), None, SMALL, VIEWS, old, SemiHard(), Path())


def _train(runs: Path, *words: str) -> Path:
    argv = list(sys.argv)
    try:
        assert main(["train", *words, f"paths.runs={runs}"]) == 0
    finally:
        sys.argv = argv
    return only_run(runs)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs of an old network, and of a new one that is wider."""
    folder = tmp_path_factory.mktemp("trained")
    wide = "backbone.channels=[8,8,8,16]"
    return {
        "old": _train(folder / "old", *PLAINLY, "trainer.max_steps=2", "seed=3"),
        "new": _train(folder / "new", *PLAINLY, "trainer.max_steps=2", wide),
    }


def _words(trained: dict[str, Path]) -> list[str]:
    """Four steps an epoch, the last layer alone for one of three epochs."""
    names = ("toy_new_new", "toy_new_old", "toy_old_old")
    test = ["dataset.size=[32,32]", "dataset.people=8", "dataset.images_per_person=4"]
    pairs = ["+{}.folds=2", "+{}.pairs_per_fold=8", "+{}.fars=[0.25]"]
    return [
        *[word for word in PLAINLY if word != "evaluation=none"],
        "evaluation=toy_harmonic",
        *[f"evaluation.{name}.{word}" for name in names for word in test],
        *[word.format(f"evaluation.{name}") for name in names for word in pairs],
        "method=harmonic",
        "method.people_per_batch=4",
        "method.images_per_person=2",
        "method.last_layer_epochs=1",
        "backbone.channels=[8,8,8,16]",
        "trainer.max_epochs=3",
        "resume.every_n_train_steps=1",
        f"teacher.run={trained['old']}",
        f"method.start_from={trained['new']}",
    ]


@pytest.fixture(scope="module")
def finished(trained: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _train(tmp_path_factory.mktemp("finished"), *_words(trained))


def test_first_the_last_layer_moves_alone_then_all(
    trained: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the four steps of the first epoch all else keeps the bits that it started with, statistics included.

    The old network keeps its own throughout.
    """
    at: dict[int, dict[str, Tensor]] = {}
    old: list[str] = []
    begin = Harmonic.on_train_batch_start

    def look(method: Harmonic, batch: Batch, batch_idx: int) -> None:
        at[method.trainer.global_step] = {k: v.clone() for k, v in method.backbone.state_dict().items()}
        assert method.teacher is not None
        old.append(fingerprint_of(method.teacher.network))
        begin(method, batch, batch_idx)

    monkeypatch.setattr(Harmonic, "on_train_batch_start", look)
    words = [word for word in _words(trained) if "evaluation" not in word]
    run = _train(tmp_path / "runs", *words, "evaluation=none", "trainer.max_steps=6")
    assert [row["whole"] for row in records(run) if row["kind"] == "train"] == [0, 0, 0, 0, 1, 1]
    assert old == [load_network(trained["old"]).fingerprint] * 6
    start = load_run(trained["new"]).method.backbone.state_dict()
    for name, value in start.items():
        if name == "features.weight":  # fixed at 1
            continue
        if name.partition(".")[0] in ("bn2", "fc", "features"):
            assert not torch.equal(at[1][name], at[4][name]), name
            assert name.endswith("num_batches_tracked") or not torch.equal(value, at[4][name]), name
        else:
            assert torch.equal(value, at[0][name]) and torch.equal(value, at[4][name]), name
            assert not torch.equal(value, at[5][name]), name


def test_new_and_old_are_tested_on_each_other(trained: dict[str, Path], finished: Path) -> None:
    """Scores by hand of both networks, each image and its mirror summed."""
    faces = ToyFaces(people=8, images_per_person=4, split="test", size=(32, 32))
    pairs = random_pairs(faces.labels, faces.keys, 2, 8, 0)
    rows = {key: row for row, key in enumerate(faces.keys)}
    images = torch.from_numpy(np.stack([faces[row].image for row in range(len(faces))]))
    networks = {"new": load_network(finished), "old": load_network(trained["old"])}
    units = {
        name: nn.functional.normalize((network.embed(images) + network.embed(images.flip(2))).double())
        for name, network in networks.items()
    }
    for first, second in (("new", "new"), ("new", "old"), ("old", "old")):
        stored = np.load(finished / "scores" / f"toy_{first}_{second}.npz")
        left, right = [rows[key] for key in pairs.left], [rows[key] for key in pairs.right]
        by_hand = (units[first][left] * units[second][right]).sum(1).numpy()
        np.testing.assert_allclose(stored["scores"], by_hand, atol=1e-5)


def test_killed_in_either_stage_a_run_ends_with_the_same_bytes(
    trained: dict[str, Path], finished: Path, tmp_path: Path
) -> None:
    for step in (2, 6):
        kill_at(step, tmp_path / "runs", tmp_path, _words(trained))
    said = command("train", *_words(trained), f"paths.runs={tmp_path}/runs", cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    run = only_run(tmp_path / "runs")
    expected, found = weights(finished), weights(run)
    assert all(value.numpy().tobytes() == found[name].numpy().tobytes() for name, value in expected.items())
    assert records(run) == records(finished)


def test_a_second_stage_that_would_never_come(kdface: Kdface, trained: dict[str, Path]) -> None:
    said = kdface("train", *_words(trained), "method.last_layer_epochs=3")
    assert said.code == 2 and "would never be trained" in " ".join(said.err.split())


def test_the_shipped_choice_states_every_parameter_with_its_default() -> None:
    stated = yaml.safe_load((conf_folder() / "method" / "harmonic.yaml").read_text("utf-8"))["method"]
    known = {name: parameter.default for name, parameter in parameters(Harmonic).items()}
    assert stated.pop("_target_") == "kdface.methods.Harmonic"
    assert stated.pop("views") == {"student": "image", "teacher": "image"}
    assert stated.pop("miner") == {"_target_": "kdface.losses.SemiHard"}
    assert stated.pop("start_from") == "???"
    for injected in ("backbone", "head", "preprocessing", "views", "teacher", "miner", "start_from", "load_network"):
        del known[injected]
    assert stated == known
