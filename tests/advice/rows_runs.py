"""Mistakes about where a run lies and what it was made of."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch

from kdface.cli import main
from tests.advice.fixtures import BARE, FOLDER, SMALL, broken, faces, picture, text
from tests.advice.row import Row, copied, tiny
from tests.conftest import UNTESTED, only_run, teach_otherwise
from tests.fuzz.data_kinds import _landmarks


def _other_data(folder: Path) -> None:
    """A finished run, and one person more than it was trained on."""
    faces(folder)
    assert main(FOLDER) == 0
    picture(folder / "faces", "new/x.png")


def _edited(folder: Path) -> None:
    _other_data(folder)
    (config,) = (folder / "runs").rglob("config.yaml")
    config.write_text(config.read_text().replace("lr: 0.01", "lr: 0.5"))


def _teachers(folder: Path) -> None:
    """Weights of a published network: a broken file and a good one."""
    from kdface.backbones import iresnet_nano

    network = iresnet_nano(8, image_size=(32, 32))
    torch.save(network.state_dict(), folder / "good.pt")
    network.state_dict()["bn1.running_var"][0] = -1.0  # its root is NaN
    torch.save(network.state_dict(), folder / "broken.pt")


def _published(folder: Path) -> None:
    """Weights of a published network of the student's architecture."""
    from kdface.backbones import iresnet_nano

    network = iresnet_nano(8, image_size=(32, 32), channels=(8, 8, 8, 8), blocks=(1, 1, 1, 1))
    torch.save(network.state_dict(), folder / "good.pt")


def _finished(folder: Path) -> Path:
    faces(folder)
    assert main(FOLDER) == 0
    return only_run(folder / "runs")


def _without_configuration(folder: Path) -> None:
    run = _finished(folder)
    for name in ("config.yaml", "DONE"):
        (run / name).unlink()


def _linked(folder: Path) -> None:
    """An unfinished run whose record is a link to a file elsewhere."""
    run = _finished(folder)
    (run / "DONE").unlink()
    (run / "metrics.jsonl").rename(folder / "elsewhere")
    (run / "metrics.jsonl").symlink_to(folder / "elsewhere")


def _of_another_run(folder: Path) -> None:
    copied(folder)
    _finished(folder)
    shutil.copy(only_run(folder / "runs") / "checkpoints" / "last.ckpt", folder / "run" / "checkpoints" / "last.ckpt")


def _halves(folder: Path) -> None:
    for place in range(16):
        for half, width in (("face", 32), ("periocular", 96)):
            picture(folder / "ckd" / "train", f"p{place % 4}/{half}/{'x' * (place + 1)}.png", 32, width)
    picture(folder / "ckd" / "train", "p0/face/alone.png")


def _cut_off(folder: Path) -> None:
    """An unfinished run whose checkpoint is empty."""
    copied(folder)
    (folder / "run" / "DONE").unlink()
    (folder / "run" / "checkpoints" / "last.ckpt").write_bytes(b"")


def _taught(folder: Path) -> None:
    """A finished run, and its teacher trained anew since."""
    copied(folder)
    assert main([*_DISTILLED]) == 0
    teach_otherwise(folder / "run")


def _mixed(folder: Path) -> None:
    """A finished run over which files of a longer one were laid."""
    copied(folder)
    results = json.loads((folder / "run" / "results.json").read_text())
    (folder / "run" / "results.json").write_text(json.dumps({**results, "step": 3}))


def _of_other_settings(folder: Path) -> None:
    """An unfinished run whose configuration was edited."""
    _edited(folder)
    (only_run(folder / "runs") / "DONE").unlink()


def _half_pictures(folder: Path) -> None:
    """Every image but those of one person ends in its middle; what it is can still be read."""
    faces(folder)
    for file in (folder / "faces").glob("p[123]/*.png"):
        file.write_bytes(file.read_bytes()[:600])


def _graded(folder: Path) -> None:
    copied(folder)
    faces(folder)
    assert main(["embed", "faces", "run=run", "-o", "out.npz"]) == 0
    whole = (folder / "out.npz").read_bytes()
    (folder / "out.npz").write_bytes(whole[: len(whole) // 2])


_DISTILLED = (*("train", *UNTESTED, "trainer.max_steps=1", "method=distillation", "teacher=run", "teacher.run=run"),)
_TESTED = (
    "{_target_:kdface.evaluation.random_verification,folds:2,pairs_per_fold:4,fars:[0.5],"
    "dataset:{_target_:kdface.datasets.ImageFolder,root:faces,size:[32,32]}}"
)
_ALL_OF = (
    "{_target_:kdface.evaluation.fold_identification,folds:2,"
    "dataset:{_target_:kdface.datasets.ImageFolder,root:faces,size:[32,32]}}"
)
_TOY = ("train", *UNTESTED, "trainer.max_steps=1")
PUBLISHED = [
    "teacher.backbone._target_=kdface.backbones.iresnet_nano",
    "+teacher.backbone.embedding_size=8",
    "teacher.backbone.image_size=[32,32]",
]
ROWS = [
    tiny("method=distillation", "teacher.run=nowhere", told="the folder contains no run", run=True),
    Row(
        (
            "train",
            *UNTESTED,
            "trainer.max_steps=1",
            "method=distillation",
            "teacher=weights",
            *PUBLISHED,
            "teacher.weights=broken.pt",
        ),
        "its embeddings contain 8 non-finite values of 8",
        set_up=_teachers,
        fill={"FILE": "good.pt"},
        run=True,
    ),
    Row(
        (
            *("train", *UNTESTED, "method=aikd", "method.quality_weight=0", "teacher=weights", "teacher.bgr=true"),
            *(*PUBLISHED, "+teacher.backbone.channels=[8,8,8,8]", "+teacher.backbone.blocks=[1,1,1,1]"),
            "teacher.weights=good.pt",
        ),
        "other colours or another scale",
        set_up=_published,
        build=True,
    ),
    # where runs and data lie
    Row(tuple(FOLDER), "is not a kdface run", set_up=_without_configuration, run=True, fill={"ANOTHER_FOLDER": "b"}),
    Row(_TOY, "paths.runs", set_up=text("runs", ""), run=True, fill={"ANOTHER_FOLDER": "b"}),
    Row(tuple(FOLDER), "is a link to a place outside", set_up=_linked, run=True),
    Row(("export", "run=run", "a.pt"), "is not from the run in its folder", set_up=_of_another_run),
    Row(
        tuple(word.replace("root=faces", "root=facs") for word in FOLDER),
        "which does not exist",
        set_up=faces,
        build=True,
    ),
    Row(
        tuple(word.replace("root=faces", "root=${paths.data}/faces") for word in FOLDER),
        "looked for at",
        set_up=lambda folder: faces(folder / "sets"),
        build=True,
        fill={"FOLDER": "sets"},
    ),
    Row(("run", "run"), "is broken (it is empty or cut off)", set_up=_cut_off),
    # broken images
    Row(tuple(FOLDER), "of a known format", set_up=broken, run=True),
    Row(
        (*FOLDER, f"+evaluation.mine={_TESTED}"),
        "evaluation.mine",
        set_up=broken,
        run=True,
    ),
    Row(
        (*FOLDER, "dataset.on_error=skip", "loader.batch_size=2", "trainer.max_steps=8"),
        "only one image",
        set_up=broken,
        run=True,
        fill={"DATASET": "image_folder dataset.root=faces dataset.size=[32,32]"},
    ),
    Row(
        (
            *("train", *BARE, "trainer.max_steps=1", "dataset=ckd_folders", "dataset.root=ckd", "dataset.size=[32,32]"),
            *("augmentation=stored_periocular", "augmentation.size=[32,96]", "method.views.student=face"),
        ),
        "no counterpart",
        set_up=_halves,
        build=True,
    ),
    Row(
        (
            *("train", *BARE, "trainer.max_steps=1", "dataset=raw_folder", "dataset.root=raw", "loader.batch_size=2"),
            *("dataset.landmarks=points.csv", "dataset.size=[32,32]", "dataset.keys=[p0/1.jpg,p1/1.jpg,p9/1.jpg]"),
        ),
        "has 'p9/1.jpg'",
        set_up=_landmarks,
        build=True,
    ),
    *([] if torch.cuda.is_available() else [Row((*_TOY, "trainer.accelerator=gpu"), "torch finds no GPU", run=True)]),
    Row((*_TOY, "optimizer.nesterov=true", "optimizer.momentum=0.0"), "cannot be built", build=True),
    Row(
        ("train", *UNTESTED[:-1], "evaluation=toy_harmonic"),
        "refers to a group whose choice is none",
        set_up=copied,
        fill={"FOLDER": "run"},
    ),
    # what is there already, of another run or of the same one
    Row(_DISTILLED, "its teacher has changed since", set_up=_taught, run=True),
    Row(("evaluate", "run=run", *f"evaluation={SMALL}".split()), "files of an unfinished copy", set_up=_mixed),
    Row(tuple(FOLDER), "contains another run", set_up=_of_other_settings, run=True, fill={"ANOTHER_FOLDER": "b"}),
    Row(("embed", "faces", "run=run", "-o", "out.npz"), "cannot be read", set_up=_graded),
    # broken images
    Row(
        (*FOLDER, "dataset.on_error=skip", "loader.batch_size=2"),
        "every image of a batch is broken",
        set_up=_half_pictures,
        run=True,
        fill={"DATASET": "image_folder dataset.root=faces dataset.size=[32,32]"},
    ),
    Row(
        (*FOLDER, "dataset.on_error=skip", f"+evaluation.mine={_ALL_OF}"),
        "needs all of them",
        set_up=broken,
        run=True,
    ),
    Row(
        ("python", "parts.mined_on_two_ranks(skipped=('p0/x.png: no image',))"),
        "triplets are mined from all ranks",
        set_up=broken,
        fill={"DATASET": "image_folder dataset.root=faces dataset.size=[32,32]"},
    ),
    # no file can be made in /sys, not by root either
    Row(("export", "run=run", "/sys/net.pt"), "/sys/.net.pt", set_up=copied),
    Row((*_TOY, "paths.runs=/sys/runs"), "/sys/runs", run=True, fill={"ANOTHER_FOLDER": "b"}),
    tiny("name=/abs", told="points outside paths.runs"),
    tiny("name=../..", told="points outside paths.runs"),
    Row(tuple(FOLDER), "its data has changed since", set_up=_other_data, run=True),
    Row(tuple(FOLDER), "was edited after the run was created", set_up=_edited, run=True),
]
