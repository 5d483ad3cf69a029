"""Whether lower or higher values of a metric are better, by the last part of its key, test set/metric."""

from __future__ import annotations

# Metrics by the last part of the key, without the part after @. All others are accuracies, hit rates and correlations.
_LOWER = frozenset(
    (
        *("eer", "eer_official", "fmr100", "fmr1000", "fnmr", "reached_far", "impostor_mean"),  # of comparisons
        *("ece", "mce"),  # of calibration
        "davies_bouldin",  # of clusters
        *("pauc", "mad_aligned"),  # of quality
    )
)


def plain(metric: str) -> str:
    """A key without its threshold or rank: `lfw/tar@far=1e-2` -> `lfw/tar`."""
    test, slash, last = metric.rpartition("/")
    return test + slash + last.partition("@")[0]


def lower_wins(metric: str) -> bool:
    """Whether lower values of a metric are better."""
    return plain(metric).rpartition("/")[2] in _LOWER
