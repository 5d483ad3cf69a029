"""Faces in the report: which pairs, whose pictures, and what is kept back."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from kdface.reports.html.images import contact_sheets, free, hardest_pairs, thumbnail
from kdface.reports.html.payload import grouped, ranked
from kdface.reports.html.runs import Run, read_run, run_folders
from tests.reports.folders import config, make_run

TOY = {"_target_": "kdface.datasets.ToyFaces", "people": 8, "images_per_person": 4, "size": [32, 32]}
PAIRS = {"_target_": "kdface.evaluation.random_verification", "folds": 2, "pairs_per_fold": 8, "dataset": TOY}
SAME = np.tile(np.arange(8) < 4, 2)


def _members(root: Path) -> list[list[Run]]:
    return grouped([read_run(folder, root) for folder in run_folders(root)])


def _run(root: Path, seed: int, scores: Any, same: Any = SAME) -> Path:
    tree = config(root, seed=seed, dataset=TOY, evaluation={"toy": PAIRS})
    tree["augmentation"] = {"_target_": "kdface.augmentations.Standard"}
    return make_run(root, tree, {"a": 0.5}, arrays={"toy": {"scores": np.array(scores), "same": same}})


def _terms(root: Path, terms: str) -> None:
    cards = json.loads((root / "data.json").read_text())
    (root / "data.json").write_text(json.dumps({name: {**card, "terms": terms} for name, card in cards.items()}))


def _draw(root: Path) -> None:
    (root / "figures").mkdir()
    assert cv2.imwrite(str(root / "figures" / "views.png"), np.full((600, 1200, 3), (0, 0, 250), np.uint8))


def test_a_thumbnail_is_the_image_made_small() -> None:
    image = np.zeros((144, 288, 3), np.uint8)
    image[:, 144:, 0] = 250  # the right half is red
    data = base64.b64decode(thumbnail(image).removeprefix("data:image/webp;base64,"))
    small = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert small is not None and small.shape == (36, 72, 3)
    assert small[18, 60, 2] > 200 and small[18, 60, 0] < 60 and small[18, 10].max() < 60  # OpenCV's order is BGR


def test_the_sheet_that_a_run_has_drawn_is_shown_small(tmp_path: Path) -> None:
    for seed in (0, 1):
        root = _run(tmp_path, seed, np.arange(16) / 16)
    (sheet,) = contact_sheets(_members(tmp_path), asked=False)
    assert "picture" not in sheet and "no run has drawn them yet" in sheet["note"]
    _draw(root)  # of the second one alone
    (sheet,) = contact_sheets(_members(tmp_path), asked=False)
    data = base64.b64decode(sheet["picture"].removeprefix("data:image/webp;base64,"))
    small = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert small is not None and small.shape == (480, 960, 3) and abs(int(small[10, 10, 2]) - 250) < 10
    (root / "figures" / "views.png").write_bytes(b"no image")
    (sheet,) = contact_sheets(_members(tmp_path), asked=False)
    assert sheet["note"].startswith("not shown: views.png: not an image")


@pytest.mark.parametrize(
    ("terms", "shown"), [("none: generated", True), ("", False), ("non-commercial research only", False)]
)
def test_terms_that_begin_with_none_are_free(terms: str, shown: bool) -> None:
    assert free({"terms": terms}) is shown


def test_the_hardest_pairs_by_the_mean_over_seeds(tmp_path: Path) -> None:
    first = np.arange(16) / 16
    second = first.copy()
    second[[4, 3]] = [8.0, -8.0]  # of the second seed alone: the hardest pair of different people, and of one person
    _run(tmp_path, 0, first)
    _run(tmp_path, 1, second)
    members = _members(tmp_path)
    (group,) = hardest_pairs(members, ranked(members), asked=False)["toy"]["groups"].values()
    mean = (first + second) / 2
    impostors = sorted(mean[~SAME], reverse=True)[:6]
    assert impostors[0] == mean[4] and min(mean[SAME]) == mean[3]
    assert [pair["score"] for pair in group["impostor"]] == pytest.approx(impostors, abs=1e-3)
    assert [pair["score"] for pair in group["genuine"]] == pytest.approx(sorted(mean[SAME])[:6], abs=1e-3)
    for pair in group["genuine"]:
        people = {name.split("/")[2] for name in pair["faces"]}  # NAME/SPLIT/PERSON/...
        assert len(people) == 1
    for pair in group["impostor"]:
        assert len({name.split("/")[2] for name in pair["faces"]}) == 2


def test_pairs_that_are_others_today_are_not_shown(tmp_path: Path) -> None:
    _run(tmp_path, 0, np.arange(16) / 16, same=~SAME)
    members = _members(tmp_path)
    assert "have changed" in hardest_pairs(members, [0], asked=False)["toy"]["note"]


def test_other_people_s_faces_are_kept_back_unless_asked_for(tmp_path: Path) -> None:
    root = _run(tmp_path, 0, np.arange(16) / 16)
    _draw(root)
    _terms(root, "research only")
    members = _members(tmp_path)
    (sheet,) = contact_sheets(members, asked=False)
    assert "picture" not in sheet and "research only" in sheet["note"] and "--images" in sheet["note"]
    found = hardest_pairs(members, [0], asked=False)["toy"]
    assert set(found) == {"note"} and "research only" in found["note"]
    (sheet,) = contact_sheets(members, asked=True)
    assert sheet["picture"]
    assert hardest_pairs(members, [0], asked=True)["toy"]["pictures"]
