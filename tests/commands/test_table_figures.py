"""kdface table --figures draws columns as bars and test sets as curves."""

from __future__ import annotations

from pathlib import Path

import yaml

from kdface.commands import table
from tests.conftest import TINY


def test_figures_lie_beside_the_table(tmp_path: Path) -> None:
    path = tmp_path / "tiny.yaml"
    tree = {
        "title": "Tiny",
        "seeds": [0],
        "overrides": [*TINY, "trainer.max_steps=1", f"paths.runs={tmp_path}/runs", "name=tiny"],
        "rows": [{"label": "cos", "overrides": ["head=cosface"]}],
        "columns": [{"label": "accuracy", "metric": "toy_pairs/accuracy"}],
    }
    path.write_text(yaml.safe_dump(tree))
    assert table.run([str(path), "--run", "--figures"]) == 0
    names = {
        f"tiny_{name}{suffix}" for name in ("accuracy", "toy_pairs_roc", "toy_pairs_det") for suffix in (".pdf", ".png")
    }
    assert {file.name for file in tmp_path.glob("tiny_*")} == names
