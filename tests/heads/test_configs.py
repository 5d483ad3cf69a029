"""Each choice in conf/head builds a head and states every parameter."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import kdface.heads
from kdface.heads import Head

FOLDER = Path(__file__).parents[2] / "conf" / "head"
CHOICES = {
    path.stem: path for path in sorted(FOLDER.glob("*.yaml")) if "_target_: kdface.heads." in path.read_text("utf-8")
}
del CHOICES["partial_fc"]  # takes another head (test_partial_fc)
# Choices that are a variant of their class and say so by these values; all others give the constructor's
# defaults.
VARIANTS: dict[str, dict[str, Any]] = {
    "elasticface_arc_plus": {"sigma": 0.0175, "plus_permutation": "correct"},
    "elasticface_cos_plus": {"sigma": 0.025, "plus_permutation": "correct"},
}


def test_every_head_has_a_choice() -> None:
    targets = {yaml.safe_load(path.read_text("utf-8"))["_target_"].rpartition(".")[2] for path in CHOICES.values()}
    made = {
        name
        for name in kdface.heads.__all__
        if issubclass(kind := getattr(kdface.heads, name), Head) and not inspect.isabstract(kind)
    }
    assert targets == made - {"MarginSoftmax"}  # the frame of most of them


@pytest.mark.parametrize("name", CHOICES)
def test_choice(name: str) -> None:
    text = CHOICES[name].read_text("utf-8")
    first, *rows = text.splitlines()
    assert first.startswith("# ")
    assert all(" # " in row for row in rows if not row.startswith("_target_"))

    values: dict[str, Any] = yaml.safe_load(text)
    module, _, attribute = values.pop("_target_").rpartition(".")
    target = getattr(importlib.import_module(module), attribute)
    defaults = {
        key: parameter.default
        for key, parameter in inspect.signature(target).parameters.items()
        if key not in ("embedding_size", "num_classes")
    }
    expected = {**defaults, **VARIANTS.get(name, {})}
    assert {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()} == expected

    head = target(embedding_size=8, num_classes=5, **values)
    assert isinstance(head, Head)
    assert torch.isfinite(head(torch.ones(2, 8), torch.tensor([0, 4])).loss)
