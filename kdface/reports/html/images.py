"""Faces in the report: training images, and the hardest pairs.

Images of a dataset are shown if its terms start with "none", as for generated faces; those of other datasets only on
request, since reports are shared.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from kdface.assembly.build import build
from kdface.config.locate import locate
from kdface.datasets.images import decode, read_bytes
from kdface.errors import DataError, UserError
from kdface.evaluation import Verification, bin_verification, lfw_verification, random_verification
from kdface.faces import FaceSet, Image
from kdface.reports.html.runs import Run
from kdface.stored import read_arrays

_SIDE = 72  # pixels of a thumbnail's longer side
_WIDE = 960  # of a contact sheet's
_HARDEST = 6  # pairs of each kind
_SHEETS = 12
_PAIRS = (lfw_verification, bin_verification, random_verification)


def free(card: Any) -> bool:
    """Whether images may be shown without a request."""
    return isinstance(card, Mapping) and str(card.get("terms", "")).strip().lower().startswith("none")


def thumbnail(image: Image, longest: int = _SIDE) -> str:
    """A small WebP image, whose longer side has at most this many pixels, as a data URL."""
    scale = min(1.0, longest / max(image.shape[:2]))
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if scale < 1 else image
    _, data = cv2.imencode(".webp", np.ascontiguousarray(small[..., ::-1]), [cv2.IMWRITE_WEBP_QUALITY, 70])
    return "data:image/webp;base64," + base64.b64encode(data.tobytes()).decode("ascii")


def contact_sheets(members: Sequence[Sequence[Run]], asked: bool) -> list[dict[str, Any]]:
    """For each dataset and augmentation of the runs, the `picture` of its images and views that a run has drawn.

    `note` states why there is none.
    """
    alike: dict[str, list[int]] = {}
    for number, (run, *_) in enumerate(members):
        if run.config.get("augmentation"):
            key = json.dumps([run.config.get("dataset"), run.config["augmentation"]], sort_keys=True)
            alike.setdefault(key, []).append(number)
    sheets = []
    for groups in list(alike.values())[:_SHEETS]:
        runs = [run for number in groups for run in members[number]]
        drawn: list[tuple[Run, Path | None]] = [
            (run, file) for run in runs if run.root and (file := run.root / "figures" / "views.png").is_file()
        ]
        run, views = (drawn or [(runs[0], None)])[0]
        card = run.data.get("train") or {}
        sheets.append(
            {
                "dataset": str(card.get("name") or run.config["dataset"].get("_target_")),
                "augmentation": str(run.config["augmentation"].get("_target_")).rpartition(".")[2],
                "groups": groups,
                **(_sheet(views) if asked or free(card) else {"note": _kept_back(card)}),
            }
        )
    return sheets


def _sheet(file: Path | None) -> dict[str, str]:
    if file is None:
        return {"note": "not shown: no run has drawn them yet"}
    try:
        return {"picture": thumbnail(decode(read_bytes(file), str(file)), _WIDE)}
    except DataError as error:
        return {"note": f"not shown: {_first_line(error)}".replace(str(file), file.name)}


def hardest_pairs(members: Sequence[Sequence[Run]], drawn: Sequence[int], asked: bool) -> dict[str, dict[str, Any]]:
    """Test -> configuration -> the impostor pairs with the highest and genuine pairs with the lowest scores.

    The score of a pair is the mean over the configuration's seeds. Images are stored once, in `pictures` of the test.
    """
    found: dict[str, dict[str, Any]] = {}
    for test in sorted({test for number in drawn for run in members[number] for test in run.scores}):
        with_test = [(number, [run for run in members[number] if test in run.scores]) for number in drawn]
        with_test = [(number, runs) for number, runs in with_test if runs and _is_list(runs[0].tests.get(test))]
        if not with_test:
            continue
        first = with_test[0][1][0]
        cards = [card for key, card in first.data.items() if f"{key}.".startswith(f"evaluation.{test}.")]
        if not asked and not (cards and all(map(free, cards))):
            found[test] = {"note": _kept_back(next((card for card in cards if not free(card)), {}))}
            continue
        pictures: dict[str, str] = {}
        groups: dict[str, Any] = {}
        try:
            for number, runs in with_test:
                protocol = _built(json.dumps(runs[0].tests[test], sort_keys=True))
                groups[str(number)] = _hardest(protocol, runs, test, pictures)
        except Exception as error:  # an untrusted configuration may raise anything
            found[test] = {"note": f"not shown: {_first_line(error)}"}
            continue
        found[test] = {"pictures": pictures, "groups": groups}
    return found


@lru_cache(maxsize=8)  # configurations, and rewritten pages, share tests
def _built(text: str) -> Verification:
    found = build(json.loads(text), shared={})
    assert isinstance(found, Verification)
    return found


def _is_list(node: Any) -> bool:
    """Whether a test is a list of pairs in the order of its scores."""
    try:
        return isinstance(node, Mapping) and locate(str(node.get("_target_"))) in _PAIRS
    except UserError:
        return False


def _hardest(protocol: Verification, runs: Sequence[Run], test: str, pictures: dict[str, str]) -> dict[str, Any]:
    same = protocol.pairs.same
    scores = []
    for run in runs:
        arrays = read_arrays(run.scores[test])
        if not np.array_equal(arrays["same"], same):
            raise ValueError(f"the pairs of {test} have changed")
        scores.append(arrays["scores"])
    mean: NDArray[np.float64] = np.mean(scores, axis=0)
    order = np.argsort(mean, kind="stable")
    chosen = {"impostor": order[~same[order]][::-1][:_HARDEST], "genuine": order[same[order]][:_HARDEST]}
    sides = protocol.sides()
    return {
        kind: [
            {"score": float(f"{mean[pair]:.4g}"), "faces": [_picture(side[pair], pictures) for side in sides]}
            for pair in pairs.tolist()
        ]
        for kind, pairs in chosen.items()
    }


def _picture(where: tuple[FaceSet, str], pictures: dict[str, str]) -> str:
    faces, key = where
    name = f"{faces.name}/{key}/{faces.preprocessing.size}"
    if name not in pictures:
        pictures[name] = thumbnail(faces[list(faces.keys).index(key)].image)
    return name


def _kept_back(card: Any) -> str:
    terms = str(card.get("terms") or "") if isinstance(card, Mapping) else ""
    return f"not shown without kdface report --images, since its terms are {terms or 'unknown'}"


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
