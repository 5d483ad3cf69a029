"""What a run is made of: what joins it, what makes another one, what is refused (`kdface.training.identity`)."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml

from kdface.runs.folder import RunFolder
from tests.conftest import UNTESTED, Kdface, command, only_run

PEOPLE, IMAGES = 4, 6
# 24 images, three steps of eight an epoch; the set of the command is taken out of the generated one.
WORDS = [
    *(word for word in UNTESTED if not word.startswith("dataset")),
    *("dataset=image_folder", "dataset.root=faces", "dataset.size=[32,32]", "trainer.max_epochs=2"),
]


def picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    assert cv2.imwrite(str(path), noise)


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    for person in range(PEOPLE):
        for image in range(IMAGES):
            picture(tmp_path / "faces" / f"p{person}" / f"{image}.png", person * IMAGES + image)
    return tmp_path / "faces"


def weights(run: Path) -> dict[str, Any]:
    return dict(torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"])


def same(one: Path, two: Path) -> bool:
    first, second = weights(one), weights(two)
    return all(first[name].numpy().tobytes() == second[name].numpy().tobytes() for name in first)


def add_a_person(faces: Path) -> None:
    picture(faces / "new" / "0.png", 100)


def remove_an_image(faces: Path) -> None:
    (faces / "p0" / "0.png").unlink()


def replace_an_image(faces: Path) -> None:
    picture(faces / "p0" / "0.png", 101)


def touch_an_image(faces: Path) -> None:
    os.utime(faces / "p0" / "0.png", ns=(1, 1))


@pytest.mark.parametrize("change", [add_a_person, remove_an_image, replace_an_image])
def test_a_finished_run_of_other_data_is_not_the_run_that_was_asked_for(
    kdface: Kdface, faces: Path, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    assert kdface("train", *WORDS).code == 0
    run = only_run(tmp_path / "runs")
    before = (run / "results.json").read_bytes()
    change(faces)
    said = kdface("train", *WORDS)
    assert said.code == 2 and "its data has changed since" in said.err and "24 images of 4 people" in said.err
    assert (run / "results.json").read_bytes() == before
    fix = said.err.partition("current data: kdface ")[2].split("\n")[0]
    assert kdface(*shlex.split(fix)).code == 0
    assert len(list((tmp_path / "runs").rglob("DONE"))) == 2


def test_a_sweep_does_not_count_runs_of_other_data_as_finished(kdface: Kdface, faces: Path) -> None:
    assert kdface("train", *WORDS, "trainer.max_steps=1").code == 0
    assert "1 already finished" in kdface("train", "-m", *WORDS, "trainer.max_steps=1").out
    add_a_person(faces)
    said = kdface("train", "-m", *WORDS, "trainer.max_steps=1")
    assert said.code == 2 and "its data has changed since" in said.err


def test_files_that_were_only_touched_or_moved_are_the_same_run(kdface: Kdface, faces: Path, tmp_path: Path) -> None:
    assert kdface("train", *WORDS).code == 0
    touch_an_image(faces)
    assert "this run is finished" in kdface("train", *WORDS).out
    shutil.move(faces, tmp_path / "elsewhere")
    assert "this run is finished" in kdface("train", *WORDS, "dataset.root=elsewhere").out
    only_run(tmp_path / "runs")


def test_the_same_words_in_another_project_are_another_run(
    kdface: Kdface, faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("train", *WORDS, "trainer.max_steps=1", f"paths.runs={tmp_path}/runs")
    assert kdface(*words).code == 0
    first = only_run(tmp_path / "runs")
    shutil.copytree(faces, tmp_path / "project" / "faces")
    monkeypatch.chdir(tmp_path / "project")
    assert "this run is finished" in kdface(*words).out  # the same files
    replace_an_image(tmp_path / "project" / "faces")
    assert kdface(*words).code == 0
    assert len(list((tmp_path / "runs").rglob("DONE"))) == 2
    monkeypatch.chdir(tmp_path)
    (first / "DONE").unlink()
    monkeypatch.chdir("/")
    assert kdface("run", str(first)).code == 0  # from any folder


def unfinished(run: Path) -> None:
    """As a run whose last checkpoint is that of its end, and which was killed before it said so."""
    (run / "DONE").unlink()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (add_a_person, "1 added (new/0.png)"),
        (remove_an_image, "1 removed (p0/0.png)"),
        (replace_an_image, "1 used images have changed (p0/0.png)"),
    ],
)
def test_a_run_that_has_used_other_data_does_not_go_on(
    kdface: Kdface, faces: Path, tmp_path: Path, change: Callable[[Path], None], told: str
) -> None:
    assert kdface("train", *WORDS).code == 0
    run = only_run(tmp_path / "runs")
    unfinished(run)
    before = (run / "data.json").read_bytes()
    change(faces)
    said = kdface("train", *WORDS)
    assert said.code == 2 and told in said.err
    assert (run / "data.json").read_bytes() == before
    (run / "checkpoints" / "last.ckpt").unlink()  # nothing was used yet
    assert kdface("train", *WORDS).code == 0


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the whole data, never stopped."""
    folder = tmp_path_factory.mktemp("undisturbed")
    for person in range(PEOPLE):
        for image in range(IMAGES):
            picture(folder / "faces" / f"p{person}" / f"{image}.png", person * IMAGES + image)
    said = command("train", *WORDS, cwd=folder)
    assert said.returncode == 0, said.stderr
    return only_run(folder / "runs")


def break_one(faces: Path) -> Path:
    """An image that seed 0 asks for in its second step, cut in the middle."""
    from kdface.datasets.loading import shuffled

    row = int(shuffled(PEOPLE * IMAGES, 8, 0)(0)[1, 3])
    broken = faces / f"p{row // IMAGES}" / f"{row % IMAGES}.png"
    broken.write_bytes(broken.read_bytes()[:-400])
    return broken


def test_a_repaired_image_joins_the_run_and_leaves_no_trace_in_the_weights(
    kdface: Kdface, faces: Path, tmp_path: Path, undisturbed: Path
) -> None:
    whole = {file: file.read_bytes() for file in faces.rglob("*.png")}
    broken = break_one(faces)
    said = kdface("train", *WORDS)
    assert said.code == 2 and broken.name in said.err and "to resume from step 1" in said.err
    run = only_run(tmp_path / "runs")
    broken.write_bytes(whole[broken])
    assert kdface("train", *WORDS).code == 0
    assert only_run(tmp_path / "runs") == run
    assert same(run, undisturbed)
    noted = json.loads((run / "data.json").read_text())["train"]["changes"]
    assert [(record["step"], record["images"]) for record in noted] == [(1, [f"{broken.parent.name}/{broken.name}"])]


@pytest.mark.parametrize("stopped", ["write_json", "write_binary"])
def test_a_kill_while_a_change_is_noted_does_not_end_the_run(
    kdface: Kdface, faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped: str
) -> None:
    whole = {file: file.read_bytes() for file in faces.rglob("*.png")}
    broken = break_one(faces)
    assert kdface("train", *WORDS).code == 2
    broken.write_bytes(whole[broken])

    def killed(*_: Any) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as patched:
        patched.setattr(f"kdface.training.identity.{stopped}", killed)
        with pytest.raises(RuntimeError, match="killed"):
            kdface("train", *WORDS)
    said = kdface("train", *WORDS)
    assert said.code == 0, said.err
    noted = json.loads((only_run(tmp_path / "runs") / "data.json").read_text())["train"]["changes"]
    assert [(record["step"], record["images"]) for record in noted] == [(1, [f"{broken.parent.name}/{broken.name}"])]


def test_a_run_goes_on_without_broken_images_and_with_them_when_repaired(
    kdface: Kdface, faces: Path, tmp_path: Path, undisturbed: Path
) -> None:
    whole = {file: file.read_bytes() for file in faces.rglob("*.png")}
    broken = break_one(faces)
    assert kdface("train", *WORDS).code == 2
    run = only_run(tmp_path / "runs")
    said = kdface("run", str(run), "dataset.on_error=skip")
    assert said.code == 0, said.err
    assert only_run(tmp_path / "runs") == run
    results = json.loads((run / "results.json").read_text())
    assert results["resumed_at"] == 1
    assert [line.partition(":")[0] for line in results["skipped"]] == [f"{broken.parent.name}/{broken.name}"]
    assert "this run is finished" in kdface("train", *WORDS, "dataset.on_error=skip").out
    # Left out in every epoch so far, the image has not been used: repaired, it may join.
    unfinished(run)
    broken.write_bytes(whole[broken])
    assert kdface("train", *WORDS, "dataset.on_error=skip").code == 0
    assert len(json.loads((run / "results.json").read_text())["skipped"]) == 1
    assert not same(run, undisturbed)


def test_a_run_of_before_that_left_images_out_keeps_its_folder(kdface: Kdface, faces: Path, tmp_path: Path) -> None:
    from kdface.config.fingerprint import fingerprints_of_before

    assert kdface("train", *WORDS, "trainer.max_steps=1", "dataset.on_error=skip").code == 0
    run = only_run(tmp_path / "runs")
    renamed = run.with_name(f"seed0-{fingerprints_of_before(RunFolder(run).read_config())[0][:8]}")
    assert renamed != run
    run.rename(renamed)
    said = kdface("train", *WORDS, "trainer.max_steps=1", "dataset.on_error=skip")
    assert "this run is finished" in said.out, said.err


@pytest.mark.parametrize("words", [("run", "{run}"), ("evaluate", "run={run}"), ("export", "run={run}", "x.pt")])
def test_an_edited_configuration_is_refused_at_every_use(
    kdface: Kdface, faces: Path, tmp_path: Path, words: tuple[str, ...]
) -> None:
    assert kdface("train", *WORDS, "trainer.max_steps=1").code == 0
    run = only_run(tmp_path / "runs")
    unfinished(run)
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["optimizer"]["lr"] = 0.5
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    said = kdface(*(word.format(run=run) for word in words))
    assert said.code == 2 and "was edited after the run was created: optimizer.lr was 0.01 and is 0.5" in said.err
    fix = said.err.partition("with it: kdface ")[2].split("\n")[0]
    assert kdface(*shlex.split(fix)).code == 0


@pytest.mark.parametrize("words", [("run", "{run}"), ("evaluate", "run={run}"), ("export", "run={run}", "x.pt")])
def test_the_checkpoint_of_another_run_is_refused_at_every_use(
    kdface: Kdface, faces: Path, tmp_path: Path, words: tuple[str, ...]
) -> None:
    for lr, runs in (("0.01", "runs"), ("0.02", "others")):
        assert kdface("train", *WORDS, "trainer.max_steps=1", f"optimizer.lr={lr}", f"paths.runs={runs}").code == 0
    run = only_run(tmp_path / "runs")
    unfinished(run)
    shutil.copy(only_run(tmp_path / "others") / "checkpoints" / "last.ckpt", run / "checkpoints" / "last.ckpt")
    said = kdface(*(word.format(run=run) for word in words))
    assert said.code == 2 and "is not from the run in its folder: optimizer.lr was 0.02 and is 0.01" in said.err


def test_data_that_changes_during_a_run_is_told_and_kept(
    kdface: Kdface, faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kdface.training import train as training

    train = training.train

    def change(*words: Any) -> Any:
        results = train(*words)
        replace_an_image(faces)
        return results

    monkeypatch.setattr(training, "train", change)
    said = kdface("train", *WORDS, "trainer.max_steps=1")
    assert said.code == 0 and "changed during the run" in said.out
    results = json.loads((only_run(tmp_path / "runs") / "results.json").read_text())
    assert results["changed_during"][0].startswith("train: 24 images of 4 people")


EXTENDED = [*WORDS, "scheduler=constant", "ema.decay=0.9", "backbone.dropout=0.3"]


def test_more_epochs_go_on_from_the_end_of_a_finished_run(
    kdface: Kdface, faces: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert kdface("train", *EXTENDED).code == 0
    first = only_run(tmp_path / "runs")
    before = {file: file.read_bytes() for file in first.rglob("*") if file.is_file()}
    assert kdface("train", *EXTENDED, "trainer.max_epochs=4").code == 0
    assert "ends at step 6: this run continues from there to step 12" in caplog.text
    assert {file: file.read_bytes() for file in before} == before
    (longer,) = {file.parent for file in (tmp_path / "runs").rglob("DONE")} - {first}
    assert json.loads((longer / "results.json").read_text())["resumed_at"] == 6
    assert kdface("train", *EXTENDED, "trainer.max_epochs=4", "paths.runs=straight").code == 0
    assert same(longer, only_run(tmp_path / "straight"))
    steps = [json.loads(line)["step"] for line in (longer / "metrics.jsonl").read_text().splitlines() if "loss" in line]
    assert sorted(set(steps)) == list(range(1, 13))
    assert kdface("export", f"run={longer}", "network.pt").code == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["scheduler=one_cycle"], "its learning rates depend on the number of steps"),
        (["scheduler=constant", "scheduler.warmup=0.5"], "its learning rates depend on the number of steps"),
        (["scheduler=constant", "trainer.max_steps=2"], "the shorter run stopped in the middle of an epoch"),
    ],
)
def test_a_longer_run_that_cannot_go_on_says_why_it_begins_anew(
    kdface: Kdface, faces: Path, tmp_path: Path, words: list[str], told: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert kdface("train", *WORDS, *words).code == 0
    longer = ["trainer.max_epochs=3", "trainer.max_steps=-1"]
    assert kdface("train", *WORDS, *words, *longer).code == 0
    assert told in caplog.text
    results = [json.loads(file.read_text()) for file in (tmp_path / "runs").rglob("results.json")]
    assert [result["resumed_at"] for result in results] == [None, None]
