"""Two ranks on one machine (gloo): one file for all, every image once, the evaluation of one rank."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from kdface.assembly.assemble import assemble
from kdface.assembly.method import build_method
from kdface.config.compose import compose
from kdface.errors import UserError
from kdface.faces import Preprocessing
from kdface.runs.folder import RunFolder
from kdface.runs.records import read
from kdface.training.callbacks import SameConfiguration
from kdface.training.trainer import require_trainable, require_whole_gradients
from tests.conftest import TINY, Kdface, command, only_run
from tests.forked import on_two_ranks

_TWO = ["trainer.devices=2", "trainer.strategy=ddp"]


def test_two_ranks_train_one_configuration_and_evaluate_every_image_once(tmp_path: Path) -> None:
    """32 images do not divide evenly over batches of 256 and two ranks' parts; none is counted twice."""
    words = ["train", *TINY, "trainer.max_steps=3", f"paths.runs={tmp_path}/runs"]
    said = command(*words, *_TWO, cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    run = only_run(tmp_path / "runs")
    results = json.loads((run / "results.json").read_text())
    assert results["step"] == 3
    counts = results["counts"]["toy_pairs"]
    assert counts["images_embedded"] == counts["images"]
    single = command("evaluate", f"run={run}", cwd=tmp_path)
    assert single.returncode == 0, single.stderr
    alone = json.loads((run / "evaluations/toy_pairs/results.json").read_text())["metrics"]
    assert results["metrics"] == alone


@pytest.mark.parametrize("method", [["head=cosface", "head.scale=8"], ["method=ckd"]], ids=["cosface", "ckd"])
def test_two_ranks_with_half_the_batch_each_come_to_the_weights_of_one_rank(method: list[str], tmp_path: Path) -> None:
    """20 steps of 16 images, 8 on each rank. Nothing but the order of summation differs.

    In float64: a step amplifies rounding where a ReLU's input lies within it of zero, which in float32 happens on one
    kind of processor and not on another.
    """
    words = [*TINY, "dataset.people=8", "dataset.images_per_person=8", "loader.batch_size=16", "trainer.max_epochs=5"]
    words += [*method, "optimizer.lr=0.0003", "optimizer.momentum=0", "scheduler=constant", "hardware.profile=plain"]
    words += ["trainer.precision=64-true"]
    # 300 test images: neither a whole number of batches of 256 nor an even number of batches each.
    words += ["evaluation.toy_pairs.dataset.people=60", "evaluation.toy_pairs.dataset.images_per_person=5"]
    words += ["evaluation.toy_pairs.pairs_per_fold=300"]
    runs = []
    for name, more in {"one": [], "two": [*_TWO, "trainer.sync_batchnorm=true"]}.items():
        said = command("train", *words, *more, f"paths.runs={tmp_path}/{name}", cwd=tmp_path)
        assert said.returncode == 0, said.stderr
        runs.append(only_run(tmp_path / name))
    one, two = (torch.load(run / "checkpoints/last.ckpt", weights_only=True) for run in runs)
    assert one["kdface"]["step"] == two["kdface"]["step"] == 20
    assert one["state_dict"].keys() == two["state_dict"].keys()
    torch.testing.assert_close(two["state_dict"], one["state_dict"], rtol=0, atol=1e-12)
    preprocessing = Preprocessing.from_dict(one["kdface"]["preprocessing"])
    untrained = build_method(one["kdface"]["config"], preprocessing, 8, None).named_parameters()
    assert max(float((one["state_dict"][name] - weight).abs().max().detach()) for name, weight in untrained) > 5e-3
    records = [[record for record in read(run / "metrics.jsonl") if record["kind"] == "train"] for run in runs]
    assert [record["step"] for record in records[1]] == list(range(1, 21))
    for ours, whole in zip(records[1], records[0], strict=True):
        assert ours["loss"] == pytest.approx(whole["loss"], abs=1e-12)
        accuracies = [name for name in whole if name.startswith("accuracy")]
        assert accuracies and all(ours[name] == pytest.approx(whole[name], abs=1e-6) for name in accuracies)
    # The weights of two ranks, evaluated by two ranks and by one.
    single = command("evaluate", f"run={runs[1]}", cwd=tmp_path)
    assert single.returncode == 0, single.stderr
    together = json.loads((runs[1] / "results.json").read_text())
    alone = json.loads((runs[1] / "evaluations/toy_pairs/results.json").read_text())
    assert together["metrics"] == alone["metrics"]
    assert together["counts"]["toy_pairs"]["images_embedded"] > 256
    similarity, expected = (
        np.load(folder / "scores/toy_pairs.npz") for folder in (runs[1], runs[1] / "evaluations/toy_pairs")
    )
    for name in expected.files:
        assert similarity[name].tobytes() == expected[name].tobytes(), name


@pytest.mark.slow
def test_divided_class_weights_go_on_with_another_number_of_ranks(tmp_path: Path) -> None:
    """An epoch on one rank, one on two, one on one again: weights and momentum of three on one, but for rounding."""
    words = [*TINY, "head=partial_fc", "head.sample_rate=1", "head.head.scale=8", "scheduler=constant"]
    words += ["optimizer.lr=0.0001", "hardware.profile=plain", "trainer.sync_batchnorm=true"]
    seen: list[Path] = []
    for epochs, devices in ((1, 1), (2, 2), (3, 1)):  # more epochs continue the run, in a folder of their own
        more = [f"trainer.max_epochs={epochs}", *([f"trainer.devices={devices}"] if devices > 1 else [])]
        said = command("train", *words, *more, f"paths.runs={tmp_path}/parts", cwd=tmp_path)
        assert said.returncode == 0, said.stderr
        (run,) = {file.parent for file in tmp_path.glob("parts/**/DONE")}.difference(seen)
        seen.append(run)
    about = json.loads((run / "environment.json").read_text())
    assert about["world_size"] == 1 and [resumption["world_size"] for resumption in about["resumed"]] == [2]
    said = command("train", *words, "trainer.max_epochs=3", f"paths.runs={tmp_path}/straight", cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    straight = only_run(tmp_path / "straight")
    parts, whole = (torch.load(folder / "checkpoints/last.ckpt", weights_only=True) for folder in (run, straight))
    assert parts["kdface"]["step"] == whole["kdface"]["step"] == 12
    assert parts["state_dict"]["head.weight"].shape == (6, 8)
    torch.testing.assert_close(parts["state_dict"], whole["state_dict"], rtol=0, atol=1e-5)
    momenta = [part["optimizer_states"][0]["state"] for part in (parts, whole)]
    assert momenta[0].keys() == momenta[1].keys()
    for index, state in momenta[1].items():
        expected = state["momentum_buffer"]
        found = momenta[0][index]["momentum_buffer"]
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-3 * float(expected.abs().max() + 1), msg=str(index))


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("trainer.gradient_clip_val=5", "trainer.gradient_clip_val needs"),
        ("gradient_clip={head:5.0}", "gradient_clip.head needs"),
        ("gradient_clip={backbone:5.0}", ""),
    ],
)
def test_what_needs_all_gradients_is_refused_with_divided_class_weights(
    kdface: Kdface, tmp_path: Path, word: str, told: str
) -> None:
    """Before there is a run folder. On one rank the head's gradient is whole."""
    tree = compose([*TINY, "head=partial_fc", "trainer.devices=2", word]).tree
    with pytest.raises(UserError, match=told) if told else nullcontext():
        require_trainable(assemble(tree), RunFolder(tmp_path))
    if told:
        said = kdface("train", *TINY, "head=partial_fc", "trainer.devices=2", word)
        assert said.code == 2 and told in said.err and not (tmp_path / "runs").exists()
    require_trainable(assemble(compose([*TINY, "head=partial_fc", word]).tree), RunFolder(tmp_path))


def test_half_precision_is_refused_with_divided_class_weights() -> None:
    job = assemble(compose([*TINY, "head=partial_fc", "trainer.devices=2"]).tree)
    require_whole_gradients(job.method, job.settings, "bf16-mixed")
    with pytest.raises(UserError, match="16-mixed"):
        require_whole_gradients(job.method, job.settings, "16-mixed")


def test_every_rank_of_every_job_of_a_sweep_trains_its_jobs_configuration(kdface: Kdface, tmp_path: Path) -> None:
    """Extra ranks read the job's file, so they can neither shuffle the grid again nor inherit another job's values."""
    words = ["train", "-m", *TINY, "trainer.max_steps=2", f"paths.runs={tmp_path}/runs"]
    said = kdface(*words, "trainer.devices=shuffle(1,2)", "head.margin=shuffle(1.4,1.2)")
    assert said.code == 0, said.out + said.err
    runs = [file.parent for file in (tmp_path / "runs").rglob("config.yaml")]
    found = []
    for run in runs:
        assert (run / "DONE").is_file()
        config = yaml.safe_load((run / "config.yaml").read_text())
        devices = config["trainer"]["devices"]
        found.append((devices, config["head"]["margin"]))
        assert json.loads((run / "environment.json").read_text())["world_size"] == devices
        assert torch.load(run / "checkpoints/last.ckpt", weights_only=True)["kdface"]["config"] == config
    assert sorted(found) == [(1, 1.2), (1, 1.4), (2, 1.2), (2, 1.4)]


def _rank(rank: int, folder: str) -> None:
    meeting = f"file://{folder}/meeting"
    torch.distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2)
    trainer: Any = SimpleNamespace(world_size=2)
    module: Any = None
    SameConfiguration(RunFolder(Path(folder)), {"seed": 0}).on_fit_start(trainer, module)
    with pytest.raises(UserError, match="rank 1 and rank 0 read different versions"):
        SameConfiguration(RunFolder(Path(folder)), {"seed": rank}).on_fit_start(trainer, module)
    torch.distributed.destroy_process_group()


def test_ranks_with_different_configurations_stop(tmp_path: Path) -> None:
    on_two_ranks(_rank, tmp_path)


def test_a_run_goes_on_as_it_is_configured_but_for_its_ranks(kdface: Kdface, tmp_path: Path) -> None:
    for word, told in {"trainer.max_epochs=3": "only its ranks", "trainer.devices=many": "a valid integer"}.items():
        said = kdface("run", str(tmp_path), word)
        assert said.code == 2 and told in said.err
