"""The command line answers at once: help, completion and lists import nothing heavy."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from kdface.cli import COMMANDS
from kdface.commands.completion import answers
from kdface.terminal import folded_message
from tests.conftest import Kdface, command

_HEAVY = ("torch", "pytorch_lightning", "hydra", "omegaconf", "numpy", "cv2", "matplotlib", "pydantic", "wandb", "rich")


@pytest.mark.parametrize(
    "code",
    [
        "from kdface.cli import main; main(['--help'])",
        "from kdface.cli import main; main(['list', 'backbone'])",
        "from kdface.commands.completion import answers; answers('kdface train back')",
    ],
)
def test_light_commands_import_nothing_heavy(code: str, tmp_path: Path) -> None:
    check = f"import sys; {code}; print([name for name in {_HEAVY!r} if name in sys.modules])"
    said = subprocess.run([sys.executable, "-c", check], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert said.stdout.splitlines()[-1] == "[]"


def test_no_command_imports_torch_before_it_computes(tmp_path: Path) -> None:
    """A sweep, a table and a report look after other processes, and start at once."""
    code = (
        "import importlib, pkgutil, sys, kdface.commands as commands\n"
        "for module in pkgutil.iter_modules(commands.__path__):\n"
        "    importlib.import_module(f'kdface.commands.{module.name}')\n"
        "print([name for name in ('torch', 'pytorch_lightning', 'scipy', 'matplotlib') if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert said.stdout == "[]\n"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("kdface tr", ["train "]),
        ("kdface train back", ["backbone="]),
        ("kdface train backbone=iresnet1", ["iresnet100 ", "iresnet18 "]),
        ("kdface train trainer.max_", ["trainer.max_epochs=", "trainer.max_steps="]),
        ("kdface list opt", ["optimizer "]),
    ],
)
def test_completion(line: str, expected: list[str]) -> None:
    found = answers(line)
    if line.endswith("back"):
        assert set(expected) <= set(found)
    else:
        assert found == expected


def test_help_names_every_command(kdface: Kdface) -> None:
    said = kdface("--help")
    assert said.code == 0
    for name in ("train", "evaluate", "sweep", "table", "report", "export", "quality", "data", "config", "doctor"):
        assert f"  {name} " in said.out


def test_list_shows_the_choices_of_a_folder_of_the_user(kdface: Kdface, tmp_path: Path) -> None:
    (tmp_path / "head").mkdir()
    (tmp_path / "head" / "mine.yaml").write_text("# A head of mine\n_target_: mine.Head\n")
    said = kdface("list", "head", "--config-dir", str(tmp_path))
    assert said.code == 0 and re.search(r"^mine +A head of mine$", said.out, flags=re.MULTILINE)
    assert re.search(r"^arcface ", said.out, flags=re.MULTILINE)
    assert kdface("list", "head", "--config-dir", str(tmp_path / "nowhere")).code == 2


@pytest.mark.parametrize("words", [("--grup",), ("backbone", "head"), ("--config-dir",)])
def test_list_tells_of_wrong_words_as_other_commands_do(kdface: Kdface, words: tuple[str, ...]) -> None:
    said = kdface("list", *words)
    assert said.code == 2 and said.err.startswith("error: kdface list: ") and "usage:" not in said.err
    assert "fix:       kdface list --help" in said.err


def test_a_terminal_breaks_a_message_between_words_and_leaves_commands_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "29")
    fix = "  fix:       kdface list head, NAME"
    message = f"error: a head that lies nowhere\n  expected:  one of arcface, cosface\n{fix}"
    assert folded_message(message) == message  # not a terminal
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert folded_message(message).splitlines() == [
        "error: a head that lies",
        "nowhere",
        "  expected:  one of arcface,",
        "             cosface",
        fix,
    ]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_tells_how_it_is_called(name: str, tmp_path: Path) -> None:
    said = command(name, "--help", cwd=tmp_path)
    assert said.returncode == 0 and not said.stderr, said
    assert f"kdface {name}" in said.stdout
    assert not list(tmp_path.iterdir())


def test_doctor_tells_packages_profile_and_places(kdface: Kdface) -> None:
    said = kdface("doctor")
    assert said.code == 0, said.out
    for text in ("pytorch-lightning", "profile", "paths.data", "no problems found"):
        assert text in said.out


def test_doctor_tells_of_data_that_is_not_there(
    kdface: Kdface, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KDFACE_DATA", str(tmp_path / "gone"))
    said = kdface("doctor")
    assert said.code == 2
    assert "gone" in said.out
