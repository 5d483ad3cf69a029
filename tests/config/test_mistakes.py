"""Every mistake of the user's: one message that names key, origin and fix; exit code 2; no traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdface.config.compose import compose
from tests.conftest import TINY, Kdface, Said


def _one_message(said: Said) -> str:
    assert said.code == 2, said
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert "Traceback" not in said.err and "HYDRA_FULL_ERROR" not in said.err
    return said.err


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("metod=spherefacer", ["unknown key 'metod'", "method=spherefacer", "command line: metod=spherefacer"]),
        ("+trainer.max_epoch=3", ["unknown key 'trainer.max_epoch'", "trainer.max_epochs", "command line: +trainer"]),
        ("trainer.max_epoch=3", ["unknown key 'trainer.max_epoch'", "trainer.max_epochs=3"]),
        ("trainer.max_epoch=0", ["trainer.max_epochs=0 cannot be used", "greater than or", "trainer.max_epochs=VALUE"]),
        ("trainer.max_epoc=0", ["trainer.max_epochs=0 cannot be used", "greater than or", "trainer.max_epochs=VALUE"]),
        ("backbone=resnt18", ["no backbone named 'resnt18'", "backbone=iresnet18", "kdface list backbone"]),
        ("head.margn=1.4", ["unknown key 'head.margn'", "head.margin"]),
        ("head.margn=0.2", ["unknown key 'head.margn'", "head.margin=0.2 cannot be used", "head.margin=VALUE"]),
        ("trainer.max_epochs=abc", ["trainer.max_epochs = 'abc'", "valid integer"]),
        ("trainer.max_epochs=0", ["trainer.max_epochs = 0", "greater than or equal to 1"]),
        ("seed=abc", ["seed = 'abc'", "valid integer"]),
        ("head.margin=0.5", ["head.margin = 0.5", "greater than or equal to 1"]),
        ("hardware.profile=plane", ["hardware.profile = 'plane'", "hardware.profile=plain"]),
        ("head.num_classes=5", ["head.num_classes", "read from the dataset"]),
        ("head=none", ["SphereFaceR requires a head", "head is none"]),
        ("method.views.student=masked", ["method.views.student = 'masked'", "Standard", "image"]),
        ("evaluation.toy_pairs.dataset.size=[48,48]", ["the network", "evaluation.toy_pairs", "[32, 32]", "[48, 48]"]),
        ("backbone._target_=os.system", ["is outside the packages", "KDFACE_PLUGINS"]),
        ("backbone._target_=kdface.runs.folder.write_text", ["is outside the packages"]),
        ("backbone._target_=kdface.backbones.iresnet81", ["exports no 'iresnet81'", "iresnet18"]),
        ("backbone._target_=kdface.backbones.backbone.Backbone", ["is outside the packages"]),
        ("optimizer.lr=-1", ["optimizer cannot be built", "-1", "kdface config why optimizer"]),
        ("head=null", ["SphereFaceR requires a head", "head is none"]),  # null is the choice none
        ("optimizer=null", ["optimizer=null: a run needs one", "adamw, sgd", "command line: optimizer=null"]),
        ("scheduler=null", ["scheduler=null: a run needs one", "nearest:   scheduler=constant"]),
        ("seed=cast(3)", ["Unknown function 'cast'", "bool, choice, float", "fix:       seed=3"]),
        ("seed:1", ["it has no '='", "fix:       seed=1"]),
        (
            "head=arcface,cosface",
            ["gives several values", "fix:       add -m to sweep over head"],
        ),
        ("logger=tensorboard,csv", ["fix:       logger=[tensorboard,csv], or add -m"]),
        ("seed=1e3", ["a valid integer", "seed=1000"]),
        ("head._target_=1", ["_target_ is 1", "a dotted name such as kdface.heads.CosFace"]),
        ("optimizer._target_=null", ["_target_ is None", "a dotted name such as"]),
        ("backbone={_target_:os.system}", ["is outside the packages", "command line: backbone="]),
        (
            "+trainer.callbacks.x._target_=a.B",
            ["is not supported", "command line: +trainer.callbacks.x"],
        ),
        (
            "augmentation._target_=albumentations.Blur",
            ["augmentation.before=[{_target_:albumentations.Blur}]"],
        ),
        ("trainer=3", ["trainer = 3 is not a choice", "default"]),
        ("loader.batch_size=1000", ["loader.batch_size = 1000 is more than the 36 training images"]),
        ("trainer.max_epochs=[", ["cannot read the override", "trainer.max_epochs=["]),
        ("~method", ["method is required", "(kdface list method)"]),
        ("method=maskinv", ["teacher.run has no value yet", "a folder that contains only that run"]),
        ("paths.data=${nowhere}", ["cannot be resolved", "nowhere"]),
    ],
)
def test_a_mistaken_override(kdface: Kdface, tmp_path: Path, override: str, told: list[str]) -> None:
    said = _one_message(kdface("train", *TINY, f"paths.runs={tmp_path}/runs", override))
    for text in told:
        assert text in said, said


@pytest.mark.parametrize("given", ["[2.5]", "-1", "[2.5,-1]"])
def test_a_value_of_either_of_two_kinds(kdface: Kdface, tmp_path: Path, given: str) -> None:
    words = ["experiment=ckd/ckd", f"method.temperature={given}", f"paths.runs={tmp_path}/runs"]
    said = _one_message(kdface("train", *words))
    assert "float > 0 or [float > 0, float > 0]" in said and f"method.temperature={given}" in said


def test_a_dataset_that_is_not_there(kdface: Kdface, tmp_path: Path) -> None:
    said = _one_message(kdface("train", "dataset=pins90", "evaluation=none", f"paths.data={tmp_path}/nowhere"))
    assert f"{tmp_path}/nowhere/pins90" in said
    assert "paths.data" in said and "KDFACE_DATA" in said


def test_a_misspelt_key_in_a_file_of_the_users_names_file_and_line(kdface: Kdface, tmp_path: Path) -> None:
    mine = tmp_path / "mine" / "experiment"
    mine.mkdir(parents=True)
    (mine / "night.yaml").write_text("# @package _global_\n# long\ntrainer:\n  max_epochs: 2\n  max_step: 9\n")
    said = _one_message(kdface("train", "experiment=night", "--config-dir", str(tmp_path / "mine")))
    assert "unknown key 'trainer.max_step'" in said
    assert "trainer.max_steps" in said
    assert "night.yaml:5" in said


def test_a_misspelt_key_of_a_wrong_value_is_no_other_key(kdface: Kdface, tmp_path: Path) -> None:
    mine = tmp_path / "mine" / "experiment"
    mine.mkdir(parents=True)
    (mine / "night.yaml").write_text("# @package _global_\ntrainer:\n  max_epoch: 0\n")
    said = _one_message(kdface("train", "experiment=night", "--config-dir", str(tmp_path / "mine")))
    assert "unknown key 'trainer.max_epoch', and trainer.max_epochs = 0 cannot be used" in said
    assert "nearest" not in said and "night.yaml:3" in said


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["experiment=demo", "seed=1"], "fix:       kdface train experiment=demo seed=1 --cfg job"),
        (["why", "experiment=demo"], "fix:       kdface train experiment=demo --cfg job"),
        (["head.margin", "experiment=demo"], "fix:       kdface config why head.margin experiment=demo"),
        (["wy", "head.margin"], "nearest:   kdface config why"),
        ([], "kdface config: invalid arguments."),
        (["why", "head.margin", "--foo"], "unrecognized arguments: --foo"),
    ],
)
def test_what_is_typed_in_place_of_config_why(kdface: Kdface, words: list[str], told: str) -> None:
    assert told in _one_message(kdface("config", *words))


def test_a_group_that_is_misspelt_in_a_file_of_the_users(kdface: Kdface, tmp_path: Path) -> None:
    mine = tmp_path / "mine" / "experiment"
    mine.mkdir(parents=True)
    (mine / "night.yaml").write_text("# @package _global_\ntrainr:\n  max_epochs: 2\n")
    said = _one_message(kdface("train", "experiment=night", "-cd", str(tmp_path / "mine")))
    assert "unknown key 'trainr'" in said and "night.yaml:2" in said and "trainer" in said


@pytest.mark.parametrize("words", [["trian"], ["data", "verfy", "toy_faces"], ["list", "bakbone"], ["evaluate"]])
def test_a_mistaken_command(kdface: Kdface, words: list[str]) -> None:
    assert "expected:" in _one_message(kdface(*words))


def test_an_unknown_flag(kdface: Kdface) -> None:
    assert "--cgf" in _one_message(kdface("train", "--cgf", "job"))


def test_a_run_that_is_not_there(kdface: Kdface, tmp_path: Path) -> None:
    assert "the folder contains no run" in _one_message(kdface("evaluate", f"run={tmp_path}/gone"))


def test_a_file_that_is_no_yaml(kdface: Kdface, tmp_path: Path) -> None:
    mine = tmp_path / "mine" / "experiment"
    mine.mkdir(parents=True)
    (mine / "night.yaml").write_text("# @package _global_\ntrainer: [unclosed\n")
    said = _one_message(kdface("train", "experiment=night", "-cd", str(tmp_path / "mine")))
    assert "night.yaml" in said


def test_a_corrected_path_is_taken(kdface: Kdface, tmp_path: Path) -> None:
    """A first command with a wrong path leaves nothing behind that stands in the way of the right one."""
    words = ["train", *TINY, "trainer.max_steps=1", f"paths.runs={tmp_path}/runs", "dataset=image_folder"]
    words = [word for word in words if not word.startswith(("dataset.people", "dataset.images", "dataset=toy"))]
    said = _one_message(kdface(*words, "dataset.root=${paths.data}/faces", f"paths.data={tmp_path}/wrong"))
    assert "wrong" in said
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["backbone=iresnet18,resnt18"],
        ["head.margn=1,2"],
        ["hydra/launcher=basic", "seed=0,1"],
        ["hydra.launcher.n_jobs=abc", "seed=0,1"],
        ["head=spherefacer,none"],
    ],
)
def test_a_mistake_in_a_sweep(kdface: Kdface, tmp_path: Path, words: list[str]) -> None:
    _one_message(kdface("train", "-m", *TINY, f"paths.runs={tmp_path}/runs", *words))
    assert not list(tmp_path.rglob("config.yaml"))


def test_the_first_job_of_a_sweep_is_shown(kdface: Kdface) -> None:
    shown = ["--cfg", "job", "--package", "head"]
    said = kdface("train", "-m", *shown, "head=cosface,arcface", "seed=0,1")
    assert said.code == 0 and said.out.startswith("# the first of 4 jobs: head=cosface seed=0\n")
    assert said.out.partition("\n")[2] == kdface("train", *shown, "head=cosface", "seed=0").out


@pytest.mark.parametrize("word", ["seed 1", "seed:1", "name=a;b", "seed=cast(3)", "seed==1", "x=[", "x=a,"])
def test_no_class_of_hydras_parser_is_named(kdface: Kdface, word: str) -> None:
    assert "Exception" not in _one_message(kdface("train", *TINY, word))


def test_kept_values_of_a_replaced_part_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        compose([*TINY, "optimizer.momentum=0.8", "optimizer._target_=torch.optim.RMSprop"])
    (told,) = [record.getMessage() for record in caplog.records if "whose values stay" in record.getMessage()]
    assert told.startswith("optimizer._target_ replaces a part") and "momentum" not in told
    assert "weight_decay = 0.0005 (" in told and "sgd.yaml:" in told


def test_the_name_of_a_test_set_cannot_leave_the_run_folder(kdface: Kdface, tmp_path: Path) -> None:
    override = "+evaluation={'../../escaped':{_target_:kdface.evaluation.random_verification}}"
    said = kdface("train", *TINY, f"paths.runs={tmp_path}/runs", override)
    assert said.code == 2
    assert not list(tmp_path.rglob("escaped*"))
