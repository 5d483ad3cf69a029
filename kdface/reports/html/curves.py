"""Bands of a test's curves over seeds, for the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdface.reports.curves import Curve, band, probit


def roc_band(seeds: Sequence[Curve]) -> dict[str, Any]:
    """TAR and the normal deviates of FNMR over the grid, without rates of 0 and 1, which a DET plot cannot show."""
    bounds = band(seeds)
    first = int(np.argmax(~np.isnan(bounds.mean)))
    found: dict[str, Any] = {"first": first, "n": len(seeds)}
    for name, values in zip(("tar", "low", "high"), (bound[first:] for bound in bounds), strict=True):
        found[name] = short(values)
        inside = (values > 0) & (values < 1)
        deviates = np.full(len(values), np.nan)
        deviates[inside] = probit(1 - values[inside])
        found[f"fnmr_{name}"] = short(deviates)
    return found


def plain_band(seeds: Sequence[Curve]) -> dict[str, Any]:
    """Mean, lowest and highest seed, up to the length of the shortest."""
    bounds = band(seeds)
    found: dict[str, Any] = {"y": short(bounds.mean)}
    if len(seeds) > 1:
        found |= {"low": short(bounds.low), "high": short(bounds.high)}
    return found


def short(values: NDArray[np.floating[Any]]) -> list[float | None]:
    """Round to five significant digits, enough for a chart; NaN becomes None, since JSON lacks it."""
    return [float(f"{value:.5g}") if math.isfinite(value) else None for value in values.tolist()]
