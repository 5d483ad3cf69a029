"""All configurations of CKD end to end: they train, are evaluated and resume exactly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kdface.assembly.load import load_run
from kdface.config.compose import compose
from kdface.datasets.ckd_folders import CKDFolders, Modality
from kdface.datasets.loading import Batch
from kdface.methods import Method
from kdface.methods.ckd import CKD
from kdface.runs.folder import RunFolder
from tests.conftest import TINY, Kdface, only_run
from tests.datasets.test_image_folder import encoded, picture

# CKD sheet 6: the seven official configurations, and the controls that no official configuration holds.
OFFICIAL = [
    "ckd",
    "face_ce",
    "ocular_ce",
    "separate_face_ocular",
    "shared_network_only_f2p",
    "shared_ocular",
    "without_shared_batchnorm",
]
EXPERIMENTS = [
    *OFFICIAL,
    "shared_network_only_ce",
    "shared_network_only_p2f",
    "specific_batchnorm",
    "frozen_teacher",
    "official",
    "pins90_small",
]
TERMS = {"ce_face", "ce_periocular", "kl_face_to_periocular", "kl_periocular_to_face"}
SMALL = [
    *(
        word
        for word in TINY
        if word.startswith(("dataset.", "trainer.", "loader.", "hardware.", "optimizer.", "backbone."))
        and "size=[32" not in word
    ),
    "dataset.size=[48,48]",
    "augmentation.size=[32,64]",
]
ROOT = ["dataset.root=faces"]


def small(experiment: str) -> list[str]:
    """Steps of eight small images. The network of `official` is replaced, its data, losses and tests are not."""
    steps = ["trainer.max_steps=4", "resume.every_n_train_steps=2", "ema.decay=0.9"]
    if experiment == "pins90_small":
        return [f"experiment=ckd/{experiment}", "dataset=toy_faces", "evaluation=none", *SMALL, *steps]
    if experiment == "official":
        return [
            f"experiment=ckd/{experiment}",
            *(word for word in SMALL if not word.startswith("dataset")),
            "dataset.root=faces",
            "backbone=iresnet_nano",
            "dataset.size=[48,48]",
            "evaluation.ckd_periocular_rank1.root=faces",
            "evaluation.ckd_cross_rank1.face_size=[48,48]",
            "evaluation.ckd_cross_eer.dataset.size=[48,48]",
            *steps,
        ]
    test = "toy_pairs" if experiment == "face_ce" else "periocular"
    sizes = [] if experiment == "face_ce" else [f"evaluation.{test}.dataset.augmentation.size=[32,64]"]
    faces = f"evaluation.{test}.dataset" + ("" if experiment == "face_ce" else ".dataset")
    return [
        f"experiment=ckd/{experiment}",
        *SMALL,
        *sizes,
        f"{faces}.size=[48,48]",
        f"{faces}.people=8",
        f"{faces}.images_per_person=4",
        f"evaluation.{test}.folds=2",
        f"evaluation.{test}.pairs_per_fold=8",
        f"evaluation.{test}.fars=[0.25]",
        *steps,
    ]


def stored_crops(root: Path) -> None:
    """A training set and a test set in the official layout: train and val, gallery and probe, of noise."""
    splits = (("train", range(4), 9), ("gallery", range(2), 4), ("probe", range(2), 4), ("val", range(1, 4), 5))
    for number, (split, people, images) in enumerate(splits):
        for person in people:
            for image in range(images):
                for kind, (height, width) in (("face", (48, 48)), ("periocular", (32, 64))):
                    file = root / split / f"p{person}" / kind / f"{image}.png"
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_bytes(encoded(picture(100 * number + 10 * person + image, height, width)))


def require_calibration(kdface: Kdface, run: Path, root: Path) -> None:
    """Each modality by its own head, people by name: those of `val` are 1 to 3 of the network's four."""
    method = load_run(run).method
    assert isinstance(method, CKD)
    kinds: list[tuple[Modality, Any, tuple[int, int]]] = [
        ("periocular", method.head, (32, 64)),
        ("face", method.teacher_head, (48, 48)),
    ]
    for modality, head, size in kinds:
        said = kdface(
            "evaluate",
            f"run={run}",
            "evaluation=ckd_folders_calibration",
            f"evaluation.ckd_periocular_calibration.dataset.modality={modality}",
            f"evaluation.ckd_periocular_calibration.dataset.size=[{size[0]},{size[1]}]",
        )
        assert said.code == 0, said
        found = json.loads(RunFolder(run).evaluated()[0].read_text())  # the newest: they lie side by side
        faces = CKDFolders(root, "val", modality, size)
        images = torch.from_numpy(np.stack([faces[row].image for row in range(len(faces))]))
        with torch.no_grad():
            embedding = method.embed(images, faces.preprocessing)
        guess = (embedding @ head.weight.T + head.bias).argmax(1).numpy()
        expected = float((guess == faces.labels + 1).mean())
        assert found["counts"]["ckd_periocular_calibration"]["images"] == 15
        assert found["metrics"]["ckd_periocular_calibration/accuracy"]["value"] == pytest.approx(expected)


def weights(run: Path) -> dict[str, Any]:
    return dict(torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"])


@pytest.mark.parametrize("experiment", [name for name in OFFICIAL if name != "ckd"])
def test_official_configurations_differ_in_the_method_alone(experiment: str) -> None:
    """CKD sheet 6: the seven have one budget and data; each is to `official` what its small namesake is to `ckd`."""
    small_one, official, plain = (
        compose([f"experiment=ckd/{name}", *given]).tree
        for name, given in ((experiment, []), (f"official_{experiment}", ROOT), ("official", ROOT))
    )
    assert official["method"] == small_one["method"]
    assert {key for key in plain if plain[key] != official[key]} - {"name"} <= {"method", "evaluation"}
    assert official["trainer"]["max_epochs"] == 90 and official["loader"]["batch_size"] == 16
    seen = {name.split("_")[1] for name in official["evaluation"]}
    if experiment == "face_ce":
        assert seen == {"face"}
    else:
        assert seen == {"periocular"} | (set() if experiment in ("ocular_ce", "shared_ocular") else {"cross"})


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_trains_is_evaluated_and_resumes_exactly(
    kdface: Kdface, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, experiment: str
) -> None:
    words = ("train", *small(experiment))
    if experiment == "official":
        stored_crops(tmp_path / "faces")
    if experiment == "frozen_teacher":
        said = kdface("train", *small("face_ce"), f"paths.runs={tmp_path}/taught")
        assert said.code == 0, said
        words = (*words, f"teacher.run={only_run(tmp_path / 'taught')}")
    said = kdface(*words, f"paths.runs={tmp_path}/runs")
    assert said.code == 0, said
    run = only_run(tmp_path / "runs")
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = [record for record in records if record["kind"] == "train"]
    assert [record["step"] for record in steps] == [1, 2, 3, 4]
    expected = {
        "face_ce": {"classification"},
        "ocular_ce": {"classification"},
        "shared_network_only_f2p": TERMS - {"kl_periocular_to_face"},
        "shared_network_only_p2f": TERMS - {"kl_face_to_periocular"},
        "shared_network_only_ce": {"ce_face", "ce_periocular"},
        "frozen_teacher": {"classification", "distillation"},
    }.get(experiment, TERMS)
    assert all(set(record["terms"]) == expected for record in steps)
    assert (run / "DONE").is_file()
    if experiment == "official":
        metrics = json.loads((run / "results.json").read_text())["metrics"]
        told = {f"ckd_{name}" for name in ("periocular_rank1/rank1", "periocular_eer/eer_official")}
        told |= {"ckd_cross_rank1/cross/rank1", "ckd_cross_eer/cross/eer"}
        assert told | {"ckd_periocular_clusters/davies_bouldin"} <= set(metrics)
        require_calibration(kdface, run, tmp_path / "faces")

    def interrupted(method: Method, given: Batch, index: int) -> Tensor:
        if method.trainer.global_step == 3:  # the checkpoint is that of step 2
            raise KeyboardInterrupt
        return training_step(method, given, index)

    training_step = Method.training_step
    monkeypatch.setattr(Method, "training_step", interrupted)
    assert kdface(*words, f"paths.runs={tmp_path}/again").code != 0
    monkeypatch.setattr(Method, "training_step", training_step)
    assert kdface(*words, f"paths.runs={tmp_path}/again").code == 0
    again = only_run(tmp_path / "again")
    assert json.loads((again / "results.json").read_text())["resumed_at"] == 2
    expected_weights, found = weights(run), weights(again)
    assert list(expected_weights) == list(found)
    assert all(torch.equal(value, found[key]) for key, value in expected_weights.items())
