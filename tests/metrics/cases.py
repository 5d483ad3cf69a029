"""Every metric with data and what the reference says, and what a process of several computes on its part."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

from kdface import metrics
from kdface.evaluation.calibration import expected_calibration_error, maximum_calibration_error
from kdface.evaluation.clustering import bcubed_f
from kdface.evaluation.curves import auc, eer, fnmr_at_fmr, roc, tar_at_far
from kdface.evaluation.edc import DiscardPolicy, error_discard
from kdface.evaluation.identification import cmc, mate_ranks
from kdface.evaluation.validation import val_at_far
from kdface.evaluation.verification import tenfold_accuracy, tenfold_accuracy_exact

_RNG = np.random.default_rng(0)
COUNT = 101  # no two parts are equal
SAME = _RNG.random(COUNT) < 0.5
SCORES = np.clip(_RNG.normal(0.25, 0.2, COUNT) + 0.3 * SAME, -1, 1)
FOLD = _RNG.integers(5, size=COUNT)
QUALITY = np.round(_RNG.random(COUNT) + 0.3 * (SCORES > 0.4), 1)
CHANCES, LABELS = _RNG.dirichlet(np.ones(4), COUNT), _RNG.integers(4, size=COUNT)
PEOPLE = np.arange(COUNT) % 12
EMBEDDINGS = (_RNG.normal(size=(12, 8))[PEOPLE] + 1.5 * _RNG.normal(size=(COUNT, 8))).astype(np.float32)
GALLERY = np.arange(COUNT) < 24
POLICY = DiscardPolicy(0.1)


class Case(NamedTuple):
    make: Callable[[], Metric]
    columns: tuple[NDArray[Any], ...]
    expected: Any
    keyed: bool = True


def _val(far: float) -> float | None:
    found = val_at_far(2 - 2 * SCORES, SAME, far, FOLD)
    return None if found is None else found.val.mean


def _cmc() -> NDArray[np.float64]:
    names = [str(person) for person in PEOPLE]
    ranks = mate_ranks(EMBEDDINGS[:24], names[:24], EMBEDDINGS[24:], names[24:])
    return cmc(ranks, 5)


PAIRS, FOLDED = (SCORES, SAME), (SCORES, SAME, FOLD)
CURVE = roc(SCORES, SAME)
CASES = {
    "eer": Case(metrics.EqualErrorRate, PAIRS, eer(CURVE)),
    "auc": Case(metrics.ROCArea, PAIRS, auc(CURVE)),
    "tar": Case(lambda: metrics.TARAtFAR(0.1), PAIRS, tar_at_far(CURVE, 0.1)),
    "tar, not resolved": Case(lambda: metrics.TARAtFAR(1e-3), PAIRS, np.nan),
    "fnmr": Case(lambda: metrics.FNMRAtFMR(0.1), PAIRS, fnmr_at_fmr(CURVE, 0.1)),
    "accuracy": Case(metrics.TenFoldAccuracy, FOLDED, tenfold_accuracy(2 - 2 * SCORES, SAME, FOLD).mean),
    "accuracy, exact": Case(
        lambda: metrics.TenFoldAccuracy(exact=True), FOLDED, tenfold_accuracy_exact(2 - 2 * SCORES, SAME, FOLD).mean
    ),
    "val": Case(lambda: metrics.VALAtFAR(0.1), FOLDED, _val(0.1)),
    "edc": Case(
        lambda: metrics.ErrorDiscard(0.3, POLICY),
        (SCORES, SAME, QUALITY),
        error_discard(SCORES, SAME, QUALITY, POLICY).pauc(0.3),
    ),
    "cmc": Case(lambda: metrics.CMC(5), (EMBEDDINGS, PEOPLE, GALLERY), _cmc()),
    "bcubed": Case(metrics.BCubedF, (LABELS, PEOPLE), bcubed_f(LABELS, PEOPLE).f),
    "ece": Case(metrics.CalibrationError, (CHANCES, LABELS), expected_calibration_error(CHANCES, LABELS), False),
    "mce": Case(
        lambda: metrics.CalibrationError(kind="mce"),
        (CHANCES, LABELS),
        maximum_calibration_error(CHANCES, LABELS),
        False,
    ),
}


def feed(metric: Metric, case: Case, rows: NDArray[np.int64], batch: int, keyed: bool) -> None:
    """Update batch by batch with some of the rows."""
    for start in range(0, len(rows), batch):
        some = rows[start : start + batch]
        extra: dict[str, Tensor] = {"key": torch.from_numpy(some)} if keyed else {}
        metric.update(*(torch.from_numpy(column[some]) for column in case.columns), **extra)


def join(rank: int, world: int, file: str) -> None:
    """Make this process one of several."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=world)


def loaded() -> set[str]:
    """The modules of this process."""
    return set(sys.modules)


# Rows of both processes: uneven parts; one of them empty; what a sampler that pads doubles.
PARTS: dict[str, tuple[NDArray[np.int64], NDArray[np.int64]]] = {
    "uneven": (np.arange(17), np.arange(17, COUNT)),
    "one empty": (np.arange(0), np.arange(COUNT)),
    "padded": (np.arange(0, COUNT, 2), np.append(np.arange(1, COUNT, 2), [0])),
}


def compute_part(name: str, parts: str) -> Any:
    """What this process finds for all: on its own rows, gathered."""
    case, keyed = CASES[name], parts == "padded"
    metric = case.make()
    feed(metric, case, PARTS[parts][torch.distributed.get_rank()], 7, keyed)
    return metric.compute().tolist()
