"""A column over the steps of training: means over seeds, and paired differences from the baseline."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from kdface.reports.tables import collect, tabulate
from kdface.reports.tables.definition import Definition
from kdface.reports.tables.figures import learning_figures
from kdface.runs.folder import RunFolder
from tests.reports.folders import config, make_run

VALUES = {"alone": [[0.2, 0.3, 0.4], [0.6, 0.7, 0.6]], "taught": [[0.1, 0.2, 0.2], [0.7, 0.9, 0.8]]}  # [step][seed]


def _figures(folder: Path, over_steps: bool, baseline: str = "alone") -> dict[str, object]:
    folders = {}
    for number, (label, steps) in enumerate(VALUES.items()):
        for seed in range(3):
            tree = config(folder, seed=seed, head___target_=f"head {number}", evaluation={"held": {}})
            root = make_run(folder, tree, {"held/accuracy": steps[-1][seed]})
            with (root / "metrics.jsonl").open("a") as file:
                for step, values in zip((10, 20), steps, strict=True):
                    metrics = {"held/accuracy": {"value": values[seed]}}
                    file.write(
                        json.dumps({"kind": "evaluation", "step": step, "test": "held", "metrics": metrics}) + "\n"
                    )
            folders[label, seed] = RunFolder(root)
    definition = Definition.model_validate(
        {
            "title": "t",
            "baseline": baseline,
            "rows": [{"label": label, "overrides": [label]} for label in VALUES],
            "columns": [{"label": "accuracy", "metric": "held/accuracy", "over_steps": over_steps}],
        }
    )

    def locate(overrides: Sequence[str]) -> RunFolder:
        return folders[overrides[0], int(overrides[1].removeprefix("seed="))]

    return dict(learning_figures(tabulate(definition, collect(definition, locate), folder)))


def test_means_and_gains_over_steps(tmp_path: Path) -> None:
    ((name, figure),) = _figures(tmp_path, True).items()
    assert name == "held_accuracy_steps"
    top, below = figure.axes  # type: ignore[attr-defined]
    drawn = {line.get_label(): (line.get_xdata().tolist(), line.get_ydata()) for line in top.get_lines()}
    for label, steps in VALUES.items():
        assert drawn[label][0] == [10, 20]
        assert drawn[label][1] == pytest.approx(100 * np.mean(steps, 1))
    gain = 100 * (np.array(VALUES["taught"]) - np.array(VALUES["alone"]))
    (line,) = (line for line in below.get_lines() if len(line.get_xdata()) == 2 and line.get_marker() == ".")
    assert line.get_ydata() == pytest.approx(gain.mean(1))
    heights = below.collections[0].get_paths()[0].vertices[:, 1]
    intervals = [stats.ttest_1samp(seeds, 0).confidence_interval(0.95) for seeds in gain]
    assert heights.max() == pytest.approx(max(interval.high for interval in intervals))
    assert heights.min() == pytest.approx(min(interval.low for interval in intervals))


def test_without_a_baseline_only_the_values_are_drawn(tmp_path: Path) -> None:
    (figure,) = _figures(tmp_path, True, baseline="").values()
    assert len(figure.axes) == 1  # type: ignore[attr-defined]


def test_a_column_is_drawn_over_steps_if_it_says_so(tmp_path: Path) -> None:
    assert _figures(tmp_path, False) == {}
