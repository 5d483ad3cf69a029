"""Protocols: compute named metrics from embeddings. A metric's key includes its protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Protocol, cast, runtime_checkable

import numpy as np
from annotated_types import Ge, Gt, Lt
from numpy.typing import NDArray

from kdface.datasets.bin_pairs import BinPairs
from kdface.datasets.contract import require_faces
from kdface.datasets.derived import Derived
from kdface.errors import DataError, UserError, nearest
from kdface.evaluation.curves import auc, eer, fnmr_at_fmr, roc, tar_at_far
from kdface.evaluation.embed import Embedder, Recognition, Tested, embedder_of, require_sees
from kdface.evaluation.health import diagnose
from kdface.evaluation.operating import operating_points
from kdface.evaluation.pairs import PairList, random_pairs, read_lfw_pairs, read_mfr2_pairs
from kdface.evaluation.people import UNKNOWN, people_of, sample_of_people
from kdface.evaluation.scores import cosine_scores, score_statistics, squared_distances
from kdface.evaluation.validation import val_at_far
from kdface.evaluation.verification import FoldRate, consecutive_folds, tenfold_accuracy, tenfold_accuracy_exact
from kdface.faces import FaceSet
from kdface.metric_names import rate

FAR = Annotated[float, Gt(0), Lt(1)]


@dataclass(frozen=True)
class Measured:
    """A value, a fraction unless its name implies otherwise; `std` over folds, if any.

    `standard_error` is that of the mean over folds, the sample standard deviation / sqrt(folds): the +- of LFW's report
    and of FaceNet, while `std`, the population's, is InsightFace's.

    `value` is None if the data cannot resolve it (a FAR below one over the number of impostor pairs). `low` and
    `high` bound an interval, if the protocol computes one.
    """

    value: float | None
    std: float | None = None
    low: float | None = None
    high: float | None = None
    standard_error: float | None = None

    def to_dict(self) -> dict[str, float | None]:
        """As stored in results.json, without missing values."""
        rest = {"std": self.std, "low": self.low, "high": self.high, "standard_error": self.standard_error}
        return {"value": self.value, **{name: value for name, value in rest.items() if value is not None}}


@dataclass
class Outcome:
    """Results of a protocol.

    Attributes:
        metrics: name -> value; the caller prefixes the name of the test set.
        counts: numbers of images, pairs and folds, expected and seen.
        symptoms: reasons why the numbers are meaningless, as texts; empty if healthy (`kdface.evaluation.health`).
        scores, same: (pairs,) raw similarities and labels, for curves and reports.
        choices: choices beyond the configuration that affect the numbers, JSON-compatible.
        cmc: (ranks,) identification rate at rank 1, 2, ...; empty without identification.
        sample, sample_people: (images, D) embeddings of a few people, and (images,) their numbers, for plots
            (`kdface.evaluation.people.sample_of_people`).
        verifies: whether `scores` are from a list of verification pairs, whose thresholds are meaningful elsewhere.
        units: the people of the left and right image of each pair; null if unknown.
    """

    metrics: dict[str, Measured]
    counts: dict[str, int]
    symptoms: list[str] = field(default_factory=list)
    scores: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    same: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))
    choices: dict[str, Any] = field(default_factory=dict)
    cmc: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    sample: NDArray[np.float16] = field(default_factory=lambda: np.zeros((0, 0), np.float16))
    sample_people: NDArray[np.int16] = field(default_factory=lambda: np.zeros(0, np.int16))
    verifies: bool = False
    units: tuple[NDArray[np.str_], NDArray[np.str_]] | None = None

    def operating_points(self) -> list[dict[str, Any]]:
        """Thresholds at the FARs that the impostors resolve (`kdface.evaluation.operating`); verification only."""
        return operating_points(self.scores, self.same, self.units) if self.verifies and len(self.scores) else []

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Data for figures, stored in the run folder."""
        found: dict[str, NDArray[Any]] = {"scores": self.scores, "same": self.same} if len(self.scores) else {}
        names = ("cmc", "sample", "sample_people")
        return found | {name: getattr(self, name) for name in names if len(getattr(self, name))}


@runtime_checkable
class EvaluationProtocol(Protocol):
    """Interface of protocols. `datasets` are those whose images the run's network embeds.

    Optional members: `keys_read`, the keys of each dataset, if only some images are read (`images_read`); `require`, if
    not every network can be tested (`require_fits`); `leave_out(keys of each dataset)`, if broken images can be
    skipped, which are then listed as `left_out`.
    """

    datasets: tuple[FaceSet, ...]

    def evaluate(self, embed: Embedder) -> Outcome:
        """Evaluate the embeddings from `embed`. Raises `UserError` if that is not possible."""


def require_protocol(protocol: object, where: str) -> None:
    """Raise `UserError` for a part that lacks what a protocol must have, or whose datasets break their contract.

    `where` is the test's key in the configuration, e.g. evaluation.lfw.
    """
    name, datasets = f"{where}: {type(protocol).__name__}", getattr(protocol, "datasets", None)
    contract = "datasets, a tuple of kdface.faces.FaceSet, and evaluate(embedder) -> kdface.evaluation.Outcome"
    if datasets is None or not callable(getattr(protocol, "evaluate", None)):
        raise UserError(f"{name} has no {'datasets' if datasets is None else 'evaluate'}.", expected=contract)
    if not isinstance(datasets, tuple | list):
        raise UserError(f"{name} has a {type(datasets).__name__} as datasets.", expected=contract)
    for faces in datasets:
        require_faces(faces, where)


def require_fits(protocol: EvaluationProtocol, network: Tested, where: str) -> None:
    """Raise `UserError` if a protocol cannot test a network, by its `require(network, where)` if it has one.

    `where` is the test's key in the configuration, e.g. evaluation.lfw.
    """
    if require := getattr(protocol, "require", None):
        require(network, where)


def outcome_of(protocol: EvaluationProtocol, embed: Embedder, where: str) -> Outcome:
    """Evaluate a protocol. Raises `UserError` if it returns no `Outcome`, or one of other values than `Measured`.

    `where` is the test's key in the configuration, e.g. evaluation.lfw.
    """
    found: Any = protocol.evaluate(embed)
    fault = "" if isinstance(found, Outcome) else f"a {type(found).__name__}"
    if not fault:
        for name, value in found.metrics.items():
            if not isinstance(value, Measured):
                fault = f"an Outcome with a {type(value).__name__} as {name}"
    if fault:
        raise UserError(
            f"{where}: evaluate of {type(protocol).__name__} returns {fault}.",
            expected="kdface.evaluation.Outcome({metric: kdface.evaluation.Measured(value)}, {count: number})",
        )
    if left_out := getattr(protocol, "left_out", []):
        found.choices["left_out"] = left_out
    return cast(Outcome, found)


def images_read(protocol: EvaluationProtocol) -> list[tuple[FaceSet, list[str]]]:
    """The images a protocol reads, by dataset; see `kdface.datasets.checks.broken`."""
    keys = getattr(protocol, "keys_read", None) or [faces.keys for faces in protocol.datasets]
    return [(faces, sorted(names)) for faces, names in zip(protocol.datasets, keys, strict=True)]


def datasets_of(protocols: Mapping[str, EvaluationProtocol]) -> list[tuple[FaceSet, list[str]]]:
    """The unique datasets of protocols, with the sorted keys of the images they read."""
    found: dict[int, tuple[FaceSet, set[str]]] = {}
    for protocol in protocols.values():
        for faces, keys in images_read(protocol):
            found.setdefault(id(faces), (faces, set()))[1].update(keys)
    return [(faces, sorted(keys)) for faces, keys in found.values()]


class Verification:
    """Verification over a list of pairs by the cosine similarity of f(x) + f(mirrored x).

    Metrics: `accuracy` is InsightFace's, over the folds (thresholds 0, 0.01, ..., 3.99 on the squared distance);
    `accuracy_exact` selects among all thresholds; `eer`, `auc`, `tar@far=X` are computed on the exact curve.
    `val@far=X` is FaceNet's VAL at a FAR, with the threshold selected on the other folds, and `reached_far@far=X` the
    resulting FAR on the fold itself (`kdface.evaluation.validation`). `std` is the population standard deviation over
    the folds, `standard_error` that of their mean. X is formatted as 1e-3 (`kdface.metric_names.rate`).

    From the masked-face literature: `fmr100` and `fmr1000`, the lowest FNMR with an FMR of at most 1 % and 0.1 %;
    `genuine_mean`, `impostor_mean`; and `fdr`, the Fisher discriminant ratio
    (genuine_mean - impostor_mean)^2 / (genuine variance + impostor variance).

    Args:
        dataset: the images; with `probes`, only the first image of each pair.
        pairs: keys of the images to compare; with its folds, or ten consecutive blocks.
        fars: the false-accept rates at which the true-accept rate and VAL are reported.
        probes: the dataset of the second image of each pair, such as the same faces with masks
            (`kdface.datasets.Seen`); null: `dataset`.
        official_half_split: for comparison with the published MaskInv code only, whose "mask against no mask" takes
            both images of the first half of the pairs from `dataset` and both of the second half from `probes`.
        recognition: a frozen network that embeds the images of `dataset`; null: the run's network.
        probe_recognition: a frozen network that embeds the second image of each pair; null: the run's network. Use an
            old network for either to test whether new embeddings are comparable with stored ones.
    """

    def __init__(
        self,
        dataset: FaceSet,
        pairs: PairList,
        fars: Sequence[float] = (1e-2, 1e-3),
        probes: FaceSet | None = None,
        official_half_split: bool = False,
        recognition: Recognition | None = None,
        probe_recognition: Recognition | None = None,
    ) -> None:
        self.dataset = dataset
        self.probes = dataset if probes is None else probes
        self.datasets: tuple[FaceSet, ...] = (dataset,) if probes is None else (dataset, probes)
        self.pairs = pairs
        self.left_out: list[str] = []
        self.fars = tuple(fars)
        self.networks = (recognition, probe_recognition)
        self._one_side = self.probes is self.dataset and recognition is probe_recognition
        half = len(pairs) // 2 if official_half_split else 0
        # The set of each image.
        self._left = np.arange(len(pairs)) >= half if official_half_split else np.zeros(len(pairs), dtype=np.bool_)
        self._right = self._left if official_half_split else np.ones(len(pairs), dtype=np.bool_)
        for side, keys in zip((self.dataset, self.probes), self._keys(), strict=True):
            missing = sorted(keys - set(side.keys))
            if missing:
                raise UserError(
                    f"{len(missing)} of {len(keys)} images of the pair list are not in {side.name}: "
                    f"{', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''}.",
                    expected="images and list of one release",
                    nearest=nearest(missing[0], side.keys),
                )
        for network, faces, keys in zip(self.networks, (self.dataset, self.probes), self._keys(), strict=True):
            if network is not None:
                require_sees(network, faces, sorted(keys))

    @property
    def keys_read(self) -> tuple[set[str], ...]:
        """The keys to embed, for each of its datasets."""
        first, second = self._keys()
        return (first | second,) if self.probes is self.dataset else (first, second)

    def leave_out(self, broken: Sequence[set[str]]) -> None:
        """Drop the pairs of broken images, given for each of `datasets`."""
        bad = (broken[0], broken[-1])
        sides = zip(self.pairs.left, self._left, self.pairs.right, self._right, strict=True)
        keep = np.array([left not in bad[int(i)] and right not in bad[int(j)] for left, i, right, j in sides])
        self.pairs = self.pairs.where(keep)
        self._left, self._right = self._left[keep], self._right[keep]
        self.left_out = sorted({*self.left_out, *broken[0], *broken[-1]})

    def _keys(self) -> tuple[set[str], set[str]]:
        """The images needed from `dataset`, and from `probes`."""
        pairs = self.pairs
        sides = [*zip(pairs.left, self._left, strict=True), *zip(pairs.right, self._right, strict=True)]
        first, second = ({key for key, of_probes in sides if of_probes == which} for which in (False, True))
        return (first | second, set()) if self._one_side else (first, second)

    def evaluate(self, embed: Embedder) -> Outcome:
        """Embed, score, compute metrics. For embeddings without a direction metrics are None, with symptoms."""
        embeddings, left, right = self._embedded(embed)
        same = self.pairs.same
        images = sum(len(keys) for keys in self._keys())
        fold = self.pairs.fold
        folds = 10 if fold is None else len(np.unique(fold))
        counts = {"pairs": len(self.pairs), "folds": folds, "images": images, "images_embedded": len(embeddings)}
        symptoms = diagnose(embeddings, left, right, same)
        if not np.isfinite(embeddings).all() or not embeddings.any(axis=1).all():
            names = ["accuracy", "accuracy_exact", "eer", "auc"]
            return Outcome({name: Measured(None) for name in names}, counts, symptoms)
        distances = squared_distances(embeddings[left], embeddings[right])
        scores = cosine_scores(embeddings[left], embeddings[right])
        curve = roc(scores, same)
        published = tenfold_accuracy(distances, same, self.pairs.fold)
        exact = tenfold_accuracy_exact(distances, same, self.pairs.fold)
        metrics = {
            "accuracy": _over_folds(published),
            "accuracy_exact": _over_folds(exact),
            **self._validation(distances),
            "eer": Measured(eer(curve)),
            "auc": Measured(auc(curve)),
            **{f"tar@far={rate(far)}": Measured(tar_at_far(curve, far)) for far in self.fars},
            "fmr100": Measured(fnmr_at_fmr(curve, 1e-2)),
            "fmr1000": Measured(fnmr_at_fmr(curve, 1e-3)),
            **_separation(np.asarray(scores), same),
        }
        outcome = Outcome(metrics, counts, symptoms, np.asarray(scores), same, verifies=True)
        people = self._people()
        if UNKNOWN not in people:
            who = np.asarray(people)
            outcome.units = (who[left], who[right])
        outcome.sample, outcome.sample_people = sample_of_people(embeddings, people)
        return outcome

    def _validation(self, distances: NDArray[np.float64]) -> dict[str, Measured]:
        metrics = {}
        for far in self.fars:
            found = val_at_far(distances, self.pairs.same, far, self.pairs.fold)
            for name, found_rate in (("val", found and found.val), ("reached_far", found and found.far)):
                metrics[f"{name}@far={rate(far)}"] = _over_folds(found_rate)
        return metrics

    def sides(self) -> tuple[list[tuple[FaceSet, str]], list[tuple[FaceSet, str]]]:
        """The left and the right image of each pair, as (set, key)."""
        left, right = (
            [(self.probes if probe else self.dataset, key) for key, probe in zip(keys, of_probes, strict=True)]
            for keys, of_probes in ((self.pairs.left, self._left), (self.pairs.right, self._right))
        )
        return left, right

    def _people(self) -> list[str]:
        """The person of each embedded row."""
        sides = zip((self.dataset, self.probes), self._keys(), strict=True)
        return [names[key] for faces, keys in sides if keys for names in [people_of(faces)] for key in sorted(keys)]

    def _embedded(self, embed: Embedder) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
        """Embeddings, and the rows of both images of each pair."""
        first, second = (sorted(keys) for keys in self._keys())
        rows = {key: row for row, key in enumerate(first)}
        probe_rows = rows if self._one_side else {key: len(first) + i for i, key in enumerate(second)}
        sides = zip(self.networks, (self.dataset, self.probes), (first, second), strict=True)
        parts = [embedder_of(network, embed)(faces, keys) for network, faces, keys in sides if keys]
        sizes = sorted({part.shape[1] for part in parts})
        if len(sizes) > 1:
            raise UserError(
                f"the two networks' embeddings have {sizes[0]} and {sizes[1]} components: they cannot be compared.",
                fix="use networks with equal embedding sizes",
            )

        def places(keys: Sequence[str], of_probes: NDArray[np.bool_]) -> NDArray[np.int64]:
            found = [(probe_rows if probe else rows)[key] for key, probe in zip(keys, of_probes, strict=True)]
            return np.array(found, dtype=np.int64)

        embeddings = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return embeddings, places(self.pairs.left, self._left), places(self.pairs.right, self._right)


def _over_folds(rate: FoldRate | None) -> Measured:
    return Measured(None) if rate is None else Measured(rate.mean, rate.std, standard_error=rate.standard_error)


def _separation(scores: NDArray[np.float64], same: NDArray[np.bool_]) -> dict[str, Measured]:
    """Means of both kinds of score, and the Fisher discriminant ratio (population variances)."""
    found = score_statistics(scores, same)
    return {"genuine_mean": Measured(found.g_mean), "impostor_mean": Measured(found.i_mean), "fdr": Measured(found.fdr)}


def lfw_verification(
    dataset: FaceSet,
    pairs: Path,
    fars: tuple[FAR, ...] = (1e-2, 1e-3),
    probes: FaceSet | None = None,
    official_half_split: bool = False,
    recognition: Recognition | None = None,
    probe_recognition: Recognition | None = None,
) -> Verification:
    """Verification over a pair list in LFW's text format.

    View 2 defines ten folds. View 1 has none and lists all same pairs first, so each kind is split into ten blocks, or
    as many as it has pairs.
    """
    listed = _in_folds(read_lfw_pairs(pairs), pairs).among(dataset.keys)
    return Verification(dataset, listed, fars, probes, official_half_split, recognition, probe_recognition)


def mfr2_verification(dataset: FaceSet, pairs: Path, fars: tuple[FAR, ...] = (1e-2, 1e-3)) -> Verification:
    """Verification over the pair list of MFR2, real masks in the wild, with each kind of pair split into ten blocks."""
    return Verification(dataset, _in_folds(read_mfr2_pairs(pairs), pairs).among(dataset.keys), fars)


def _in_folds(listed: PairList, path: Path) -> PairList:
    """Ten folds if the list defines none, fewer if a kind has fewer pairs: consecutive blocks of each kind."""
    if listed.fold is not None:
        return listed
    fold = np.empty(len(listed), dtype=np.int64)
    kinds = [np.flatnonzero(listed.same == kind) for kind in (True, False)]
    fewest = min(map(len, kinds))
    if fewest < 2:
        raise DataError(
            f"{path}: {len(kinds[0])} pairs of one person and {len(kinds[1])} of two cannot be cut into folds.",
            expected="at least two pairs of each kind",
        )
    for rows in kinds:
        fold[rows] = consecutive_folds(len(rows), min(10, fewest))
    return replace(listed, fold=fold)


def bin_verification(
    dataset: FaceSet, fars: tuple[FAR, ...] = (1e-2, 1e-3), probes: FaceSet | None = None
) -> Verification:
    """Verification over an InsightFace `.bin` set, which includes its pairs, original or augmented (masked).

    Raises `UserError` if `dataset` is neither a `kdface.datasets.BinPairs` nor derived from one.
    """
    beneath = dataset
    while isinstance(beneath, Derived):
        beneath = beneath.dataset
    if not isinstance(beneath, BinPairs):
        raise UserError(
            f"{dataset.name} has no pairs.",
            expected="a verification set (kdface.datasets.BinPairs), or one derived from it",
        )
    pairs = PairList(beneath.left, beneath.right, beneath.same, None)
    # Ten blocks of the list as it stands are InsightFace's; fewer than ten pairs cannot make them.
    return Verification(dataset, pairs if len(pairs) >= 10 else _in_folds(pairs, beneath.path), fars, probes)


def random_verification(
    dataset: FaceSet,
    folds: Annotated[int, Ge(2)] = 10,
    pairs_per_fold: Annotated[int, Ge(2)] = 120,
    seed: Annotated[int, Ge(0)] = 0,
    fars: tuple[FAR, ...] = (1e-2, 1e-3),
    probes: FaceSet | None = None,
    recognition: Recognition | None = None,
    probe_recognition: Recognition | None = None,
) -> Verification:
    """Verification over random pairs from any dataset with people: balanced, with disjoint people in the folds."""
    pairs = random_pairs(dataset.labels, dataset.keys, folds, pairs_per_fold, seed)
    return Verification(dataset, pairs, fars, probes, False, recognition, probe_recognition)
