"""Each choice in conf/teacher/quality names a source and states every option with its default."""

from __future__ import annotations

import inspect
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from kdface.teachers import quality

FOLDER = Path(__file__).parents[3] / "conf" / "teacher" / "quality"
CHOICES = {path.stem: path for path in sorted(FOLDER.glob("*.yaml"))}


def test_every_source_has_a_choice() -> None:
    named = {yaml.safe_load(path.read_text("utf-8"))["quality"]["_target_"] for path in CHOICES.values()}
    assert named == {f"kdface.teachers.quality.{name}" for name in quality.__all__ if name != "QualitySource"}


@pytest.mark.parametrize("name", CHOICES)
def test_choice(name: str) -> None:
    text = CHOICES[name].read_text("utf-8")
    first, *rows = text.splitlines()
    assert first.startswith("# ")
    assert all(" # " in row for row in rows if "_target_" not in row and row != "quality:")
    tree: dict[str, Any] = yaml.safe_load(text)
    options = tree.pop("quality")
    assert tree == {"_target_": "kdface.teachers.from_run", "run": "???"}
    source = getattr(quality, options.pop("_target_").rpartition(".")[2])
    defaults = {field.name: inspect.signature(source).parameters[field.name].default for field in fields(source)}
    expected = {key: "???" if value is inspect.Parameter.empty else value for key, value in defaults.items()}
    assert options == expected
