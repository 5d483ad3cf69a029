"""Settings that are added later must not rename the runs of before."""

from __future__ import annotations

from kdface.config.compose import compose
from kdface.config.fingerprint import fingerprint
from tests.conftest import TINY


def test_a_setting_that_came_later_leaves_earlier_runs_their_name() -> None:
    now = compose(TINY).tree
    before = {**now, "trainer": {key: value for key, value in now["trainer"].items() if key != "sync_batchnorm"}}
    assert fingerprint(before) == fingerprint(now)
    assert fingerprint(compose([*TINY, "trainer.sync_batchnorm=true"]).tree) != fingerprint(now)
