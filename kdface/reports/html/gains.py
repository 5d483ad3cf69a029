"""Pairs of configurations that differ only in how the network is taught."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any

_SAME = ("dataset.", "backbone.")  # differences in these would confound the gain
_TEACHING = ("teacher", "method.")
# Weights of the second network's influence; if a method has any, all at 0 is the control without teaching.
_WEIGHTS = (
    "method.guidance",
    "method.raised_guidance",
    "method.kl_face_to_periocular",
    "method.kl_periocular_to_face",
    "method.representation_weight",
)


def is_taught(flat: Mapping[str, Any]) -> bool:
    """Whether another network influences training in a flat configuration."""
    weights = [flat[key] for key in _WEIGHTS if key in flat]
    return any(weights) if weights else any(key.startswith("teacher.") for key in flat)


def twins(flats: Sequence[Mapping[str, Any]], measured: Sequence[Set[Any]]) -> list[dict[str, Any]]:
    """Pair each taught configuration with the most similar untaught one on the same data and backbone.

    Args:
        flats: the flat configurations.
        measured: the available (seed, metric) pairs of each; configurations without common ones are not compared.

    Returns:
        `with` and `without`, indices into `flats`, and `also`, other differing keys besides teacher and method, which
        may also explain a gain.
    """
    found = []
    for place, flat in enumerate(flats):
        if not is_taught(flat):
            continue
        candidates = []
        for other, other_flat in enumerate(flats):
            keys = [key for key in {**flat, **other_flat} if flat.get(key, ...) != other_flat.get(key, ...)]
            if measured[place].isdisjoint(measured[other]) or is_taught(other_flat):
                continue
            if not any(key.startswith(_SAME) for key in keys):
                also = sorted(key for key in keys if not key.startswith(_TEACHING))
                candidates.append((len(also), len(keys), other, also))
        if candidates:
            _, _, other, also = min(candidates)
            found.append({"with": place, "without": other, "also": also})
    return found
