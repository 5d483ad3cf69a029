"""Paths and names in a configuration: a run means the same from every folder and lies below paths.runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kdface.api import compose as compose_from_python
from kdface.commands.evaluate import _laid_over
from kdface.commands.prepare import run_folder
from kdface.commands.reproduce import moved
from kdface.config.compose import compose
from kdface.config.files import paths_in
from kdface.config.fingerprint import fingerprint, fingerprints_of_before, portable
from kdface.errors import UserError
from kdface.runs.folder import RunFolder, prepare
from kdface.runs.named import is_edited
from tests.conftest import TINY, Kdface

FOLDER = ["dataset=image_folder", "dataset.size=[32,32]", "evaluation=none"]
# overrides, the key of a path, and what was typed for it
TYPED: list[tuple[list[str], str, str]] = [
    ([*FOLDER, "dataset.root={}"], "dataset.root", "faces"),
    (["evaluation=lfw", "dataset.size=[112,112]", "evaluation.lfw.pairs={}"], "evaluation.lfw.pairs", "pairs.txt"),
    (["evaluation=lfw", "evaluation.lfw.dataset.root={}"], "evaluation.lfw.dataset.root", "lfw"),
    (["evaluation=lfw", "evaluation.lfw.dataset.landmarks={}"], "evaluation.lfw.dataset.landmarks", "l.csv"),
    (["method=maskinv", "teacher=run", "teacher.run={}"], "teacher.run", "runs/demo"),
    (["paths.data={}"], "paths.data", "data"),
]


def at(tree: Any, key: str) -> Any:
    for part in key.split("."):
        tree = tree[part]
    return tree


@pytest.mark.parametrize(("words", "key", "typed"), TYPED, ids=[key for _, key, _ in TYPED])
def test_every_path_is_absolute_and_the_home_folder_is_known(
    words: list[str], key: str, typed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/ada")
    for given, expected in ((typed, f"{tmp_path}/{typed}"), (f"~/{typed}", f"/home/ada/{typed}")):
        tree = compose_from_python(*(word.format(given) for word in words))
        assert at(tree, key) == expected


def test_two_projects_with_the_same_words_are_two_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = set()
    for project in ("one", "two"):
        (tmp_path / project).mkdir()
        monkeypatch.chdir(tmp_path / project)
        names.add(fingerprint(compose([*FOLDER, "dataset.root=faces", f"paths.runs={tmp_path}/runs"]).tree))
    assert len(names) == 2


@pytest.mark.parametrize("folders", [("a", "b"), ("josé", "顔"), ("josé", "a")])
def test_data_below_paths_data_names_a_run_wherever_it_lies(tmp_path: Path, folders: tuple[str, str]) -> None:
    trees = [
        compose([*FOLDER, "dataset.root=${paths.data}/faces", f"paths.data='{tmp_path}/{folder}'"]).tree
        for folder in folders
    ]
    assert fingerprint(trees[0]) == fingerprint(trees[1])
    assert [path for key, path in paths_in(trees[0]) if key == "dataset.root"] == [f"{tmp_path}/{folders[0]}/faces"]


def test_a_run_named_with_its_escaped_data_folder_is_found(tmp_path: Path) -> None:
    """As earlier versions named it: JSON writes `é` as an escape, so paths.data was not found in it."""
    words = ["dataset.root=${paths.data}/faces", f"paths.data='{tmp_path}/josé'", f"paths.runs={tmp_path}/runs"]
    composed = compose([*FOLDER, *words])
    now = run_folder(composed)
    before = RunFolder(now.root.with_name(f"seed0-{fingerprints_of_before(composed.tree)[1][:8]}"))
    assert before.root != now.root
    prepare(before.root, composed.tree, {})
    assert run_folder(composed) == before and not is_edited(before, before.read_config())


def test_a_test_set_moves_with_the_data_folder(tmp_path: Path) -> None:
    """The folder alone, not another one whose name begins with its own; in overrides too, which may hold more `=`."""
    data, now = f"{tmp_path}/josé/lr=1", f"{tmp_path}/顔"
    tree = {"root": f"{data}/lfw", "beside": f"{data}2/lfw", "words": [f"teacher.run={data}/run", "a=b"]}
    expected = {"root": f"{now}/lfw", "beside": f"{data}2/lfw", "words": [f"teacher.run={now}/run", "a=b"]}
    config = {"paths": {"data": data, "runs": "runs"}, "evaluation": tree, "dataset": {}}
    composed = {"paths": {"data": now, "runs": "runs"}, "evaluation": {}}
    assert _laid_over(config, composed, [f"paths.data={now}"])["evaluation"] == expected
    assert moved(config, Path("elsewhere"), now)["evaluation"] == expected
    assert portable(tree, {"data": data, "runs": "runs"})["words"][0] == "teacher.run=<data>/run"


@pytest.mark.parametrize("name", ["/abs", "../..", "a/../../b", "''"])
def test_a_name_stays_below_the_folder_of_runs(kdface: Kdface, tmp_path: Path, name: str) -> None:
    said = kdface("train", *TINY, f"name={name}")
    assert said.code == 2 and "points outside paths.runs" in said.err
    fix = said.err.partition("fix:")[2].split()[0]
    assert compose([*TINY, fix]).tree["name"]
    with pytest.raises(UserError):
        compose([*TINY, f"name={name}"])
