"""Check test images before training, so that a broken one wastes no training time."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Literal

from kdface.datasets.checks import Broken, broken
from kdface.datasets.contract import require_image
from kdface.errors import DataError
from kdface.evaluation import EvaluationProtocol
from kdface.evaluation.protocol import images_read

log = logging.getLogger("kdface")


def check_test_sets(
    protocols: Mapping[str, EvaluationProtocol], on_error: Literal["raise", "skip"], full: bool = False
) -> None:
    """Check every image read by the protocols.

    Args:
        protocols: configuration key, such as evaluation.lfw -> protocol.
        on_error: raise, or skip: leave broken images out of the protocols that support it.
        full: decode the images instead of reading only headers. `skip` always decodes, since it must know what is
            left out.

    Raises:
        DataError: an image is broken and must not, or cannot, be left out.
        UserError: the first image of a set breaks the contract of datasets.
    """
    looked: dict[tuple[int, str], Broken | None] = {}
    for name, protocol in protocols.items():
        sets = images_read(protocol)
        bad: list[set[str]] = []
        for faces, keys in sets:
            require_image(faces, name)
            new = [key for key in keys if (id(faces), key) not in looked]
            found = {image.key: image for image in broken(faces, new, full or on_error == "skip")}
            looked |= {(id(faces), key): found.get(key) for key in new}
            bad.append({key for key in keys if looked[id(faces), key] is not None})
        if not any(bad):
            continue
        first = next(
            image
            for (faces, _), keys in zip(sets, bad, strict=True)
            for key in keys
            if (image := looked[id(faces), key])
        )
        about = f"{name}: {sum(map(len, bad))} of {sum(len(keys) for _, keys in sets)} images are broken"
        if on_error == "raise":
            raise DataError(
                f"{about}, the first one: {first.reason}", fix="repair them, or leave them out: dataset.on_error=skip"
            )
        leave_out = getattr(protocol, "leave_out", None)
        if leave_out is None:
            raise DataError(
                f"{about}, and {type(protocol).__name__} needs all of them. The first one: {first.reason}",
                fix=f"repair them, or leave the test out: ~{name}",
            )
        leave_out(bad)
        log.warning("%s and left out, the first one: %s", about, first.reason)
