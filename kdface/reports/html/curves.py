"""A test's curves on the report's grids, and their bands over seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdface.evaluation.curves import roc

Curve = NDArray[np.float64]

FAR_GRID = np.geomspace(1e-6, 1.0, 97)  # sixteen points a decade
DISCARD_GRID = np.linspace(0.0, 0.3, 121)  # up to the largest discard limit that papers give a pAUC for
probit = np.vectorize(NormalDist().inv_cdf, otypes=[np.float64])


def curves_of(arrays: Mapping[str, NDArray[Any]]) -> dict[str, Curve]:
    """What the arrays of a test (`Outcome.arrays`) hold of `roc`, `cmc` and `edc`.

    `roc` is the TAR at the lowest threshold whose FAR does not exceed each point of `FAR_GRID`, NaN where the impostor
    pairs cannot show the rate, and left out of tests of face-image quality; `cmc` the identification rate at rank 1, 2,
    ...; `edc` the FNMR on `DISCARD_GRID`.
    """
    found: dict[str, Curve] = {}
    if "scores" in arrays and "same" in arrays and "quality" not in arrays:
        curve = roc(arrays["scores"], arrays["same"])
        reach = FAR_GRID * (1 + 1e-12)  # a rate that is reached counts, whatever the rounding
        tar = curve.tar[np.searchsorted(curve.far, reach, side="right") - 1]
        tar[reach < 1 / curve.n_impostor] = np.nan
        found["roc"] = tar
    if "cmc" in arrays:
        found["cmc"] = np.asarray(arrays["cmc"], dtype=np.float64)
    if "discarded" in arrays and "errors" in arrays:
        steps = np.searchsorted(arrays["discarded"], DISCARD_GRID * (1 + 1e-12), side="right") - 1
        found["edc"] = np.asarray(arrays["errors"][steps], dtype=np.float64)
    return found


def roc_band(seeds: Sequence[Curve]) -> dict[str, Any]:
    """TAR and the normal deviates of FNMR over the grid; rates of 0 and 1 have no place on a DET and are left out."""
    rows = np.array(seeds)
    first = int(np.argmax(~np.isnan(rows).any(axis=0)))
    rows = rows[:, first:]
    found: dict[str, Any] = {"first": first, "n": len(rows)}
    for name, values in (("tar", rows.mean(0)), ("low", rows.min(0)), ("high", rows.max(0))):
        found[name] = short(values)
        inside = (values > 0) & (values < 1)
        deviates = np.full(len(values), np.nan)
        deviates[inside] = probit(1 - values[inside])
        found[f"fnmr_{name}"] = short(deviates)
    return found


def plain_band(seeds: Sequence[Curve]) -> dict[str, Any]:
    """Mean, lowest and highest seed; as far as the shortest of them goes."""
    size = min(len(each) for each in seeds)
    rows = np.array([each[:size] for each in seeds])
    found: dict[str, Any] = {"y": short(rows.mean(0))}
    if len(rows) > 1:
        found |= {"low": short(rows.min(0)), "high": short(rows.max(0))}
    return found


def short(values: NDArray[np.floating[Any]]) -> list[float | None]:
    """Five significant digits are more than a chart shows; JSON has no NaN."""
    return [float(f"{value:.5g}") if math.isfinite(value) else None for value in values.tolist()]
