"""The recipes of SphereFace-R and FaceNet hold the published values, which are written here once more by hand. All
recipes compose with another dataset."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from kdface.config.build import build
from kdface.config.check import check_tree
from kdface.config.compose import compose, compose_in, hydra_context
from kdface.config.fingerprint import fingerprint
from kdface.config.hydra_api import Hydra
from kdface.config.origin import Origins
from kdface.config.paths import choices, conf_folder
from kdface.config.schema import Configuration
from kdface.errors import UserError
from tests.config.test_composition import company

PLAIN = {"norm": False, "order": "relu_add"}  # OpenSphere's sfnet*_deprecated
NORMED = {"norm": True, "order": "add_relu"}
SHORT = ([40_000, 60_000], 70_000)
LATE = ([80_000, 140_000, 200_000], 240_000)

# recipe -> dataset, backbone, its values, head, its values, milestones and total steps, clip norm
OPENSPHERE: dict[str, tuple[str, str, dict[str, Any], str, dict[str, Any], tuple[list[int], int], float | None]] = {
    "vggface2_sfnet20": (
        "vggface2",
        "sfnet20",
        PLAIN,
        "SphereFaceR",
        {"form": "v2", "feature_norm": "hard", "scale": 60, "margin": 1.4, "loss_weight": 50, "gradient": "detached"},
        SHORT,
        None,
    ),
    "vggface2_sfnet20_sphereface": (
        "vggface2",
        "sfnet20",
        PLAIN,
        "SphereFace",
        {"scale": 30, "margin": 1.5},
        SHORT,
        None,
    ),
    "vggface2_sfnet20_arcface": ("vggface2", "sfnet20", PLAIN, "ArcFace", {"scale": 30, "margin": 0.5}, SHORT, None),
    "vggface2_sfnet20_cosface": ("vggface2", "sfnet20", PLAIN, "CosFace", {"scale": 30, "margin": 0.35}, SHORT, None),
    "vggface2_sfnet20_normface": ("vggface2", "sfnet20", PLAIN, "NormFace", {"scale": 30}, SHORT, None),
    "vggface2_sfnet20_sphereface2": (
        "vggface2",
        "sfnet20",
        PLAIN,
        "SphereFace2",
        {"margin_type": "C", "positive_weight": 0.7, "scale": 40, "margin": 0.4, "power": 3, "loss_weight": 10},
        SHORT,
        None,
    ),
    "vggface2_sfnet20_ga_softmax": (
        "vggface2",
        "sfnet20",
        PLAIN,
        "GASoftmax",
        {"scale": 30, "margin": 1.5},
        SHORT,
        5.0,
    ),
    "vggface2_sfnet64_sphereface": (
        "vggface2",
        "sfnet64",
        PLAIN,
        "SphereFace",
        {"scale": 30, "margin": 1.5},
        SHORT,
        None,
    ),
    "vggface2_sfnet64_arcface": ("vggface2", "sfnet64", PLAIN, "ArcFace", {"scale": 30, "margin": 0.5}, SHORT, None),
    "vggface2_sfnet20_sphereface_80k": (
        "vggface2",
        "sfnet20",
        PLAIN,
        "SphereFace",
        {"scale": 30, "margin": 1.5},
        ([40_000, 60_000], 80_000),
        None,
    ),
    "ms1mv2_sfnet64bn_sphereface": (
        "recordio",
        "sfnet64",
        NORMED,
        "SphereFace",
        {"scale": 32, "margin": 1.7},
        ([100_000, 180_000, 220_000], 240_000),
        None,
    ),
    "ms1mv2_r100_sphereface_s32": (
        "recordio",
        "iresnet100",
        {},
        "SphereFace",
        {"scale": 32, "margin": 1.7},
        ([150_000, 270_000, 320_000], 360_000),
        None,
    ),
    "ms1mv2_r100_sphereface": ("recordio", "iresnet100", {}, "SphereFace", {"scale": 64, "margin": 1.7}, LATE, 100.0),
    "ms1mv2_r100_arcface": ("recordio", "iresnet100", {}, "ArcFace", {"scale": 64, "margin": 0.5}, LATE, 100.0),
    "ms1mv2_r100_cosface": ("recordio", "iresnet100", {}, "CosFace", {"scale": 64, "margin": 0.4}, LATE, 100.0),
    "ms1mv2_r100_sphereface2": (
        "recordio",
        "iresnet100",
        {},
        "SphereFace2",
        {"margin_type": "C", "positive_weight": 0.8, "scale": 64, "margin": 0.5, "power": 3, "loss_weight": 50},
        LATE,
        100.0,
    ),
}
READERS = {"vggface2": "RawFolder", "recordio": "RecordIO"}


def _ends_with(node: dict[str, Any], name: str) -> bool:
    return bool(node["_target_"].rpartition(".")[2] == name)


@pytest.mark.parametrize("name", OPENSPHERE)
def test_opensphere(name: str) -> None:
    dataset, backbone, layout, head, values, (milestones, total), clip = OPENSPHERE[name]
    tree = compose([f"experiment=spherefacer/{name}"]).tree
    assert _ends_with(tree["dataset"], READERS[dataset])
    assert _ends_with(tree["backbone"], backbone)
    assert tree["backbone"]["embedding_size"] == 512
    assert layout.items() <= tree["backbone"].items()
    assert _ends_with(tree["head"], head)
    assert values.items() <= tree["head"].items()
    assert (tree["scheduler"]["milestones"], tree["scheduler"]["unit"]) == (milestones, "step")
    assert tree["scheduler"]["gamma"] == 0.1
    trainer = tree["trainer"]
    assert (trainer["max_steps"], tree["loader"]["batch_size"], trainer["gradient_clip_val"]) == (total, 512, clip)
    optimizer = tree["optimizer"]
    assert (optimizer["lr"], optimizer["momentum"], optimizer["weight_decay"]) == (0.1, 0.9, 5e-4)
    assert tree["augmentation"]["flip"] == 0.5
    assert trainer["precision"] == ("16-mixed" if total == 240_000 and backbone == "iresnet100" else None)


def test_sphereface_of_2017() -> None:
    tree = compose(["experiment=spherefacer/casia_sfnet20_2017", "dataset.root=faces"]).tree
    head = {"margin": 4, "lambda_base": 1000, "lambda_gamma": 0.12, "lambda_power": 1, "lambda_min": 5}
    assert head.items() <= tree["head"].items()
    assert tree["dataset"]["size"] == [112, 96]
    assert (tree["loader"]["batch_size"], tree["trainer"]["max_steps"]) == (256, 28_000)
    assert (tree["scheduler"]["milestones"], tree["optimizer"]["lr"]) == ([16_000, 24_000], 0.1)


@pytest.mark.parametrize(
    ("name", "side", "backbone", "miner", "reduction", "lr"),
    [
        ("vggface2_nn2", 224, "nn2", "SemiHard", "sum", 0.05),
        ("vggface2_nn3", 160, "nn2", "SemiHard", "sum", 0.05),
        ("vggface2_nn4", 96, "nn4", "SemiHard", "sum", 0.05),
        ("vggface2_inception_resnet_v1", 160, "inception_resnet_v1", "Sandberg", "mean", 0.1),
    ],
)
def test_facenet(name: str, side: int, backbone: str, miner: str, reduction: str, lr: float) -> None:
    tree = compose([f"experiment=facenet/{name}"]).tree
    assert tree["dataset"]["size"] == [side, side]
    assert _ends_with(tree["backbone"], backbone)
    assert tree["backbone"]["embedding_size"] == 128
    method = tree["method"]
    assert _ends_with(method["miner"], miner)
    assert (method["margin"], method["reduction"]) == (0.2, reduction)
    assert (method["people_per_batch"], method["images_per_person"], tree["loader"]["batch_size"]) == (45, 40, 1800)
    assert _ends_with(tree["optimizer"], "Adagrad")
    assert tree["optimizer"]["lr"] == lr
    assert tree["head"] is None


@pytest.fixture(scope="module")
def hydra() -> Iterator[Hydra]:
    with hydra_context([]) as opened:
        yield opened


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
    given = [each for each in company("experiment", recipe) if not each.startswith("dataset.")]
    if "pins90_to_the_end" in recipe:  # its evaluation is of the images that dataset=pins90_20 holds out
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
    check_tree(before, Configuration, Origins())
    assert fingerprint(before) == fingerprint(now)
    build(before["head"], "head", embedding_size=8, num_classes=5)


def test_a_key_that_a_file_sets_and_nothing_takes_can_be_taken_off(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\n# mine\ndataset:\n  xyz: 1\n")
    with pytest.raises(UserError, match=r"unknown key 'dataset\.xyz'") as raised:
        compose(["experiment=mine"], [tmp_path])
    assert raised.value.fix == "add ~dataset.xyz to the command line"
    assert compose(["experiment=mine", "~dataset.xyz"], [tmp_path]).tree["dataset"] == dataset_file("toy_faces")
