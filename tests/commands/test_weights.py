"""kdface weights: the catalogue, what a file is, and the gate before anything is distilled."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from kdface.config.catalogue import entries
from kdface.config.check import check_part
from kdface.config.origin import Origins
from kdface.runs.schemas import Exported
from kdface.stored import conform
from tests.config.test_model_file import CARD, network
from tests.conftest import Kdface
from tests.evaluation.test_stored import TOY


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "backbone.pth"
    torch.save(network().state_dict(), path)
    return path


def test_every_entry_of_the_catalogue_can_stand_in_a_card() -> None:
    for name, entry in entries().items():
        conform(entry, Exported)
        assert {"about", "trained_on", "licence", "where"} <= entry.keys(), name
        assert all(0 < value < 1 and "/" in key for key, value in entry.get("published", {}).items()), name
        assert ("published" in entry) == ("source" in entry), name
        if "backbone" in entry:
            check_part(entry["backbone"], "backbone", Origins())


def test_the_catalogue_is_listed(kdface: Kdface) -> None:
    said = kdface("weights", "list")
    assert said.code == 0 and all(name in said.out for name in entries())
    said = kdface("weights", "list", "buffalo-l")
    assert "lfw/accuracy=0.9983" in said.out and "non-commercial" in said.out
    said = kdface("weights", "list", "bufalo-l")
    assert said.code == 2 and "buffalo-l" in said.err
    said = kdface("weights", "lst")
    assert said.code == 2 and "kdface weights list" in said.err


def test_what_a_file_is(kdface: Kdface, file: Path) -> None:
    said = kdface("weights", "inspect", str(file))
    assert said.code == 2 and "no card backbone.pth.yaml next to it" in said.err
    assert "kdface.backbones.iresnet_nano, embedding_size=8, channels=[8, 8, 8, 8], blocks=[1, 1, 1, 1]" in said.out
    card = file.with_name("backbone.pth.yaml")
    card.write_text(f"{CARD % 'rgb'}licence: ours\n")
    said = kdface("weights", "inspect", str(file))
    assert said.code == 0 and "size=[32, 32], color=rgb" in said.out and "every entry fits" in said.out
    assert "licence        ours" in said.out
    card.write_text("name: adaface-r18-casia\n")  # the card of another network
    said = kdface("weights", "inspect", str(file))
    assert said.code == 2 and "do not fit" in said.err and "color=bgr" in said.out


def test_the_gate(kdface: Kdface, file: Path, tmp_path: Path) -> None:
    words = ["weights", "check", str(file), "--dataset", "toy_pairs", *TOY]
    card = file.with_name("backbone.pth.yaml")
    card.write_text(CARD % "rgb")
    said = kdface(*words)
    assert said.code == 2 and "no published accuracy on toy_pairs" in said.err
    said = kdface(*words, "published=0.2")
    assert said.code == 0 and "as published: safe to distil from" in said.out
    (results,) = tmp_path.glob("runs/files/backbone-*/toy_pairs/results.json")
    measured = json.loads(results.read_text())["metrics"]["toy_pairs/accuracy"]["value"]
    assert f"measured {measured:.4f}, published 0.2000" in said.out
    card.write_text(f"{CARD % 'rgb'}published: {{toy_pairs/accuracy: {measured + 0.02}}}\n")
    assert kdface(*words, "tolerance=0.03").code == 0
    said = kdface(*words)
    assert said.code == 1 and "NOT as published" in said.out
    assert kdface(*words, "published=99").code == 2
