"""Metric names: `TEST/METRIC`, such as `lfw/accuracy` or `lfw/tar@far=1e-3`, and those of earlier runs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# Earlier names put the protocol in between: lfw/10fold/accuracy, lfw/roc/tar@far=0.001.
_PROTOCOLS = ("10fold", "roc", "scores", "quality", "ckd", "1to1", "1toN", "cluster", "calibration")
_RATE = re.compile(r"(?<==)[0-9.]+(?:e[+-]?[0-9]+)?$")


def rate(value: float) -> str:
    """A rate as formatted in names: 0.001 -> 1e-3, 0.025 -> 2.5e-2."""
    mantissa, _, exponent = f"{value:.12e}".partition("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def current(metric: str) -> str:
    """The current name of a metric, however its rate is formatted: `lfw/roc/tar@far=0.001` -> `lfw/tar@far=1e-3`."""
    test, *rest = metric.split("/")
    if len(rest) > 1 and rest[0] in _PROTOCOLS:
        del rest[0]
    return _RATE.sub(lambda found: rate(float(found[0])), "/".join([test, *rest]))


def with_current_names(found: Mapping[str, Any]) -> dict[str, Any]:
    """A results file, or an evaluation record, with current metric names."""
    renamed = {
        key: {current(name): value for name, value in found[key].items()}
        for key in ("metrics", "untrained")
        if isinstance(found.get(key), Mapping)
    }
    return {**found, **renamed}
