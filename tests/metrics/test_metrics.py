"""Each metric against the reference: in one process and two, whole and in batches, pickled, cloned and reset."""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator
from multiprocessing.pool import Pool
from typing import Any

import numpy as np
import pytest
import torch
from torchmetrics import MetricCollection
from torchmetrics.classification import BinaryEER, BinaryROC, MulticlassAccuracy
from torchmetrics.clustering import DaviesBouldinScore

from kdface.errors import UserError
from kdface.evaluation.ckd import davies_bouldin
from kdface.evaluation.curves import eer, roc
from kdface.evaluation.scores import unit
from kdface.metrics import CMC, EqualErrorRate, ErrorDiscard, FNMRAtFMR, ROCArea, TARAtFAR, TenFoldAccuracy, VALAtFAR
from tests.metrics.cases import (
    CASES,
    CHANCES,
    COUNT,
    EMBEDDINGS,
    LABELS,
    PARTS,
    PEOPLE,
    SAME,
    SCORES,
    compute_part,
    feed,
    join,
    loaded,
)

ALL = np.arange(COUNT)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    """Two processes that gather by gloo."""
    file = str(tmp_path_factory.mktemp("gloo") / "store")
    context = torch.multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.metrics.cases"])  # imported once
    with context.Pool(2) as pool:
        pool.starmap(join, [(rank, 2, file) for rank in range(2)], chunksize=1)
        yield pool


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("batch", [COUNT, 7])
def test_one_process_finds_what_the_reference_does(name: str, batch: int) -> None:
    case = CASES[name]
    metric = case.make()
    feed(metric, case, ALL, batch, keyed=False)
    for instance in (metric, pickle.loads(pickle.dumps(metric)), metric.clone()):
        found = instance.compute()
        assert found.dtype == torch.float64
        assert found.tolist() == pytest.approx(np.asarray(case.expected).tolist(), abs=1e-12, nan_ok=True)
    assert metric.higher_is_better is not None and metric.full_state_update is False
    metric.reset()
    with pytest.raises(ValueError, match="nothing to compute"), pytest.warns(UserWarning, match="before"):
        metric.compute()


RATES = [EqualErrorRate, ROCArea, TARAtFAR, FNMRAtFMR, TenFoldAccuracy, VALAtFAR, ErrorDiscard]


@pytest.mark.parametrize("kind", RATES)
@pytest.mark.parametrize("same", [[True] * 20, [False] * 2000, [False] * 3 + [True] * 5], ids=["one", "other", "few"])
def test_pairs_that_cannot_resolve_a_rate_are_nan(kind: Any, same: list[bool]) -> None:
    scores, mated = torch.linspace(-0.9, 0.9, len(same)), torch.tensor(same)
    more = {"quality": scores} if kind is ErrorDiscard else {}
    metric = kind()
    metric.update(scores, mated, **more)
    resolved = len(set(same)) == 2 and kind in (EqualErrorRate, ROCArea)
    assert bool(metric.compute().isnan()) is not resolved
    broken = kind()
    broken.update(scores.where(scores < 0.8, torch.nan), mated, **more)
    with pytest.raises(UserError, match="not finite"):
        broken.compute()


@pytest.mark.parametrize("side", [True, False])
def test_an_identification_without_a_side_is_nan(side: bool) -> None:
    metric = CMC(3)
    metric.update(torch.eye(4), torch.arange(4), torch.full((4,), side))
    assert metric.compute().isnan().tolist() == [True] * 3


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.keyed])
def test_a_row_that_a_sampler_doubled_counts_once(name: str) -> None:
    case = CASES[name]
    metric = case.make()
    feed(metric, case, np.append(ALL[::-1], [3, 3, 50]), 20, keyed=True)
    assert metric.compute().tolist() == pytest.approx(np.asarray(case.expected).tolist(), abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("parts", PARTS)
@pytest.mark.parametrize("name", CASES)
def test_two_processes_find_what_the_reference_does(two: Pool, name: str, parts: str) -> None:
    case = CASES[name]
    if parts == "padded" and not case.keyed:
        pytest.skip("sums do not know their rows")
    found = two.starmap(compute_part, [(name, parts)] * 2, chunksize=1)
    for value in found:
        assert value == pytest.approx(np.asarray(case.expected).tolist(), abs=1e-12, nan_ok=True)


def test_a_collection_keeps_the_pairs_once() -> None:
    together = MetricCollection([EqualErrorRate(), ROCArea(), TARAtFAR(0.1), FNMRAtFMR(0.1), TenFoldAccuracy()])
    for rows in np.array_split(ALL, 3):
        together.update(torch.from_numpy(SCORES[rows]), torch.from_numpy(SAME[rows]))
    assert len(together.compute_groups) == 1
    found = together.compute()
    assert found["EqualErrorRate"].item() == CASES["eer"].expected
    assert found["TARAtFAR"].item() == CASES["tar"].expected


def test_scores_need_no_type_of_their_own() -> None:
    """bfloat16 scores and labels of 0 and 1, as a training loop has them."""
    scores = torch.from_numpy(SCORES).to(torch.bfloat16)
    metric = EqualErrorRate()
    metric.update(scores, torch.from_numpy(SAME).long())
    assert metric.compute().item() == eer(roc(scores.double().numpy(), SAME))


def test_columns_that_do_not_fit_are_refused() -> None:
    metric = VALAtFAR(0.1)
    with pytest.raises(ValueError, match="columns of one length"):
        metric.update(torch.zeros(3), torch.zeros(2, dtype=torch.bool))
    with pytest.raises(ValueError, match="columns of one length"):
        CMC().update(torch.zeros(3), torch.zeros(3), torch.zeros(3))
    for shape in ((4, 1), ()):
        with pytest.raises(ValueError, match=re.escape(f"scores (N,), same (N,), fold (N,); got scores {shape}, same")):
            EqualErrorRate().update(torch.zeros(shape), torch.zeros(shape, dtype=torch.bool))
    with pytest.raises(ValueError, match=re.escape("embeddings (N, D), people (N,)")):
        CMC().update(torch.zeros(3, 2), torch.zeros(3, 1), torch.zeros(3))
    metric.reset()
    metric.update(torch.zeros(2), torch.tensor([True, False]), key=torch.tensor([0, 1]))
    metric.update(torch.zeros(2), torch.tensor([True, False]))
    with pytest.raises(ValueError, match="some updates came with keys"):
        metric.compute()


def test_the_binary_curves_of_torchmetrics_are_not_for_cosines() -> None:
    """They pass a batch through a sigmoid where it leaves [0, 1], and leave the next one as it is."""
    rng = np.random.default_rng(1)
    same = np.arange(6000) % 2 == 0
    cosines = np.clip(rng.normal(np.where(same, 0.55, 0.15), 0.16), -1, 1)
    exact, stock, curve = EqualErrorRate(), BinaryEER(), BinaryROC()
    for rows in np.array_split(rng.permutation(6000), 500):
        for metric in (exact, stock, curve):
            metric.update(torch.from_numpy(cosines[rows]), torch.from_numpy(same[rows]).long())
    truth = eer(roc(cosines, same))
    assert exact.compute().item() == truth
    assert stock.compute().item() - truth > 0.04
    far, tar, _ = curve.compute()
    assert far[(far - (1 - tar)).abs().argmin()].item() - truth > 0.04


def test_what_torchmetrics_computes_exactly_is_not_repeated() -> None:
    accuracy = MulticlassAccuracy(4, average="micro")
    accuracy.update(torch.from_numpy(CHANCES), torch.from_numpy(LABELS))
    assert accuracy.compute().item() == pytest.approx((CHANCES.argmax(1) == LABELS).mean(), abs=1e-7)
    index = DaviesBouldinScore()
    index.update(torch.from_numpy(unit(EMBEDDINGS)), torch.from_numpy(PEOPLE))
    assert index.compute().item() == pytest.approx(davies_bouldin(EMBEDDINGS, PEOPLE), abs=1e-6)


def test_metrics_need_neither_hydra_nor_lightning(two: Pool) -> None:
    """What a process that imported them alone has loaded."""
    assert "kdface.metrics" in (found := two.apply(loaded))
    assert not {"hydra", "omegaconf", "pytorch_lightning", "wandb"} & found
