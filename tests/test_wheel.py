"""The wheel carries conf/, and works from any folder."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import TINY

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("hatchling", reason="builds the wheel")
    folder = tmp_path_factory.mktemp("wheel")
    build = "import hatchling.build as b, sys; print(b.build_wheel(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", build, str(folder)], cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_every_configuration_file_is_in_the_wheel(unpacked: Path) -> None:
    shipped = {file.relative_to(unpacked / "kdface/conf") for file in (unpacked / "kdface/conf").rglob("*.yaml")}
    assert shipped == {file.relative_to(ROOT / "conf") for file in (ROOT / "conf").rglob("*.yaml")}
    assert (unpacked / "kdface/reports/html/assets/page.html").is_file()
    assert (unpacked / "kdface/py.typed").is_file()  # type checkers read kdface's hints


def test_an_installed_kdface_runs_the_demo_from_an_empty_folder(unpacked: Path, tmp_path: Path) -> None:
    code = (
        "import kdface, sys; from kdface.cli import main; from kdface.config.paths import conf_folder;"
        f"print(conf_folder()); sys.exit(main(['train', 'experiment=demo', *{[*TINY, 'trainer.max_steps=2']!r}]))"
    )
    said = subprocess.run(
        [
            sys.executable,
            "-S",
            "-c",
            f"import site, sys; sys.path.insert(0, {str(unpacked)!r});"
            f"sys.path += {[p for p in sys.path if 'site-packages' in p]!r}; {code}",
        ],
        cwd=tmp_path,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
        capture_output=True,
        text=True,
    )
    assert said.returncode == 0, said.stderr
    assert said.stdout.splitlines()[0] == str(unpacked / "kdface/conf")
    assert len(list(tmp_path.glob("runs/demo/*/DONE"))) == 1
