"""The papers' recipes hold the published values (published_recipes.csv). All recipes compose with another dataset."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
import yaml

from kdface.assembly.build import build
from kdface.config.check import check_tree
from kdface.config.compose import compose, compose_in, hydra_context
from kdface.config.fingerprint import fingerprint
from kdface.config.hydra_api import Hydra
from kdface.config.paths import choices, conf_folder
from kdface.errors import UserError
from tests.config.test_composition import company

# One row a value: the experiments that it holds for (patterns), its key, and where it is published.
with open(Path(__file__).with_name("published_recipes.csv"), encoding="utf-8", newline="") as file:
    PUBLISHED = list(csv.DictReader(file))
RECIPES = [
    name
    for name in choices("experiment")
    if name.startswith("ckd/official") or name.partition("/")[2].startswith(("vggface2_", "ms1mv2_", "casia_"))
]


def _holds(row: dict[str, str], recipe: str) -> bool:
    return any(fnmatchcase(recipe, pattern) for pattern in row["experiment"].split())


@pytest.fixture(scope="module")
def hydra() -> Iterator[Hydra]:
    with hydra_context([]) as opened:
        yield opened


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_has_the_published_values(hydra: Hydra, recipe: str) -> None:
    tree = compose_in(hydra, company("experiment", recipe)).tree
    rows = [row for row in PUBLISHED if _holds(row, recipe)]
    assert len(rows) >= 5
    for row in rows:
        value: Any = tree
        for key in row["key"].split("."):
            value = value[key]
        value = value.rpartition(".")[2] if row["key"].endswith("_target_") else value
        assert value == yaml.safe_load(row["value"]), row


def test_each_published_value_is_of_a_recipe_that_is_there() -> None:
    for row in PUBLISHED:
        assert row["source"] and any(_holds(row, recipe) for recipe in RECIPES), row


def dataset_file(name: str) -> dict[str, Any]:
    """What a choice of the group says, read without Hydra, and what conf/config.yaml adds."""
    values: dict[str, Any] = yaml.safe_load((conf_folder() / "dataset" / f"{name}.yaml").read_text())
    return {"on_error": "raise", **values}


def said_of_dataset(recipe: str) -> tuple[str, dict[str, Any]]:
    """The dataset that an experiment's file, or those it builds on, names, and the values it gives it."""
    values = yaml.safe_load((conf_folder() / "experiment" / f"{recipe}.yaml").read_text())
    name = "toy_faces"
    given: dict[str, Any] = {}
    for entry in values["defaults"]:
        if isinstance(entry, str) and entry.startswith("/experiment/"):
            name, given = said_of_dataset(entry.removeprefix("/experiment/"))
        elif isinstance(entry, dict) and "override /dataset" in entry:
            name = entry["override /dataset"]
    return name, {**given, **values.get("dataset", {})}


@pytest.mark.parametrize("recipe", choices("experiment"))
def test_a_recipe_composes_with_another_dataset(hydra: Hydra, recipe: str) -> None:
    given = [word for word in company("experiment", recipe) if not word.startswith("dataset.")]
    if "_to_the_end" in recipe or recipe.startswith("distillation/"):  # evaluated on images that its dataset holds out
        given.append("evaluation=none")
    composed = compose_in(hydra, [*given, "dataset=toy_faces"])
    own, values = said_of_dataset(recipe)
    assert composed.choices["dataset"] == "toy_faces"
    assert composed.tree["dataset"] == dataset_file("toy_faces") | (values if own == "toy_faces" else {})


def test_another_dataset_keeps_its_size_and_takes_the_users_values(hydra: Hydra) -> None:
    """nn2's recipe asks its dataset for 224x224 and keep_raw; a file of records knows neither."""
    recipe = "experiment=facenet/vggface2_nn2"
    own = compose_in(hydra, [recipe]).tree
    assert (own["dataset"]["size"], own["dataset"]["keep_raw"]) == ([224, 224], False)
    records = compose_in(hydra, [recipe, "dataset=recordio", "dataset.root=/faces"])
    assert records.tree["dataset"] == dataset_file("recordio") | {"root": "/faces"}
    assert {key: own[key] for key in own if key != "dataset"} == {
        key: value for key, value in records.tree.items() if key != "dataset"
    }
    assert not records.origins.under("dataset.size") and records.origins.of("dataset.terms").endswith("recordio.yaml:5")
    given = compose_in(hydra, [recipe, "dataset=toy_faces", "dataset.size=[96,96]", "~dataset.keep_raw"])
    assert given.tree["dataset"] == dataset_file("toy_faces") | {"size": [96, 96]}
    with pytest.raises(UserError, match=r"dataset\.keep_raw") as raised:
        compose_in(hydra, [recipe, "dataset=toy_faces", "dataset.keep_raw=false"])
    assert not raised.value.nearest  # dataset.seed is alike in the group's name alone
    assert compose_in(hydra, [recipe, "dataset=vggface2"]).tree == own


@pytest.mark.parametrize("head", ["arcface", "magface", "crfiqa", "elasticface_arc"])
def test_heads_of_one_sweep_take_one_gradient(hydra: Hydra, head: str) -> None:
    trees = [compose_in(hydra, [f"head={head}", f"head.gradient={rule}"]).tree for rule in ("exact", "detached")]
    assert [tree["head"]["gradient"] for tree in trees] == ["exact", "detached"]
    assert fingerprint(trees[0]) != fingerprint(trees[1])


@pytest.mark.parametrize("head", ["cosface", "normface", "softmax", "elasticface_cos"])
def test_a_gradient_rule_without_effect_is_an_error_and_earlier_runs_keep_their_name(hydra: Hydra, head: str) -> None:
    for word in ("head.gradient=exact", "+head.gradient=exact"):
        with pytest.raises(UserError, match=r"head\.gradient") as raised:
            compose_in(hydra, [f"head={head}", word])
        assert "margin" in raised.value.problem and raised.value.fix.startswith("remove head.gradient")
    now = compose_in(hydra, [f"head={head}"]).tree
    rule = "detached" if head == "cosface" else "exact"  # what its file said
    before = {**now, "head": {**now["head"], "gradient": rule}}
    check_tree(before)
    assert fingerprint(before) == fingerprint(now)
    build(before["head"], "head", embedding_size=8, num_classes=5)


def test_a_key_that_a_file_sets_and_nothing_takes_can_be_taken_off(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\n# mine\ndataset:\n  xyz: 1\n")
    with pytest.raises(UserError, match=r"unknown key 'dataset\.xyz'") as raised:
        compose(["experiment=mine"], [tmp_path])
    assert raised.value.fix == "add ~dataset.xyz to the command line"
    assert compose(["experiment=mine", "~dataset.xyz"], [tmp_path]).tree["dataset"] == dataset_file("toy_faces")
