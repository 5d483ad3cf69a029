"""Which values of a metric win. A metric's key is test set/metric; what counts is its last part alone."""

from __future__ import annotations

# By the last part of the key, without what follows its @. All others are accuracies, hit rates and correlations.
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
    """Whether the lower of two values of a metric is the better one."""
    return plain(metric).rpartition("/")[2] in _LOWER
