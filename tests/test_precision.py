"""Scalar state in half precision, and devices without float64, for which a set of device types stands in."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import kdface.precision
from kdface.datasets import cache
from kdface.heads import AdaFace, CurricularFace
from kdface.losses import DistanceWeighted, Random, squared_distances
from kdface.methods import MaskInv
from kdface.metrics import CalibrationError, EqualErrorRate
from kdface.teachers import Teacher
from kdface.teachers.quality import CRFIQA, FROQ, SERFIQ, EmbeddingNorm, FaceQAN, GraFIQs, MatedCosine
from tests.methods.test_distillation import SMALL, VIEWS, small_network
from tests.teachers.quality.stand_ins import random_faces

HEADS = [AdaFace, CurricularFace]


class _NoFloat64(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Fails where a float64 tensor is made."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        assert not (isinstance(found, Tensor) and found.dtype == torch.float64), func
        return found


@pytest.fixture
def poor(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU as a device without float64."""
    monkeypatch.setattr(kdface.precision, "WITHOUT_FLOAT64", frozenset({"cpu"}))


def _step(head: Any) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        head.weight.copy_(torch.randn(head.weight.shape, generator=draw))
    head.train()(torch.randn(6, 8, generator=draw), torch.tensor([0, 1, 2, 0, 1, 2]))
    return {name: value for name, value in head.named_buffers()}


@pytest.mark.parametrize("kind", HEADS)
def test_heads_on_a_device_without_float64(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    exact = _step(kind(8, 3))
    monkeypatch.setattr(kdface.precision, "WITHOUT_FLOAT64", frozenset({"cpu"}))
    with _NoFloat64():  # type: ignore[no-untyped-call]
        found = _step(kind(8, 3))
    for name, value in exact.items():
        assert value.dtype == torch.float32 and found[name].item() == pytest.approx(value.item(), rel=1e-5)


@pytest.mark.parametrize("kind", HEADS)
def test_running_means_keep_their_type_in_half_precision(kind: Any) -> None:
    head = kind(8, 3)
    exact = _step(kind(8, 3))
    order = list(head.state_dict())
    head.to(torch.bfloat16)
    assert head.weight.dtype == torch.bfloat16 and list(head.state_dict()) == order
    head.float()
    for name, value in _step(head).items():
        assert value.dtype == torch.float32 and torch.equal(value, exact[name])
    earlier = {name: value.bfloat16() for name, value in head.state_dict().items()}  # as such runs have saved it
    head.load_state_dict(earlier)
    for name in exact:
        assert torch.equal(head.get_buffer(name), earlier[name].float())


def test_maskinv_counts_beyond_what_half_precision_can() -> None:
    method = MaskInv(
        *(small_network(), AdaFace(8, 3), SMALL, VIEWS, Teacher(small_network(seed=7), SMALL)),
        raised_guidance=3000.0,
        raise_when_stable=1000,
    )
    method.to(torch.bfloat16)
    for _ in range(300):
        method._stable(torch.tensor(1.0))
    assert method.watched.tolist()[:2] == [300.0, 300.0]
    assert all(value.dtype == torch.bfloat16 for value in method.parameters())


@pytest.mark.usefixtures("poor")
def test_maskinv_on_a_device_without_float64() -> None:
    teacher = Teacher(small_network(seed=7), SMALL)
    method = MaskInv(small_network(), AdaFace(8, 3), SMALL, VIEWS, teacher, raised_guidance=1.0, raise_when_stable=2)
    method.to("cpu")
    for loss in (2.0, 1.0, 3.0):
        method._stable(torch.tensor(loss))
    assert method.watched.dtype == torch.float32 and method.watched.tolist() == [1.0, 3.0, 1.5, 0.0]


@pytest.mark.parametrize("miner", [Random(), DistanceWeighted(embedding_size=8)])
def test_miners_find_the_same_triplets(miner: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = torch.Generator().manual_seed(0)
    points = torch.nn.functional.normalize(torch.randn(12, 8, generator=draw))
    label = torch.arange(12) // 3
    found = []
    for without in ("mps", "cpu"):
        monkeypatch.setattr(kdface.precision, "WITHOUT_FLOAT64", frozenset({without}))
        found.append(miner(squared_distances(points), label, 0.2, torch.Generator().manual_seed(1)))
    assert len(found[0].anchor) and all(torch.equal(one, other) for one, other in zip(*found, strict=True))


@pytest.mark.usefixtures("poor")
def test_metrics_on_a_device_without_float64() -> None:
    pairs = EqualErrorRate()
    calibration = CalibrationError().to("cpu")
    with _NoFloat64():  # type: ignore[no-untyped-call]
        pairs.update(torch.tensor([0.9, 0.2, 0.4, 0.3]), torch.tensor([True, True, False, False]))
        assert pairs.compute().item() == pytest.approx(0.5)
    calibration.update(torch.tensor([[0.75, 0.25], [0.5, 0.5]]), torch.tensor([0, 0]))
    found = calibration.compute()
    assert found.dtype == torch.float32 and calibration.confidence.dtype == torch.float32
    assert found.item() == pytest.approx(0.375)


@pytest.mark.parametrize(
    "source",
    [FROQ(), FaceQAN(), EmbeddingNorm(), GraFIQs(), SERFIQ(passes=4, dropout=0.4), MatedCosine(), CRFIQA()],
    ids=lambda source: type(source).__name__,
)
def test_quality_sources_on_a_device_without_float64(source: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    faces = random_faces(3, 3, SMALL.size)
    teacher = Teacher(small_network(seed=7), SMALL)
    exact = source(teacher, faces)
    monkeypatch.setattr(kdface.precision, "WITHOUT_FLOAT64", frozenset({"cpu"}))
    with _NoFloat64():  # type: ignore[no-untyped-call]
        found = source(teacher, faces)
    assert found.tolist() == pytest.approx(exact.tolist(), rel=1e-4, abs=1e-4)


def test_the_cache_counts_processors_on_any_system(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    import numpy as np

    monkeypatch.setenv("KDFACE_CACHE", str(tmp_path))
    monkeypatch.delattr("os.sched_getaffinity")
    rows = cache.drawn_once(("squares",), 300, np.dtype("<i8"), lambda row: np.array(row * row), [cache])
    assert rows.tolist() == [row * row for row in range(300)]
