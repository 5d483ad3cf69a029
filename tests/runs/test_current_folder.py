"""What lies in the current folder is data: no Python file in it runs, in no process that a command starts."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from kdface.sweeps.lifeline import own_command
from tests.conftest import TINY, only_run

_SOURCES = Path(__file__).resolve().parents[2]


def test_no_file_of_the_current_folder_runs(tmp_path: Path) -> None:
    """A sweep's server, its job, the job's second rank and their loader processes."""
    hostile = f"open({str(tmp_path / 'ran')!r}, 'a').write(__file__ + '\\n')\nraise SystemExit(3)\n"
    for name in ("torch.py", "json.py", "pydantic.py", "kdface_own.py", "hydra_plugins/own.py", "sitecustomize.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(hostile)
    words = [*TINY, "trainer.max_steps=1", "trainer.devices=2", "loader.num_workers=1", f"paths.runs={tmp_path}/runs"]
    said = subprocess.run(
        # The installed script, which puts its own folder before sys.path.
        [own_command()[0], "-P", "-c", "from kdface.cli import console; console()", "train", "-m", *words],
        cwd=tmp_path,
        env={**os.environ, "KDFACE_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert not (tmp_path / "ran").exists(), (tmp_path / "ran").read_text()
    assert said.returncode == 0, said.stderr
    assert (only_run(tmp_path / "runs") / "DONE").is_file()


def test_kdface_starts_itself_in_one_way() -> None:
    found = [file for file in (_SOURCES / "kdface").rglob("*.py") if '"-m", "kdface"' in file.read_text("utf-8")]
    assert [file.name for file in found] == ["lifeline.py"]
