"""Protocol for face-image quality: the effect of dropping the worst images on recognition, and of misalignment."""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Gt, Le
from numpy.typing import NDArray

from kdface.datasets.derived import Rows
from kdface.errors import UserError
from kdface.evaluation.edc import DEFAULT, DiscardPolicy, bootstrap_error_discard, error_discard
from kdface.evaluation.embed import Embedder, Recognition, Stored, Tested, embedder_of, require_sees
from kdface.evaluation.health import diagnose
from kdface.evaluation.people import people_of
from kdface.evaluation.protocol import Measured, Outcome, Verification
from kdface.evaluation.scores import cosine_scores
from kdface.faces import FaceSet
from kdface.teachers import Teacher
from kdface.teachers.quality.mates import require_mates, rows_of_people

Quality = NDArray[np.float64]  # (images,), higher is better
Limit = Annotated[float, Gt(0), Le(1)]


# Qualities by frozen networks, shared by test sets with the same network, for its lifetime.
_Graded = dict[
    tuple[int, tuple[str, ...]], tuple[FaceSet, dict[str, float]]
]  # (set, keys) -> the set and its qualities
_GRADES: weakref.WeakKeyDictionary[Teacher, _Graded] = weakref.WeakKeyDictionary()


@dataclass
class QualityOutcome(Outcome):
    """An outcome with the data for quality figures.

    Attributes:
        keys: (images,) the images in the pairs.
        quality: (images,) of the tested images.
        aligned_quality: (images,) of the same images when aligned; empty if they are not perturbed.
        pair_quality: (pairs,) the minimum quality of the two images, in the order of `scores`.
        discarded, errors: (steps,) the curve: shares of dropped pairs from 0 up, and the FNMR of the remaining ones.
        interval_at, interval_low, interval_high: shares of dropped pairs, and the bounds of the FNMR there.
    """

    keys: Sequence[str] = ()
    quality: Quality = field(default_factory=lambda: np.zeros(0))
    aligned_quality: Quality = field(default_factory=lambda: np.zeros(0))
    pair_quality: Quality = field(default_factory=lambda: np.zeros(0))
    discarded: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    errors: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    interval_at: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    interval_low: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    interval_high: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """As in `Outcome`, plus qualities, the discard curve and its interval."""
        names = (
            *("quality", "aligned_quality", "pair_quality", "discarded", "errors"),
            *("interval_at", "interval_low", "interval_high"),
        )
        return super().arrays() | {name: getattr(self, name) for name in names if len(getattr(self, name))}


class QualityEDC:
    """Error versus discard characteristic over a verification's pairs: does quality predict recognition errors?

    The quality of a pair is the minimum of its two images. Metrics: `pauc@R`, the normalised area under the curve up to
    the discard limit R (1: uninformative, lower is better; None if E(0) is 0), and `fnmr`, E(0), each with a 95 %
    bootstrap interval (see `kdface.evaluation.edc`). All are None with fewer than 1 / fmr impostor pairs.

    With `perturbed` images, their quality is used, and the metrics are prefixed by the recognised images,
    `recomputed_embeddings/...` or `aligned_embeddings/...`. Also computes `spearman_aligned`, the rank correlation of
    the images' quality with that of the aligned ones, and `mad_aligned`, the mean absolute difference of the two, in
    units of the quality.

    Args:
        test: the aligned images and the pairs; any verification.
        perturbed: the same images, misaligned (`kdface.datasets.Seen`).
        recompute_embeddings: recognise the perturbed images too, instead of the aligned ones.
        recognition: the frozen recognition network, or a file of embeddings (`kdface.teachers.from_embeddings`), which
            covers only the aligned images; null: the run's network.
        grader: a teacher whose quality source is evaluated, for comparison; null: the run's network.
        policy: the choices on which published curves differ.
        limits: the discard limits R.
        resamples: of the bootstrap; 0 disables intervals.
        interval: the units to resample. Errors of pairs that share `people` or `images` are correlated, so intervals
            over `pairs`, as if these were independent, are too narrow.
        seed: of the bootstrap.

    Raises:
        UserError: the test has separate probes, perturbed images are missing, or the recognition network does not
            fit the images.
    """

    def __init__(
        self,
        test: Verification,
        perturbed: FaceSet | None = None,
        recompute_embeddings: bool = True,
        recognition: Recognition | None = None,
        grader: Teacher | None = None,
        policy: DiscardPolicy = DEFAULT,
        limits: tuple[Limit, ...] = (0.2, 0.3),
        resamples: Annotated[int, Ge(0)] = 1000,
        seed: Annotated[int, Ge(0)] = 0,
        interval: Literal["people", "images", "pairs"] = "people",
    ) -> None:
        if test.probes is not test.dataset:
            raise UserError("a quality test takes both images of a pair from one set, but this one has probes.")
        if test.networks != (None, None):
            raise UserError("set the recognition network on the quality test.", fix="recognition: ...")
        self.aligned = test.dataset
        self.pairs = test.pairs
        self.left_out: list[str] = []
        self.dataset = self.aligned if perturbed is None else perturbed
        self.datasets: tuple[FaceSet, ...] = (self.aligned,) if perturbed is None else (self.aligned, perturbed)
        self.recognised = self.dataset if recompute_embeddings else self.aligned
        self.recognition = recognition
        self.grader = grader
        self.policy = policy
        self.limits = tuple(limits)
        self.resamples = resamples
        self.seed = seed
        self.interval = interval
        if grader is not None:
            if grader.quality is None:
                raise UserError("the grader has no quality source.", fix="a node as in conf/teacher/quality")
            if getattr(grader.quality, "needs_mates", False):
                require_mates(rows_of_people(self.aligned), self.aligned, type(grader.quality).__name__, others=False)
        missing = sorted(set(self.pairs.keys()) - set(self.dataset.keys))
        if missing:
            raise UserError(f"{len(missing)} images of the pairs are not in {self.dataset.name}, first {missing[0]}.")
        if recognition is not None:
            if isinstance(recognition, Stored) and self.recognised is not self.aligned:
                raise UserError(
                    f"{self.recognised.name} cannot be recognised by embeddings of a file, which are of the aligned "
                    "images.",
                    fix="recompute_embeddings: false, or a network as recognition",
                )
            require_sees(recognition, self.recognised, self.pairs.keys())

    @property
    def keys_read(self) -> tuple[list[str], ...]:
        """The keys in the pairs, for each dataset; all keys of a set whose images are graded by their mates."""
        graded = (self.aligned, self.dataset) if self._needs_mates else ()
        left_out = set(self.left_out)
        return tuple(
            [key for key in faces.keys if key not in left_out]
            if any(faces is one for one in graded)
            else self.pairs.keys()
            for faces in self.datasets
        )

    @property
    def _needs_mates(self) -> bool:
        return bool(self.grader is not None and getattr(self.grader.quality, "needs_mates", False))

    def require(self, network: Tested, where: str) -> None:
        """Raises `UserError` if neither the network nor a grader gives quality."""
        if self.grader is None and not network.grades:
            raise UserError(
                f"{where} tests face-image quality, but the run's network gives none.",
                fix=f"method=aikd teacher.run=FOLDER, head=magface, head=crfiqa, or a source: {where}.grader=...",
            )

    def leave_out(self, broken: Sequence[set[str]]) -> None:
        """Drop the pairs of images that are broken in any of `datasets`."""
        bad = set().union(*broken)
        keep = [not {left, right} & bad for left, right in zip(self.pairs.left, self.pairs.right, strict=True)]
        self.pairs = self.pairs.where(np.array(keep))
        self.left_out = sorted({*self.left_out, *bad})

    def evaluate(self, embed: Embedder) -> QualityOutcome:
        """Embed, predict quality, compute metrics. Unavailable metrics are None, with reasons in `symptoms`.

        Raises `UserError` if the network predicts no quality.
        """
        keys = self.pairs.keys()
        left, right = self.pairs.rows(keys)
        same = self.pairs.same
        if self.grader is None:
            embed.embed_and_grade(self.recognised, keys, self.recognition)
        quality = self._grade(embed, self.dataset, keys)
        embeddings = embedder_of(self.recognition, embed)(self.recognised, keys)
        symptoms = diagnose(embeddings, left, right, same) + _diagnose_quality(quality)
        outcome = QualityOutcome(
            metrics={},
            counts={"pairs": len(self.pairs), "images": len(keys), "images_embedded": len(embeddings)},
            symptoms=symptoms,
            choices=self._choices(),
            keys=keys,
            quality=quality,
        )
        if self._is_perturbed:
            outcome.aligned_quality = self._grade(embed, self.aligned, keys)
            outcome.metrics |= _consistency(outcome.aligned_quality, quality)
        usable = np.isfinite(quality).all() and np.isfinite(embeddings).all() and embeddings.any(axis=1).all()
        if not usable:
            return self._without_curve(outcome)
        outcome.scores, outcome.same = cosine_scores(embeddings[left], embeddings[right]), same
        outcome.pair_quality = np.minimum(quality[left], quality[right])
        if not self.policy.resolved_by(int((~same).sum())):
            return self._without_curve(outcome)
        outcome.metrics = {**self._measure(outcome), **outcome.metrics}
        return outcome

    @property
    def _is_perturbed(self) -> bool:
        return self.dataset is not self.aligned

    @property
    def _prefix(self) -> str:
        if not self._is_perturbed:
            return ""
        return f"{'recomputed' if self.recognised is self.dataset else 'aligned'}_embeddings/"

    def _grade(self, embed: Embedder, faces: FaceSet, keys: Sequence[str]) -> Quality:
        """The quality of each image, by the run's network or the grader's source."""
        if self.grader is None:
            return embed.quality(faces, keys)
        source = self.grader.quality
        assert source is not None
        wanted = set(faces.keys) - set(self.left_out) if self._needs_mates else set(keys)
        rows = [row for row, key in enumerate(faces.keys) if key in wanted]
        asked = tuple(faces.keys[row] for row in rows)
        grades = _GRADES.setdefault(self.grader, {})
        if (id(faces), asked) not in grades:
            shown = faces if len(rows) == len(faces) else Rows(faces, np.array(rows, dtype=np.int64))
            scores = source(self.grader.to(embed.device), shown)
            grades[id(faces), asked] = (faces, dict(zip(asked, scores.tolist(), strict=True)))
        known = grades[id(faces), asked][1]
        return np.array([known[key] for key in keys])

    def _measure(self, outcome: QualityOutcome) -> dict[str, Measured]:
        given = (outcome.scores, outcome.same, outcome.pair_quality, self.policy)
        curve = error_discard(*given)
        outcome.discarded, outcome.errors = curve.fractions, curve.errors
        values = {f"pauc@{limit:g}": curve.pauc(limit) for limit in self.limits} | {"fnmr": float(curve.errors[0])}
        bounds: dict[str, tuple[float, float]] = {}
        if self.resamples:
            spread = bootstrap_error_discard(*given, self.limits, self.resamples, seed=self.seed, units=self._units())
            outcome.interval_at, outcome.interval_low, outcome.interval_high = spread.fractions, spread.low, spread.high
            bounds = {f"pauc@{limit:g}": bounds for limit, bounds in spread.pauc.items()}
            bounds["fnmr"] = (float(spread.low[0]), float(spread.high[0]))
            outcome.choices["resamples_without_pauc"] = spread.undefined
        metrics: dict[str, Measured] = {}
        for name, value in values.items():
            low, high = bounds.get(name, (np.nan, np.nan))
            metrics[f"{self._prefix}{name}"] = Measured(_known(value), None, _known(low), _known(high))
        return metrics

    def _units(self) -> tuple[NDArray[Any], NDArray[Any]] | None:
        """The units to resample, for both sides of each pair."""
        if self.interval == "pairs":
            return None
        keys = self.pairs.keys()
        names = people_of(self.aligned) if self.interval == "people" else dict(zip(keys, keys, strict=True))
        left, right = (np.array([names[key] for key in side]) for side in (self.pairs.left, self.pairs.right))
        return left, right

    def _without_curve(self, outcome: QualityOutcome) -> QualityOutcome:
        names = [*(f"pauc@{limit:g}" for limit in self.limits), "fnmr"]
        outcome.metrics = {**{f"{self._prefix}{name}": Measured(None) for name in names}, **outcome.metrics}
        return outcome

    def _choices(self) -> dict[str, Any]:
        return {
            **dataclasses.asdict(self.policy),
            "pair_quality": "smaller of the two",
            "limits": list(self.limits),
            "pauc": "exact integral over every number of dropped pairs, over limit x E(0)",
            "interval": f"95 % percentile bootstrap over {self.interval}",
            "resamples": self.resamples,
            "seed": self.seed,
            "quality_of": self.dataset.name,
            "embeddings_of": self.recognised.name,
            "grader": "the run's own network" if self.grader is None else type(self.grader.quality).__name__,
            "recognition": "the run's own network" if self.recognition is None else _name(self.recognition),
        }


def spearman(one: Quality, other: Quality) -> float | None:
    """Spearman's rank correlation of two qualities (images,); ties share their mean rank.

    None if one of them is constant.
    """
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return None
    from scipy.stats import spearmanr  # imported lazily: takes a second

    return float(spearmanr(one, other).statistic)


def _consistency(aligned: Quality, perturbed: Quality) -> dict[str, Measured]:
    known = bool(np.isfinite(aligned).all() and np.isfinite(perturbed).all())
    return {
        "spearman_aligned": Measured(spearman(aligned, perturbed) if known else None),
        "mad_aligned": Measured(float(np.abs(aligned - perturbed).mean()) if known else None),
    }


def _diagnose_quality(quality: Quality) -> list[str]:
    finite = np.isfinite(quality)
    if not finite.all():
        return [f"The quality of {int((~finite).sum())} of {len(quality)} images is not finite."]
    if np.ptp(quality) == 0:
        return [f"All {len(quality)} images have the quality {quality[0]:g}. Usual cause: labels that are all equal."]
    return []


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value


def _name(recognition: Recognition) -> str:
    what = "embeddings" if isinstance(recognition, Stored) else "weights"
    return f"{what} {getattr(recognition, 'fingerprint', type(recognition).__name__)}"
