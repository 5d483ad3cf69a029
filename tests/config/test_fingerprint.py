"""Settings that are added later must not rename the runs of before."""

from __future__ import annotations

from typing import Any

import pytest

from kdface.config.check import check_tree
from kdface.config.compose import compose
from kdface.config.fingerprint import fingerprint
from tests.conftest import TINY


def test_a_setting_that_came_later_leaves_earlier_runs_their_name() -> None:
    now = compose(TINY).tree
    before = {**now, "trainer": {key: value for key, value in now["trainer"].items() if key != "sync_batchnorm"}}
    assert fingerprint(before) == fingerprint(now)
    assert fingerprint(compose([*TINY, "trainer.sync_batchnorm=true"]).tree) != fingerprint(now)


@pytest.mark.parametrize(
    "words",
    [
        ["trainer.max_time=00:00:01:00"],
        ["+callbacks.t._target_=pytorch_lightning.callbacks.Timer", "+callbacks.t.duration=00:00:01:00"],
    ],
)
def test_a_limit_of_time_makes_another_run(words: list[str]) -> None:
    assert fingerprint(compose([*TINY, *words]).tree) != fingerprint(compose(TINY).tree)


# choice -> the head as configurations wrote it before it had the keys of now, or while it had more
HEADS_OF_BEFORE: dict[str, dict[str, Any]] = {
    "cosface": {"_target_": "kdface.heads.CosFace", "scale": 64.0, "margin": 0.35, "gradient": "detached"},
    "normface": {"_target_": "kdface.heads.NormFace", "scale": 30.0, "gradient": "exact"},
    "softmax": {"_target_": "kdface.heads.Softmax", "bias": True},
    "partial_fc": {
        "_target_": "kdface.heads.PartialFC",
        "sample_rate": 0.1,
        "head": {"_target_": "kdface.heads.CosFace", "scale": 64.0, "margin": 0.4, "gradient": "detached"},
    },
    "spherefacer": {
        "_target_": "kdface.heads.SphereFaceR",
        "form": "v2",
        "feature_norm": "hard",
        "scale": 60.0,
        "margin": 1.4,
        "margin_steps": [],
        "loss_weight": 50.0,
        "penalty": "l1",
        "penalty_weight": 0.01,
        "gradient": "detached",
    },
}


@pytest.mark.parametrize("name", HEADS_OF_BEFORE)
def test_a_head_that_got_keys_later_leaves_earlier_runs_their_name(name: str) -> None:
    now = compose([*TINY, f"head={name}"]).tree
    before = {**now, "head": HEADS_OF_BEFORE[name]}
    assert before != now
    check_tree(before)  # and they are still loaded
    assert fingerprint(before) == fingerprint(now)


def test_published_values_of_another_regime_make_another_run() -> None:
    trees = [
        compose([*TINY, "head.feature_norm=none", *more]).tree
        for more in ([], ["head.loss_weight=1.0"], ["head.loss_weight=50"])
    ]
    assert fingerprint(trees[0]) == fingerprint(trees[1]) != fingerprint(trees[2])
