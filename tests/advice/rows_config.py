"""Mistakes in names, keys and values of a configuration."""

from __future__ import annotations

from tests.advice.harness import Row, tiny

ROWS = [
    tiny("metod=spherefacer", told="unknown key 'metod'"),
    tiny("trainer.max_epoch=3", told="unknown key 'trainer.max_epoch'"),
    tiny("+trainer.max_epoch=3", told="unknown key 'trainer.max_epoch'"),
    Row(("train", "backbone=resnt18"), "no backbone named 'resnt18'"),
    tiny("head.margn=1.4", told="unknown key 'head.margn'"),
    tiny("head.num_classes=5", told="head.num_classes"),
    tiny("head=none", told="head is none"),
    tiny("method.views.student=masked", told="makes no such view"),
    Row(("lst", "head"), "no command 'lst'"),
    Row(("list", "bakbone"), "no config group 'bakbone'"),
    Row(("config", "why", "trainer.max_epoch"), "no key 'trainer.max_epoch'"),
]
