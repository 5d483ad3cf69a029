"""Calibration: are predictions with probability p correct in a share p of cases?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import numpy as np
from annotated_types import Ge
from numpy.typing import NDArray

from kdface.errors import UserError
from kdface.evaluation.embed import Embedder, Tested
from kdface.evaluation.protocol import Measured, Outcome
from kdface.evaluation.scores import Values, as_array
from kdface.faces import FaceSet

Probabilities = NDArray[np.floating[Any]]  # (samples, classes), rows sum to 1
Labels = NDArray[np.integer[Any]]  # (samples,)


class Reliability(NamedTuple):
    """A reliability diagram; bin m (from 0) holds the samples with confidence in (m / bins, (m + 1) / bins].

    Attributes:
        samples: (bins,) number of samples per bin.
        confidence: (bins,) mean probability of the predicted class; NaN in empty bins.
        accuracy: (bins,) share of correct predictions; NaN in empty bins.
    """

    samples: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]


class Bins(NamedTuple):
    """Sums over the samples of each bin, (bins,) each; additive over sets of samples.

    Attributes:
        samples: number of samples.
        confidence: sum of the probabilities of the predicted class.
        right: number of correct predictions.
    """

    samples: NDArray[np.int64]
    confidence: NDArray[np.float64]
    right: NDArray[np.int64]

    def gaps(self) -> NDArray[np.float64]:
        """(bins,) |accuracy - confidence|; NaN in empty bins."""
        with np.errstate(invalid="ignore"):
            return np.asarray(np.abs(self.right / self.samples - self.confidence / self.samples))

    def expected_error(self) -> float:
        """ECE, see `expected_calibration_error`."""
        return float(np.nansum(self.samples * self.gaps()) / self.samples.sum())

    def maximum_error(self) -> float:
        """MCE, see `maximum_calibration_error`."""
        return float(np.nanmax(self.gaps()))


def binned(probabilities: Probabilities | Values, labels: Labels | Values, bins: int = 15) -> Bins:
    """The sums underlying `reliability`; arguments and errors as there."""
    values, wanted = as_array(probabilities).astype(np.float64), as_array(labels)
    if values.ndim != 2 or wanted.shape != (len(values),) or not len(wanted):
        raise ValueError(f"expected (samples, classes) and (samples,), got {values.shape} and {wanted.shape}")
    if bins < 1 or wanted.min() < 0 or wanted.max() >= values.shape[1]:
        raise ValueError(f"{bins} bins, labels {wanted.min()}..{wanted.max()} of {values.shape[1]} classes")
    sums = values.sum(axis=1)
    bad = ~((values >= 0).all(axis=1) & (np.abs(sums - 1) < 1e-3))
    if bad.any():
        raise UserError(
            f"{int(bad.sum())} of {len(values)} rows are not probabilities; row {int(bad.argmax())} sums to "
            f"{sums[bad.argmax()]:.4g}.",
            expected="non-negative numbers that sum to 1",
            fix="pass the softmax of the logits",
        )
    confidence = values.max(axis=1)
    right = values.argmax(axis=1) == wanted
    place = np.searchsorted(np.arange(1, bins) / bins, confidence, side="left")
    count = np.bincount(place, minlength=bins)
    return Bins(
        count, np.bincount(place, confidence, bins).astype(np.float64), np.bincount(place[right], minlength=bins)
    )


def reliability(probabilities: Probabilities | Values, labels: Labels | Values, bins: int = 15) -> Reliability:
    """Bin samples by confidence, their largest probability, into bins of equal width (Guo et al., ICML 2017).

    Ties are predicted as the first class.

    Args:
        probabilities: (samples, classes), e.g. a softmax; logits are rejected.
        labels: (samples,) the true class.
        bins: number of bins.

    Raises:
        UserError: rows are not probabilities.
        ValueError: wrong shapes or labels, no samples, or fewer than one bin.
    """
    found = binned(probabilities, labels, bins)
    with np.errstate(invalid="ignore"):
        return Reliability(found.samples, found.confidence / found.samples, found.right / found.samples)


def expected_calibration_error(probabilities: Probabilities | Values, labels: Labels | Values, bins: int = 15) -> float:
    """ECE = sum over bins of (samples in the bin / samples) |accuracy - confidence|; see `reliability`. A fraction."""
    return binned(probabilities, labels, bins).expected_error()


def maximum_calibration_error(probabilities: Probabilities | Values, labels: Labels | Values, bins: int = 15) -> float:
    """MCE = the largest |accuracy - confidence| over non-empty bins; see `reliability`. A fraction.

    Noisy with few samples, since a bin with one sample counts as much as any other.
    """
    return binned(probabilities, labels, bins).maximum_error()


class Calibration:
    """Calibration of a network's classifier on images of its training people.

    Use images it was not trained on, such as `val` in CKD's official folders; training images are biased.

    Metrics: `ece` and `mce`, the errors above; `accuracy`, the share of images whose most probable person is correct.
    The probabilities are the softmax of the head's logits without margin (`kdface.heads.Classifier`), without mirror
    images; with averaged weights (ema.decay) the backbone is averaged and the head is the last step's. People are
    matched to classes by name, regardless of their labels in the dataset, which may contain a subset of the classes.

    Args:
        dataset: the images.
        bins: number of equal-width bins over the largest probability.
    """

    def __init__(self, dataset: FaceSet, bins: Annotated[int, Ge(1)] = 15) -> None:
        self.dataset = dataset
        self.datasets: tuple[FaceSet, ...] = (dataset,)
        self.bins = bins

    def require(self, network: Tested, where: str) -> None:
        """Raises `UserError` if the network has no classifier, or the images show people who are not its classes."""
        if not network.classifies:
            raise UserError(
                f"{where} tests class probabilities, but the run's head is not a softmax over all classes.",
                fix="head=softmax, or a margin softmax (kdface list head)",
            )
        try:
            self.labels(network.people)
        except UserError as error:
            raise UserError(f"{where}: {error.problem}", expected=error.expected, fix=error.fix) from None

    def labels(self, classes: Sequence[str]) -> NDArray[np.int64]:
        """(images,) the class of each image's person. Raises `UserError` if classes are unnamed or lack a person."""
        if not classes:
            raise UserError(
                "the run's checkpoint has no class names.",
                fix="train it again",
            )
        number = {name: place for place, name in enumerate(classes)}
        strangers = [name for name in self.dataset.people if name not in number]
        if strangers:
            raise UserError(
                f"{len(strangers)} of {len(self.dataset.people)} people of {self.dataset.name} are not among the "
                f"{len(classes)} classes of the network: "
                f"{', '.join(strangers[:3])}{', ...' if len(strangers) > 3 else ''}.",
                expected="other images of the training people",
            )
        return np.array([number[name] for name in self.dataset.people])[np.asarray(self.dataset.labels)]

    def evaluate(self, embed: Embedder) -> Outcome:
        """Classify all images and compute the metrics."""
        labels = self.labels(embed.people)
        probabilities = embed.posterior(self.dataset, list(self.dataset.keys))
        counts = {"images": len(labels), "images_embedded": len(probabilities), "people": len(self.dataset.people)}
        names = ("ece", "mce", "accuracy")
        broken = int((~np.isfinite(probabilities).all(axis=1)).sum())
        if broken:
            symptom = f"{broken} of {len(labels)} images have probabilities that are NaN. Usual cause: NaN embeddings."
            return Outcome({name: Measured(None) for name in names}, counts, [symptom])
        values = (
            expected_calibration_error(probabilities, labels, self.bins),
            maximum_calibration_error(probabilities, labels, self.bins),
            float((probabilities.argmax(axis=1) == labels).mean()),
        )
        return Outcome({name: Measured(value) for name, value in zip(names, values, strict=True)}, counts)
