"""What users of Hydra expect, and what they miss: origins, differences, choices."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf

from kdface.config import hydra_api
from kdface.config.compose import compose, compose_in, hydra_context, load
from kdface.config.fingerprint import difference, fingerprint
from kdface.config.locate import locate
from kdface.config.paths import choices, conf_folder, groups, root_groups
from kdface.errors import UserError
from tests.conftest import TINY, Kdface


def test_cfg_job_prints_the_composed_configuration(kdface: Kdface) -> None:
    said = kdface("train", "--cfg", "job", "backbone=iresnet18", "seed=7")
    assert said.code == 0
    shown = yaml.safe_load(said.out)
    assert shown["seed"] == 7
    assert "iresnet18" in shown["backbone"]["_target_"]


def test_seed_0_is_a_seed() -> None:
    assert compose([*TINY, "seed=0"]).tree["seed"] == 0


def test_seed_null_draws_one_and_records_it(kdface: Kdface, tmp_path: Path) -> None:
    for _ in range(2):
        said = kdface("train", *TINY, "seed=null", "trainer.max_steps=1", f"paths.runs={tmp_path}/runs")
        assert said.code == 0, said
    seeds = {yaml.safe_load(file.read_text())["seed"] for file in (tmp_path / "runs").rglob("config.yaml")}
    assert len(seeds) == 2
    assert all(isinstance(seed, int) for seed in seeds)


def test_why_looks_into_the_users_own_folder(kdface: Kdface, tmp_path: Path) -> None:
    (tmp_path / "head").mkdir()
    (tmp_path / "head" / "own.yaml").write_text("_target_: kdface.heads.CosFace\nmargin: 0.2\n")
    said = kdface("config", "why", "head.margin", "head=own", "-cd", str(tmp_path))
    assert said.code == 0
    assert said.out.startswith("head.margin = 0.2\n") and said.out.endswith("head/own.yaml:2\n")


def test_the_group_of_loggers_may_be_deleted(kdface: Kdface) -> None:
    assert kdface("train", "experiment=demo", "~logger", "--cfg", "job").code == 0


def test_why_names_the_file_line_or_override_and_what_it_replaced(kdface: Kdface) -> None:
    said = kdface("config", "why", "trainer.max_epochs", "experiment=demo", "trainer.max_epochs=3")
    assert said.code == 0
    lines = said.out.splitlines()
    assert lines[0] == "trainer.max_epochs = 3"
    assert "command line: trainer.max_epochs=3" in lines[1]
    overridden = [line for line in lines if line.strip().startswith("over ")]
    for line, name in zip(overridden, ["experiment/demo.yaml", "trainer/default.yaml"], strict=True):
        file, number = line.split()[-1].rsplit(":", 1)
        assert name in file
        assert "max_epochs:" in (conf_folder() / name).read_text().splitlines()[int(number) - 1]


def test_a_users_folder_is_laid_over_the_shipped_one(tmp_path: Path) -> None:
    (tmp_path / "backbone").mkdir()
    (tmp_path / "backbone" / "mine.yaml").write_text(
        "# mine\n_target_: kdface.backbones.iresnet18\nembedding_size: 64\ndropout: 0.0\n"
    )
    tree = compose(["backbone=mine"], [tmp_path]).tree
    assert tree["backbone"]["embedding_size"] == 64


def test_the_fingerprint_ignores_where_and_how_fast_but_not_what() -> None:
    same = [["paths.runs=elsewhere"], ["loader.num_workers=2"], ["logger=wandb"], ["seed=5"], ["name=other"]]
    base = fingerprint(compose(TINY).tree)
    for overrides in same:
        assert fingerprint(compose([*TINY, *overrides]).tree) == base, overrides
    for overrides in (["head.margin=1.5"], ["loader.batch_size=4"], ["dataset.people=5"]):
        assert fingerprint(compose([*TINY, *overrides]).tree) != base, overrides


def test_difference_lists_exactly_what_differs() -> None:
    one, two = {"a": {"b": 1, "c": [1, 2]}, "d": 3}, {"a": {"b": 2, "c": [1, 2]}, "e": 3}
    assert difference(one, two) == [("a.b", 1, 2), ("d", 3, "(not set)"), ("e", "(not set)", 3)]


@pytest.mark.parametrize(
    "words",
    [
        ["experiment=demo", "trainer.max_epochs=3", "backbone=iresnet18", "trainer.max_epochs=4"],
        ["backbone={embedding_size: 7}", "+new={a: [1, 2]}", "++head.margin=1.25", "~hardware.profile"],
        ["~scheduler", "optimizer.lr=0.5"],
        ["+optimizer@second=sgd", "second.lr=0.25"],
        ["hydra.searchpath=[file://{folder}]", "+extra@trainer=one", "trainer.added=2"],
        ["hydra.searchpath=[file://{folder}]", "+extra=one", "hydra.launcher.n_jobs=3"],
    ],
)
def test_values_laid_over_shared_choices_make_what_hydra_makes(words: list[str], tmp_path: Path) -> None:
    (tmp_path / "extra").mkdir()
    (tmp_path / "extra" / "one.yaml").write_text("added: 1\n")
    words = [word.replace("{folder}", str(tmp_path)) for word in words]
    with hydra_context([]) as hydra:
        whole = hydra.config_loader.load_configuration("config", words, RunMode.RUN)
        ours = load(hydra, words).config
    for config in (whole, ours):  # of the command line itself Hydra keeps a copy, which nothing here reads
        OmegaConf.set_struct(config, False)
        config.hydra = {key: config.hydra[key] for key in ("launcher", "sweeper", "searchpath")}
    assert OmegaConf.to_container(ours) == OmegaConf.to_container(whole)


def test_jobs_of_one_command_share_choices_and_no_values() -> None:
    with hydra_context([]) as hydra:
        first = compose_in(hydra, [*TINY, "seed=7", "trainer.max_epochs=9"])
        second = compose_in(hydra, TINY)
    assert (first.tree["seed"], first.tree["trainer"]["max_epochs"]) == (7, 9)
    assert first.origins.of("seed") == "command line: seed=7"
    with hydra_context([]) as hydra:
        hydra_api._choose.cache_clear()
        for seed in range(3):
            compose_in(hydra, [*TINY, f"seed={seed}"])
    assert hydra_api._choose.cache_info().misses == 1
    alone = compose(TINY)
    assert (second.tree, second.choices, second.origins) == (alone.tree, alone.choices, alone.origins)


def test_what_was_composed_before_is_told_from_the_folder_one_is_in_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for folder in (tmp_path, conf_folder().parent):
        monkeypatch.chdir(folder)
        with hydra_context([]) as hydra:
            assert load(hydra, TINY).config.hydra.runtime.cwd == str(folder)
        found.append(compose(TINY).origins.of("head.margin"))
    assert found[0] == f"{conf_folder().parent}{os.sep}{found[1]}" and found[1].startswith("conf")


def test_a_file_that_changes_between_two_commands_is_read_again(tmp_path: Path) -> None:
    shipped = tmp_path / "conf"
    (shipped / "extra").mkdir(parents=True)
    (shipped / "config.yaml").write_text("defaults: [_self_]\nvalue: 1\n")
    (own := tmp_path / "own" / "extra").mkdir(parents=True)

    def value(*words: str) -> object:
        hydra = hydra_api.hydra_over(shipped, [])
        try:
            return hydra.config_loader.choose(words).config["value"]
        finally:
            GlobalHydra.instance().clear()

    assert value() == 1
    (shipped / "config.yaml").write_text("defaults: [_self_]\nvalue: 22\n")
    assert value() == 22
    (own / "one.yaml").write_text("# @package _global_\nvalue: 3\n")
    words = (f"hydra.searchpath=[file://{own.parent}]", "+extra=one")
    assert value(*words) == 3
    (own / "one.yaml").write_text("# @package _global_\nvalue: 4\n")  # of the same size, in a folder that none watches
    assert value(*words) == 4


@pytest.mark.parametrize("group", groups())
def test_every_choice_is_described_in_one_line(group: str) -> None:
    for name, text in choices(group).items():
        assert 3 <= len(text) <= 140, (name, text)


def written(group: str, choice: str) -> str:
    """The text of a choice's file, and of those of its group that it builds upon."""
    text = (conf_folder() / group / f"{choice}.yaml").read_text()
    bases = [
        choice for choice in (yaml.safe_load(text) or {}).get("defaults", ()) if str(choice).startswith(f"/{group}/")
    ]
    return text + "".join(written(group, base.removeprefix(f"/{group}/")) for base in bases)


def company(group: str, choice: str) -> list[str]:
    """What a choice cannot do without: values that are for the user to say, and parts that it fits."""
    given = [f"{group}={choice}"]
    if (group, choice) == ("head", "none"):
        given.append("method=facenet")
    if (group, choice) in (("dataset", "image_folder"), ("dataset", "ckd_folders"), ("dataset", "raw_folder")):
        given += ["dataset.root=faces", "evaluation=none"]
    if (group, choice) == ("dataset", "raw_folder"):
        given.append("dataset.landmarks=points.csv")
    if (group, choice) == ("evaluation", "ckd_folders_calibration"):
        given += ["dataset=ckd_folders", "dataset.root=faces"]
    if group == "augmentation":
        target = yaml.safe_load((conf_folder() / "augmentation" / f"{choice}.yaml").read_text())["_target_"]
        given.append(f"method.views.student={locate(target).views[0]}")  # type: ignore[attr-defined]
    if group == "teacher" and choice != "none":
        given.insert(0, "method=aikd" if "quality" in choice else "method=distillation")
    if (group, choice) in (("evaluation", "lfw_ytf_quality"), ("evaluation", "benchmarks_quality")):
        given += ["method=aikd", "teacher.run=runs/teacher"]
    if group == "evaluation" and choice.startswith("training_"):
        given.append("dataset=pins90_20")
    if group == "evaluation" and choice.endswith("_harmonic"):
        given += ["method=harmonic", "teacher.run=runs/teacher", "method.start_from=runs/new"]
    described = written(group, choice)
    if (
        choice.startswith("ckd/official_")
        or "override /dataset: ckd_folders" in described
        or "override /dataset: image_folder" in described
    ):
        given.append("dataset.root=faces")
    if group == "evaluation" and choice in (
        "periocular",
        "periocular_sharp",
        "pins90_periocular",
        "eyes_and_faces",
        "training_people",
        "training_people_few",
        "training_faces",
    ):
        given += ["augmentation=periocular", "method.views.student=periocular"]
    if group == "transfer" and choice != "none":
        given.insert(0, "method=distillation")
        given.append("teacher.run=runs/teacher")
    if group == "callbacks" and choice in ("best", "early_stopping"):
        given.append("validation=people")
    text = described
    if (group in ("teacher", "experiment") and "run: ???" in text) or (
        group == "method" and choice in ("aikd", "distillation", "harmonic", "maskinv")
    ):
        given.append("teacher.run=runs/teacher")
    if choice in ("ckd/frozen_teacher", "facenet/vggface2_harmonic"):
        given.append("teacher.run=runs/teacher")
    if choice in ("harmonic", "facenet/vggface2_harmonic"):
        given.append("method.start_from=runs/new")
    if "weights: ???" in text or "override /teacher: weights" in text:
        given.append("teacher.weights=teacher.pth")
    if "path: ???" in text:
        given.append("teacher.quality.path=labels.csv")
    if group in ("teacher", "weights") and "file: ???" in text:
        given.append(f"{group}.file=network.npz")
    if (group, choice) == ("weights", "run"):
        given.append("weights.run=runs/source")
    return given


# callbacks=swa is there to be refused by name, with what to use instead
REFUSED = ("callbacks", "swa")
CHOICES = [(group, choice) for group in root_groups() for choice in choices(group) if (group, choice) != REFUSED]


def test_swa_is_refused_with_what_serves_instead() -> None:
    with pytest.raises(UserError, match=r"callbacks=none ema\.decay"):
        compose(["callbacks=swa"])


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_every_choice_composes_and_passes_its_check(group: str, choice: str) -> None:
    assert compose(company(group, choice)).choices[group] == choice


def test_a_test_set_meets_a_protocol_on_the_command_line() -> None:
    words = ["+protocol@evaluation.mine=random", "+testset@evaluation.mine.dataset=toy"]
    tests = compose(["evaluation=toy_pairs", *words]).tree["evaluation"]
    assert tests["mine"] == {key: tests["toy_pairs"][key] for key in ("_target_", "dataset")}
    words = ["+teacher@evaluation.toy_quality.recognition=embeddings", "evaluation.toy_quality.recognition.file=/e.npz"]
    found = compose(["evaluation=toy_quality", "head=magface", *words]).tree["evaluation"]["toy_quality"]["recognition"]
    assert {"_target_": "kdface.teachers.from_embeddings", "file": "/e.npz"}.items() <= found.items()


def test_a_part_that_follows_another_is_given_values_of_its_own(kdface: Kdface) -> None:
    """`probes.dataset` is `${..dataset}`, and in its turn what `toy_masked_clean.dataset` becomes."""
    people = ["evaluation.toy_masked_clean.dataset.people=9", "evaluation.toy_masked_clean.probes.dataset.seed=5"]
    said = kdface("train", "--cfg", "job", "--resolve", "evaluation=toy_masked", *people, "trainer.fast_dev_run=true")
    assert said.code == 0, said
    tests = yaml.safe_load(said.out)["evaluation"]
    clean = tests["toy_masked_clean"]
    assert (clean["dataset"]["people"], clean["probes"]["dataset"]["people"]) == (9, 9)
    assert (clean["dataset"]["seed"], clean["probes"]["dataset"]["seed"]) == (0, 5)
    assert tests["toy_masked_masked"]["dataset"]["dataset"] == tests["toy_pairs"]["dataset"]
    assert "no such node" in kdface("train", "--cfg", "job", "--package", "optimzer").err


def test_list_shows_groups_and_choices(kdface: Kdface) -> None:
    assert "backbone" in kdface("list").out
    said = kdface("list", "backbone")
    assert any(line.startswith("iresnet18 ") and "parameters" in line for line in said.out.splitlines())
