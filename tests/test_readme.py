"""Every command of the README runs, in the order in which a reader meets it; long ones on fewer and smaller faces."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import cv2
import pytest

from kdface.datasets import ToyFaces
from tests.conftest import Kdface

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    line.split("#")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL)
    for line in block.splitlines()
    if line.strip()
]
# What makes a command short; the words of the README come first and are not replaced.
SMALL = [
    "loader.batch_size=16",
    "dataset.people=10",
    "dataset.images_per_person=20",
    "evaluation.toy_pairs.dataset.people=8",
    "evaluation.toy_pairs.dataset.images_per_person=4",
    "evaluation.toy_pairs.folds=2",
    "evaluation.toy_pairs.pairs_per_fold=8",
]


def _shortened(words: list[str]) -> list[str]:
    if words[0] == "train" and "--cfg" not in words and "dataset=image_folder" not in words:
        return [*words, *SMALL, *([] if any("max_steps" in word for word in words) else ["trainer.max_steps=2"])]
    if words[0] == "evaluate":
        return [*words, *(each for each in SMALL if each.startswith("evaluation."))]
    return words


def test_the_readme_opens_with_the_two_commands() -> None:
    assert COMMANDS[:2] == ["make demo", "make test"]
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert {"demo", "test", "lint", "format", "bench", "clean", "help"} <= set(targets)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the reader stands: a folder with aligned crops of her own."""
    here = tmp_path_factory.mktemp("reader")
    faces = ToyFaces(people=4, images_per_person=8)
    for index in range(len(faces)):
        sample = faces[index]
        path = here / "faces" / faces.people[sample.label] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), sample.image[..., ::-1])
    return here


@pytest.mark.parametrize("line", [line for line in COMMANDS if line.startswith("kdface")])
def test_a_command_of_the_readme(line: str, kdface: Kdface, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    said = kdface(*_shortened(shlex.split(line)[1:]))
    assert said.code == 0, said.err
    assert said.out


def test_files_and_choices_that_the_readme_names_exist() -> None:
    for name in re.findall(r"\]\(([^)]+)\)", README):
        assert (ROOT / name).is_file(), name
    for group, choice in re.findall(r"`(dataset|evaluation)=(\w+)`", README):
        assert (ROOT / "conf" / group / f"{choice}.yaml").is_file(), (group, choice)
