"""Protocols: objects that turn embeddings into named metrics. A metric's key names its protocol."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Protocol, runtime_checkable

import numpy as np
from annotated_types import Ge, Gt, Lt
from numpy.typing import NDArray

from kdface.errors import UserError
from kdface.evaluation.curves import auc, eer, roc, tar_at_far
from kdface.evaluation.embed import Embedder
from kdface.evaluation.health import diagnose
from kdface.evaluation.pairs import PairList, random_pairs, read_lfw_pairs
from kdface.evaluation.scores import cosine_scores, squared_distances
from kdface.evaluation.verification import consecutive_folds, tenfold_accuracy, tenfold_accuracy_exact
from kdface.faces import FaceSet, Preprocessing

FAR = Annotated[float, Gt(0), Lt(1)]


@dataclass(frozen=True)
class Metric:
    """A value, a fraction unless its name says otherwise; `std` over folds where there are folds.

    `value` is None where the data cannot resolve it (a FAR below one over the number of impostor pairs).
    """

    value: float | None
    std: float | None = None

    def to_dict(self) -> dict[str, float | None]:
        return {"value": self.value} if self.std is None else {"value": self.value, "std": self.std}


@dataclass
class Outcome:
    """What a protocol found.

    Attributes:
        metrics: protocol/metric -> value; the caller puts the name of the test set before it.
        counts: how many images and pairs were expected and seen.
        symptoms: why the numbers are worth nothing, a text each; empty when healthy (`kdface.evaluation.health`).
        scores, same: (pairs,) raw similarities and labels, for curves and reports.
    """

    metrics: dict[str, Metric]
    counts: dict[str, int]
    symptoms: list[str] = field(default_factory=list)
    scores: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    same: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))


@runtime_checkable
class EvaluationProtocol(Protocol):
    """What the run asks of a protocol."""

    dataset: FaceSet
    preprocessing: Preprocessing

    def evaluate(self, embed: Embedder) -> Outcome: ...


class Verification:
    """Are two images of one person? Cosine similarity of f(x) + f(mirrored x) over a list of pairs.

    Metrics: `10fold/accuracy` is InsightFace's (thresholds 0, 0.01, ..., 3.99 on the squared distance);
    `10fold/accuracy_exact` chooses among all thresholds; `roc/eer`, `roc/auc`, `roc/tar@far=X` are computed on the
    exact curve. `std` is the population standard deviation over the folds.

    Args:
        dataset: the images.
        pairs: keys of the images to compare; its folds, or ten consecutive blocks.
        fars: the false-accept rates at which the true-accept rate is told.
    """

    def __init__(self, dataset: FaceSet, pairs: PairList, fars: Sequence[float] = (1e-2, 1e-3)) -> None:
        self.dataset = dataset
        self.pairs = pairs
        self.fars = tuple(fars)
        self.preprocessing = dataset.preprocessing
        missing = sorted(set(pairs.keys()) - set(dataset.keys))
        if missing:
            raise UserError(
                f"{len(missing)} of {len(pairs.keys())} images of the pair list are not in {dataset.name}: "
                f"{', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''}.",
                mend=f"kdface data verify {dataset.name}",
            )

    def evaluate(self, embed: Embedder) -> Outcome:
        """Embed, score, measure. Embeddings without a direction give metrics that are not available, and symptoms."""
        keys = self.pairs.keys()
        embeddings = embed(self.dataset, keys)
        left, right = self.pairs.rows(keys)
        same = self.pairs.same
        counts = {"pairs": len(self.pairs), "images": len(keys), "images_embedded": len(embeddings)}
        symptoms = diagnose(embeddings, left, right, same)
        if not np.isfinite(embeddings).all() or not embeddings.any(axis=1).all():
            names = ["10fold/accuracy", "10fold/accuracy_exact", "roc/eer", "roc/auc"]
            return Outcome({name: Metric(None) for name in names}, counts, symptoms)
        distances = squared_distances(embeddings[left], embeddings[right])
        scores = cosine_scores(embeddings[left], embeddings[right])
        curve = roc(scores, same)
        published = tenfold_accuracy(distances, same, self.pairs.fold)
        exact = tenfold_accuracy_exact(distances, same, self.pairs.fold)
        metrics = {
            "10fold/accuracy": Metric(published.mean, published.std),
            "10fold/accuracy_exact": Metric(exact.mean, exact.std),
            "roc/eer": Metric(eer(curve)),
            "roc/auc": Metric(auc(curve)),
            **{f"roc/tar@far={far:g}": Metric(tar_at_far(curve, far)) for far in self.fars},
        }
        return Outcome(metrics, counts, symptoms, np.asarray(scores), same)


def lfw_verification(dataset: FaceSet, pairs: Path, fars: tuple[FAR, ...] = (1e-2, 1e-3)) -> Verification:
    """Verification over a pair list in LFW's text format.

    View 2 brings its ten folds. View 1 has none and lists all same pairs first, so each kind is cut into ten blocks.
    """
    listed = read_lfw_pairs(pairs)
    if listed.fold is None:
        fold = np.empty(len(listed), dtype=np.int64)
        for kind in (True, False):
            rows = np.flatnonzero(listed.same == kind)
            fold[rows] = consecutive_folds(len(rows))
        listed = replace(listed, fold=fold)
    return Verification(dataset, listed, fars)


def bin_verification(dataset: Any, fars: tuple[FAR, ...] = (1e-2, 1e-3)) -> Verification:
    """Verification over an InsightFace `.bin` set (`kdface.datasets.BinPairs`), which brings its pairs along."""
    left, right, same = zip(*dataset.pairs(), strict=True)
    return Verification(dataset, PairList(left, right, np.array(same, dtype=np.bool_), None), fars)


def random_verification(
    dataset: FaceSet,
    folds: Annotated[int, Ge(2)] = 10,
    pairs_per_fold: Annotated[int, Ge(2)] = 120,
    seed: Annotated[int, Ge(0)] = 0,
    fars: tuple[FAR, ...] = (1e-2, 1e-3),
) -> Verification:
    """Verification over pairs drawn at random from any dataset with people: balanced, folds of disjoint people."""
    pairs = random_pairs(dataset.labels, dataset.keys, folds, pairs_per_fold, seed)
    return Verification(dataset, pairs, fars)
