"""VAL and FAR at a distance, as FaceNet defines them (Schroff et al., CVPR 2015, section 4)."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kdface.evaluation.scores import Same, checked


class Validation(NamedTuple):
    """Shares of pairs accepted.

    Attributes:
        val: validation rate, of the pairs of one person.
        far: false accept rate, of the pairs of two.
    """

    val: float
    far: float


def val_far(distances: NDArray[np.floating[Any]], same: Same, threshold: float) -> Validation:
    """VAL(d) = |{same: D <= d}| / |same| and FAR(d) = |{different: D <= d}| / |different|.

    A pair at the very threshold is accepted, which other code rejects. VAL at a given FAR is
    `tar_at_far(roc(-distances, same), far)`, for the curve accepts the same way.

    Args:
        distances: (pairs,) squared distances, see `squared_distances`.
        same: (pairs,).
        threshold: d.

    Raises:
        UserError: a distance is not finite, or genuine or impostor pairs are missing.
    """
    accepted = checked(distances, same) <= threshold
    return Validation(float(accepted[same].mean()), float(accepted[~same].mean()))
