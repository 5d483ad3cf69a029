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
    found: dict[str, Any] = {"first": first}
    for name, values in zip(("tar", "low", "high") if len(seeds) > 1 else ("tar",), bounds, strict=False):
        inside = (values > 0) & (values < 1)
        found[name] = short(values[first:])
        found[f"fnmr_{name}"] = short(np.where(inside, probit(1 - np.where(inside, values, 0.5)), np.nan)[first:])
    return found


def plain_band(seeds: Sequence[Curve]) -> dict[str, Any]:
    """Mean, and for several seeds lowest and highest, up to the length of the shortest."""
    names = ("y", "low", "high") if len(seeds) > 1 else ("y",)
    return {name: short(bound) for name, bound in zip(names, band(seeds), strict=False)}


def short(values: NDArray[np.floating[Any]]) -> list[float | None]:
    """Round to five significant digits, enough for a chart; NaN becomes None, since JSON lacks it."""
    return [float(f"{value:.5g}") if math.isfinite(value) else None for value in values.tolist()]
