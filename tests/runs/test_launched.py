"""Ranks that torchrun or srun start: one makes the run folder, the others wait for it; what cannot work is told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kdface.errors import UserError
from kdface.runs.folder import RunFolder, config_text, held
from kdface.runs.ranks import LAUNCHER, await_configuration
from tests.conftest import TINY, Kdface, command, only_run

TREE: dict[str, Any] = {
    "name": "m",
    "seed": 0,
    "paths": {"data": "/data", "runs": "/runs"},
    "trainer": {"devices": 2},
    "loader": {"num_workers": 0},
}


def test_torchrun_trains_one_run_on_all_its_ranks(tmp_path: Path) -> None:
    words = ["-m", "kdface", "train", *TINY, "trainer.devices=2", "trainer.max_steps=2", f"paths.runs={tmp_path}/runs"]
    said = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=29611", *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert said.returncode == 0, said.stderr
    run = only_run(tmp_path / "runs")
    assert (run / "DONE").is_file()
    assert (run / "metrics.jsonl").read_text().count('"kind": "train"') == 2  # rank 0 alone has written


def test_a_further_rank_waits_for_its_own_configuration(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with pytest.raises(UserError, match="timed out after 0 s"):
        await_configuration(folder, TREE, seconds=0)
    folder.config.write_text(config_text({**TREE, "loader": {"num_workers": 4}}))
    with pytest.raises(UserError, match=r"loader.num_workers: 4 there, 0 here"):
        await_configuration(folder, TREE, seconds=0)
    folder.config.write_text(config_text(TREE))
    assert await_configuration(folder, TREE, seconds=0) == folder


@pytest.mark.parametrize(
    ("words", "told"),
    [(["seed=null", "trainer.devices=2"], "seed=null"), (["trainer.devices=1"], "2 ranks were started")],
)
def test_what_several_ranks_cannot_do_is_told(
    kdface: Kdface, monkeypatch: pytest.MonkeyPatch, words: list[str], told: str
) -> None:
    for key, value in {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(key, value)
    said = kdface("train", *TINY, *words)
    assert said.code == 2 and told in said.err


def test_a_rank_whose_launcher_has_ended_while_it_started_ends_too(tmp_path: Path) -> None:
    environment = {"LOCAL_RANK": "1", LAUNCHER: "1"}  # this process has started it, and is not 1
    said = command("run", str(tmp_path), cwd=tmp_path, env=environment)
    assert said.returncode == 128 + 9


def test_who_asks_whether_a_run_is_held_does_not_keep_it_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    folder = RunFolder(tmp_path)
    (tmp_path / ".lock").touch()
    asking = open(tmp_path / ".lock", "rb")  # noqa: SIM115  # closed by the sleep below
    fcntl.flock(asking, fcntl.LOCK_SH)
    monkeypatch.setattr("time.sleep", lambda seconds: asking.close())
    with folder.locked():
        assert held(folder)
