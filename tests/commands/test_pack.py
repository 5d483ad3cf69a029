"""A pack is taken wherever a run is, and a zip file that holds anything else is refused."""

from __future__ import annotations

import json
import shutil
import stat
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from kdface.assembly.load import load_network, load_run
from kdface.config.fingerprint import fingerprint
from kdface.errors import UserError
from kdface.recogniser.load import load
from kdface.reports.card import model_card
from kdface.runs.folder import RunFolder
from kdface.runs.pack import FILES, unpacked
from kdface.teachers.quality.labels import identity
from tests.conftest import UNTESTED, Kdface, only_run
from tests.recogniser.conftest import TESTED
from tests.recogniser.conftest import faces as faces
from tests.recogniser.conftest import run as run


@pytest.fixture(scope="module")
def packed(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from kdface.cli import main

    folder = tmp_path_factory.mktemp("packs")
    assert main(["pack", str(run), "-o", str(folder / "model.zip")]) == 0
    assert main(["pack", str(run), "-o", str(folder / "model")]) == 0
    return folder


def test_a_pack_holds_the_run_and_nothing_of_this_machine(packed: Path, run: Path) -> None:
    folder = packed / "model"
    assert sorted(file.name for file in folder.iterdir()) == sorted(FILES)
    with zipfile.ZipFile(packed / "model.zip") as content:
        for file in folder.iterdir():
            if file.name not in ("README.md", "fingerprints.json"):  # these name the file
                assert content.read(file.name) == file.read_bytes()
        assert content.namelist() == list(FILES)
    for file in folder.iterdir():
        assert str(run.parents[2]).encode() not in file.read_bytes(), file.name
    method = load_run(run).method
    weights = load_file(folder / "model.safetensors")
    assert weights.keys() == method.state_dict().keys()
    assert all(torch.equal(weights[key], value) for key, value in method.state_dict().items())
    assert fingerprint(RunFolder(folder).read_config()) == fingerprint(RunFolder(run).read_config())
    assert RunFolder(folder).read_results()["metrics"] == RunFolder(run).read_results()["metrics"]
    environment = json.loads((folder / "environment.json").read_text())
    assert "packages" in environment and "git" not in environment


def test_the_card_has_front_matter_data_results_and_thresholds(packed: Path, run: Path) -> None:
    text = (packed / "model" / "README.md").read_text(encoding="utf-8")
    _, front, body = text.split("---\n", 2)
    about = yaml.safe_load(front)
    assert about["library_name"] == "kdface" and about["license"]
    results = RunFolder(run).read_results()
    (entry,) = about["model-index"][0]["results"]
    assert entry["dataset"]["name"] == "toy_pairs"
    assert {metric["type"]: metric["value"] for metric in entry["metrics"]}["eer"] == results["metrics"][
        "toy_pairs/eer"
    ]["value"]
    (point,) = results["operating_points"]["toy_pairs"]
    assert f"| toy_pairs | 1e-2 | {point['threshold']:.4f} | {point['low']:.4f}" in body
    assert "36 images of 6 people" in body and "32x32" in body and "## Intended use and limits" in body
    name = str(RunFolder(run).read_config()["head"]["_target_"])
    assert f"| head in training | `{name}` |" in body


def test_the_name_of_a_test_stays_in_its_cell() -> None:
    preprocessing = {"size": [8, 8], "template": "arcface", "color": "rgb", "mean": 0.5, "std": 0.5}
    about = {"preprocessing": preprocessing, "embedding_size": 4, "parameters": 1, "step": 1}
    point = {"far": 0.01, "threshold": 0.5, "low": 0.4, "high": 0.6, "tar": 0.9}
    results = {"metrics": {"a|b/eer": {"value": 0.25}}, "operating_points": {"a|b": [point]}}
    text = model_card("m", {}, about, results, {}, "m.zip")
    assert "| a\\|b/eer | 0.2500 |" in text and "| a\\|b | 1e-2 | 0.5000 |" in text


@pytest.mark.parametrize("name", ["model", "model.zip"])
def test_a_pack_is_loaded_evaluated_and_teaches(
    kdface: Kdface, packed: Path, run: Path, faces: Path, tmp_path: Path, name: str
) -> None:
    pack = packed / name
    ours, theirs = load(pack, "cpu"), load(run, "cpu")
    np.testing.assert_array_equal(ours.embed(faces), theirs.embed(faces))
    np.testing.assert_array_equal(ours.quality(faces), theirs.quality(faces))
    assert ours.points == theirs.points and ours.points
    teacher, before = load_network(pack), load_network(run)
    assert teacher.fingerprint == before.fingerprint
    words = [word for word in TESTED if word.startswith("evaluation")]
    said = kdface("evaluate", f"run={pack}", *words)
    assert said.code == 0, said.err
    folder = pack if name == "model" else unpacked(pack)
    (later,) = RunFolder(folder).read_later().values()
    assert later["metrics"] == RunFolder(run).read_results()["metrics"]
    assert RunFolder(folder).is_of_end(later, RunFolder(folder).read_results())
    if name == "model.zip":
        words = ["method=maskinv", f"teacher.run={pack}", "trainer.max_steps=1", f"paths.runs={tmp_path}/runs"]
        said = kdface("train", *UNTESTED, *words)
        assert said.code == 0, said.err
        card = RunFolder(only_run(tmp_path / "runs")).read_data()["teacher"]
        assert card["fingerprint"] == identity(before)


def test_what_is_no_pack_is_not_unpacked(packed: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(packed / "model.zip") as content:
        good = {name: content.read(name) for name in content.namelist()}
    link = zipfile.ZipInfo("DONE")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    less = {name: value for name, value in good.items() if name != "config.yaml"}
    cases: list[tuple[dict[str, bytes], zipfile.ZipInfo | str | None, int, str]] = [
        (good, "../outside", zipfile.ZIP_STORED, "'../outside', which is not part of a pack"),
        (good, "/tmp/outside", zipfile.ZIP_STORED, "not part of a pack"),
        (good, "checkpoints/last.ckpt", zipfile.ZIP_STORED, "not part of a pack"),
        ({name: value for name, value in good.items() if name != "DONE"}, link, zipfile.ZIP_STORED, "as a link"),
        (good, None, zipfile.ZIP_DEFLATED, "is compressed"),
        (less, None, zipfile.ZIP_STORED, "no config.yaml"),
        (good, "DONE", zipfile.ZIP_STORED, "a file twice"),
    ]
    for number, (files, extra, kind, told) in enumerate(cases):
        path = tmp_path / f"bad{number}.zip"
        with zipfile.ZipFile(path, "w", kind) as content:
            for name, value in files.items():
                content.writestr(name, value)
            if extra is not None:
                content.writestr(extra, b"x")
        with pytest.raises(UserError, match=told):
            load(path)
        assert not list(unpacked_folders(path))
    (tmp_path / "text.zip").write_text("no zip")
    with pytest.raises(UserError, match="cannot be read as a zip file"):
        load(tmp_path / "text.zip")
    assert not (tmp_path / "outside").exists() and not Path("/tmp/outside").exists()


def unpacked_folders(path: Path) -> list[Path]:
    from kdface.datasets.cache import cache_folder

    return [path for path in (cache_folder() / "packs").glob(f"{path.stem}-*") if path.is_dir()]


def test_a_pack_that_was_changed_or_names_other_code_is_refused(packed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(packed / "model", folder)
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    with pytest.raises(UserError, match="has changed since it was packed"):
        load(folder)
    shutil.copy(packed / "model" / "model.safetensors", folder)
    text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(text.replace("kdface.backbones.iresnet_nano", "os.system"))
    with pytest.raises(UserError, match="has changed since it was packed"):
        load(folder)
    (folder / "fingerprints.json").unlink()
    with pytest.raises(UserError, match="outside the packages"):
        load(folder)


def test_mistakes(kdface: Kdface, run: Path, packed: Path, tmp_path: Path) -> None:
    said = kdface("pack", str(run), "-o", str(packed / "model.zip"))
    assert said.code == 2 and "is not overwritten" in said.err
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    (copy / "DONE").unlink()
    said = kdface("pack", str(copy))
    assert said.code == 2 and "is not finished" in said.err and not list(tmp_path.glob("*.zip"))
    assert kdface("pack").code == 2
