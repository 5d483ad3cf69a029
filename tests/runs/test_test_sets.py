"""Test images are looked at before training; a broken one costs no training, and can be left out or repaired."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import UNTESTED, Kdface, only_run
from tests.runs.test_identity import picture

PEOPLE = 10


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """A run of generated faces that is tested on a folder."""
    for person in range(PEOPLE):
        for image in range(1, 5):
            picture(tmp_path / "test" / f"p{person}" / f"p{person}_000{image}.png", person * 10 + image)
    pairs = [f"p{person}\t{i}\t{i + 1}" for person in range(PEOPLE) for i in (1, 2, 3)]
    pairs += [f"p{person}\t{i}\tp{(person + 1) % PEOPLE}\t{i}" for person in range(PEOPLE) for i in (1, 2, 3)]
    (tmp_path / "pairs.txt").write_text("\n".join(pairs) + "\n")
    test = {
        "_target_": "kdface.evaluation.mfr2_verification",
        "pairs": "pairs.txt",
        "dataset": {"_target_": "kdface.datasets.ImageFolder", "root": "test", "size": [32, 32]},
    }
    (tmp_path / "own" / "evaluation").mkdir(parents=True)
    (tmp_path / "own" / "evaluation" / "mine.yaml").write_text(json.dumps({"mine": test}))
    kept = [word for word in UNTESTED if not word.startswith("evaluation")]
    return [*kept, "evaluation=mine", "trainer.max_steps=2", "--config-dir", "own"]


def halve(image: Path, *, deep: bool) -> bytes:
    """Damage an image: cut it short, or (deep) turn a bit in its middle so that only decoding finds it."""
    whole = image.read_bytes()
    image.write_bytes(whole[: len(whole) // 2])
    if deep:
        import zlib

        start = whole.index(b"IDAT") + 4
        end = whole.index(b"IEND") - 8
        body = bytearray(whole[start:end])
        body[len(body) // 2 :] = bytes(len(body) - len(body) // 2)
        image.write_bytes(whole[:start] + body + zlib.crc32(b"IDAT" + body).to_bytes(4, "big") + whole[end + 4 :])
    return whole


def test_a_broken_test_image_is_told_before_training(kdface: Kdface, words: list[str], tmp_path: Path) -> None:
    image = tmp_path / "test" / "p0" / "p0_0001.png"
    whole = halve(image, deep=False)
    said = kdface("train", *words)
    assert said.code == 2 and "evaluation.mine: 1 of 40 images are broken" in said.err and "p0_0001.png" in said.err
    run = only_run(tmp_path / "runs")
    assert not (run / "checkpoints").exists()
    image.write_bytes(whole)
    assert kdface("train", *words).code == 0
    assert only_run(tmp_path / "runs") == run


def test_damage_inside_is_found_by_decoding(kdface: Kdface, words: list[str], tmp_path: Path) -> None:
    image = tmp_path / "test" / "p0" / "p0_0001.png"
    whole = halve(image, deep=True)
    said = kdface("train", *words, "data.verify=full")
    assert said.code == 2 and "1 of 40 images are broken" in said.err
    assert not list(tmp_path.rglob("last.ckpt"))
    said = kdface("train", *words)  # headers say nothing: found when the network is tested
    assert said.code == 2 and "to resume from step 2" in said.err
    run = only_run(tmp_path / "runs")
    image.write_bytes(whole)
    assert kdface("train", *words).code == 0
    assert json.loads((run / "results.json").read_text())["counts"]["mine"]["pairs"] == 60
    assert json.loads((run / "data.json").read_text())["evaluation.mine"]["changes"][0]["step"] == 2


def test_a_broken_test_image_may_be_left_out(kdface: Kdface, words: list[str], tmp_path: Path) -> None:
    halve(tmp_path / "test" / "p0" / "p0_0001.png", deep=True)
    assert kdface("train", *words).code == 2
    said = kdface("train", *words, "dataset.on_error=skip")
    assert said.code == 0, said.err
    results = json.loads((only_run(tmp_path / "runs") / "results.json").read_text())
    assert results["counts"]["mine"]["pairs"] == 57
    assert results["choices"]["mine"]["left_out"] == ["p0/p0_0001.png"]


def test_a_test_set_that_changed_is_told_of_a_finished_run(
    kdface: Kdface, words: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert kdface("train", *words).code == 0
    run = only_run(tmp_path / "runs")
    picture(tmp_path / "test" / "p0" / "p0_0001.png", 1000)
    said = kdface("train", *words)
    assert said.code == 0 and "this run is finished" in said.out
    assert "evaluation.mine has changed since the evaluation" in caplog.text
    assert kdface("evaluate", f"run={run}").code == 0
    caplog.clear()
    (tmp_path / "pairs.txt").write_text((tmp_path / "pairs.txt").read_text().replace("p0\t1\t2", "p0\t1\t4"))
    assert kdface("train", *words).code == 0
    assert "evaluation.mine has changed since the evaluation" in caplog.text


def test_evaluations_of_one_name_lie_side_by_side(kdface: Kdface, words: list[str], tmp_path: Path) -> None:
    assert kdface("train", *words).code == 0
    run = only_run(tmp_path / "runs")
    assert kdface("evaluate", f"run={run}").code == 0
    first = run / "evaluations" / "mine" / "results.json"
    before = first.read_bytes()
    for word in (f"run={run}", f"run={run}/checkpoints/last.ckpt"):
        said = kdface("evaluate", word)
        assert said.code == 0 and "unchanged" in said.out and "accuracy" in said.out
    said = kdface("evaluate", f"run={run}", "evaluation=mine", "+evaluation.mine.fars=[0.5]", "--config-dir", "own")
    assert said.code == 0 and "is a different evaluation and is kept" in said.out
    picture(tmp_path / "test" / "p0" / "p0_0001.png", 1000)
    assert kdface("evaluate", f"run={run}").code == 0
    assert "unchanged" in kdface("evaluate", f"run={run}").out
    assert first.read_bytes() == before
    assert len(list(run.glob("evaluations/*/results.json"))) == 3


def test_results_that_were_emptied_are_told_and_measured_again(
    kdface: Kdface, words: list[str], tmp_path: Path
) -> None:
    assert kdface("train", *words).code == 0
    run = only_run(tmp_path / "runs")
    before = json.loads((run / "results.json").read_text())["metrics"]
    (run / "results.json").write_text("")
    for command in (("evaluate", f"run={run}"), ("train", *words)):
        said = kdface(*command)
        assert said.code == 2 and "results.json cannot be read" in said.err and "kdface run" in said.err
    (run / "DONE").unlink()
    assert kdface("run", str(run)).code == 0
    assert json.loads((run / "results.json").read_text())["metrics"] == before
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [record["kind"] for record in records].count("evaluation") == 1
    assert kdface("evaluate", f"run={run}").code == 0
    file = run / "evaluations" / "mine" / "results.json"
    file.write_text("{")
    said = kdface("evaluate", f"run={run}")
    assert said.code == 0 and "recomputed" in said.out
    assert json.loads(file.read_text())["metrics"] == before
