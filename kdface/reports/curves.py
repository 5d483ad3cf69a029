"""Curves of a test on common grids, and bands over runs, also as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kdface.evaluation.curves import roc

Curve = NDArray[np.float64]

FAR_GRID = np.geomspace(1e-6, 1.0, 97)  # sixteen points per decade
DISCARD_GRID = np.linspace(0.0, 0.3, 121)  # up to the largest discard limit of a published pAUC

probit = np.vectorize(NormalDist().inv_cdf, otypes=[np.float64])  # the axes of a DET


class Band(NamedTuple):
    """Statistics over runs at each grid point."""

    mean: Curve
    low: Curve
    high: Curve


def curves_of(arrays: Mapping[str, NDArray[Any]]) -> dict[str, Curve]:
    """The available curves (`roc`, `cmc`, `edc`) of a test's arrays (`Outcome.arrays`).

    `roc` is the TAR at the lowest threshold whose FAR does not exceed each point of `FAR_GRID`, NaN where the impostor
    pairs cannot resolve the rate, and omitted for tests of face-image quality; `cmc` is the identification rate at rank
    1, 2, ...; `edc` is the FNMR on `DISCARD_GRID`.
    """
    found: dict[str, Curve] = {}
    if "scores" in arrays and "same" in arrays and "quality" not in arrays:
        curve = roc(arrays["scores"], arrays["same"])
        reach = FAR_GRID * (1 + 1e-12)  # tolerate rounding of rates that are reached
        tar = curve.tar[np.searchsorted(curve.far, reach, side="right") - 1]
        tar[reach < 1 / curve.n_impostor] = np.nan
        found["roc"] = tar
    if "cmc" in arrays:
        found["cmc"] = np.asarray(arrays["cmc"], dtype=np.float64)
    if "discarded" in arrays and "errors" in arrays:
        steps = np.searchsorted(arrays["discarded"], DISCARD_GRID * (1 + 1e-12), side="right") - 1
        found["edc"] = np.asarray(arrays["errors"][steps], dtype=np.float64)
    return found


def band(runs: Sequence[Curve]) -> Band:
    """Mean, lowest and highest run up to the length of the shortest; NaN where any run is NaN."""
    size = min(map(len, runs))
    rows = np.array([run[:size] for run in runs])
    return Band(rows.mean(axis=0), rows.min(axis=0), rows.max(axis=0))


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
