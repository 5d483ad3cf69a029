"""Every command of the README and of docs/ runs, in the order in which a reader meets it; long ones on fewer faces.

Blocks marked `sh` and `python` run. Those marked `shell` are of trainings that are composed and checked. What needs a
cluster, a disk of data or a name of the reader's is marked `console`, or has a title.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import cv2
import pytest
import yaml

from kdface.datasets import ToyFaces
from tests.conftest import Kdface

ROOT = Path(__file__).resolve().parent.parent
NAV = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]


def _files(nav: Any) -> list[str]:
    """The pages of docs/, in the order of the site."""
    if isinstance(nav, str):
        return [nav] if (ROOT / "docs" / nav).is_file() else []
    return [file for entry in (nav.values() if isinstance(nav, dict) else nav) for file in _files(entry)]


PAGES = {name: (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", *(f"docs/{f}" for f in _files(NAV)))}
README = PAGES["README.md"]


def _commands(text: str, language: str) -> list[str]:
    return [
        line.split(" #")[0].strip()
        for block in re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)
        for line in block.splitlines()
        if line.strip()
    ]


COMMANDS = list(dict.fromkeys(line for page in PAGES.values() for line in _commands(page, "sh")))
COMPOSED = list(dict.fromkeys(line for page in PAGES.values() for line in _commands(page, "shell")))
# What makes a command short, beside the words of the README.
SMALL = [
    "loader.batch_size=4",
    "dataset.people=10",
    "dataset.images_per_person=20",
    "evaluation.toy_pairs.dataset.people=8",
    "evaluation.toy_pairs.dataset.images_per_person=4",
    "evaluation.toy_pairs.folds=2",
    "evaluation.toy_pairs.pairs_per_fold=8",
]


def _shortened(words: list[str]) -> list[str]:
    if words[0] == "train" and "--cfg" not in words and "dataset=image_folder" not in words:
        given = {word.partition("=")[0] for word in words}
        return [*words, *(word for word in [*SMALL, "trainer.max_steps=2"] if word.partition("=")[0] not in given)]
    if words[0] == "evaluate":
        return [*words, *(word for word in SMALL if word.startswith("evaluation."))]
    if words[:3] == ["data", "preview", "toy_faces"]:
        return [*words, "dataset.people=10", "dataset.images_per_person=20"]
    return words


def test_the_readme_opens_with_the_two_commands() -> None:
    assert COMMANDS[:2] == ["make demo", "make test"]
    assert len(README.split()) < 900
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert {"demo", "test", "lint", "format", "bench", "docs", "clean", "help"} <= set(targets)


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


@pytest.mark.parametrize("line", COMPOSED)
def test_a_training_that_is_composed(line: str, kdface: Kdface, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    said = kdface(*shlex.split(line)[1:], "--cfg", "job")
    assert said.code == 0, said.err


@pytest.mark.parametrize("page", [name for name, text in PAGES.items() if "```python\n" in text])
def test_the_python_of_a_page(page: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    exec("\n".join(re.findall(r"```python\n(.*?)```", PAGES[page], flags=re.DOTALL)), {"__name__": "page"})


def test_files_and_choices_that_the_pages_name_exist() -> None:
    for page, text in PAGES.items():
        for name in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
            elsewhere = "://" in name or name.startswith("keys/")  # made when the site is built
            assert elsewhere or ((ROOT / page).parent / name).is_file(), (page, name)
        for group, choice in re.findall(r"`(dataset|evaluation|head|method|callbacks|logger|validation)=(\w+)`", text):
            assert (ROOT / "conf" / group / f"{choice}.yaml").is_file(), (page, group, choice)
    assert f"`head=` chooses among {len(list((ROOT / 'conf/head').glob('*.yaml'))) - 1} " in README  # but `none`
