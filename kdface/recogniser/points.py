"""Thresholds at which a network was tested, and the choice of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kdface.errors import UserError
from kdface.metric_names import rate


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold on the cosine, from results.json (`kdface.evaluation.operating`).

    Attributes:
        far: the false-accept rate that was asked for.
        threshold: the lowest score that keeps to it.
        low, high: 95 % interval of the threshold over people; null: not bounded.
        tar: share of genuine pairs that it accepts.
    """

    far: float
    threshold: float
    low: float | None = None
    high: float | None = None
    tar: float | None = None


Points = Mapping[str, Sequence[OperatingPoint]]  # by the name of the test set


def choose(points: Points, far: float | None, test: str | None) -> OperatingPoint:
    """The operating point at a FAR.

    Raises `UserError` if none is asked for, there is none at that FAR, or several test sets have one.
    """
    known = [(name, point) for name, found in points.items() for point in found if test in (None, name)]
    rates = sorted({point.far for _, point in known}, reverse=True)
    listed = ", ".join(f"far={rate(value)}" for value in rates)
    if not known:
        where = f"the test set {test!r}" if test else "this network"
        raise UserError(
            f"{where} has no thresholds at a false-accept rate.",
            expected=f"one of {', '.join(points)}" if test and points else "threshold=COSINE, of your own choice",
            fix="kdface evaluate run=RUN evaluation=CHOICE finds them, on a list of pairs",
        )
    if far is None:
        raise UserError(
            "whether two faces are one person needs a threshold.", expected=f"{listed}, or threshold=COSINE"
        )
    found = [(name, point) for name, point in known if point.far == far]
    if not found:
        raise UserError(
            f"there is no threshold at far={rate(far)}: the impostor pairs of the test are too few for it.",
            expected=f"{listed}, or threshold=COSINE",
        )
    if len(found) > 1:
        names = [name for name, _ in found]
        raise UserError(
            f"{len(found)} test sets give a threshold at far={rate(far)}: {', '.join(names)}.",
            expected=" or ".join(f"test={name}" for name in names),
        )
    return found[0][1]
