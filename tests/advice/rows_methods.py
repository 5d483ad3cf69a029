"""Mistakes in methods, their weights and what they are given."""

from __future__ import annotations

from pathlib import Path

from kdface.cli import main
from tests.advice.fixtures import BARE, FOLDER, both, environment, faces, picture
from tests.advice.row import Row, copied, tiny
from tests.conftest import UNTESTED, only_run

# A network of another embedding size and a run of one step, both made once.
TAUGHT = ("teacher=run", "teacher.run=run")
SMALL = ("trainer.max_steps=1", "evaluation=none")
HARMONIC = (
    "method=harmonic",
    "head=none",
    *TAUGHT,
    "method.start_from=run",
    "method.people_per_batch=2",
    "method.images_per_person=4",
)
OTHERS = ("dataset=image_folder", "dataset.root=six", "dataset.size=[32,32]")
FACENET = ("method=facenet", "head=none", "method.people_per_batch=2", "method.images_per_person=4")


def _built(*words: str, told: str, fill: dict[str, str] | None = None) -> Row:
    return Row(("train", *UNTESTED, *words), told, set_up=copied, build=True, fill=fill or {})


def _run(*words: str, told: str) -> Row:
    return Row(("train", *UNTESTED, "trainer.max_steps=1", *words), told, set_up=copied, run=True)


def _six(folder: Path) -> None:
    """Six people, other ones than the run's, and a run that was trained on them."""
    for place in range(24):
        picture(folder / "six", f"q{place % 6}/{'x' * (place + 1)}.png")
    assert main(["train", *BARE, "evaluation=none", *OTHERS, "trainer.max_steps=1"]) == 0
    only_run(folder / "runs").rename(folder / "of_six")


def _headless(folder: Path) -> None:
    """A run that was trained without classes."""
    assert main(["train", *UNTESTED, *FACENET, "trainer.max_steps=1"]) == 0
    only_run(folder / "runs").rename(folder / "headless")


ROWS = [
    # what a method needs
    tiny("method=facenet", "head=cosface", "teacher=run", "teacher.run=run", told="uses no teacher"),
    tiny("method=ckd", "head=none", told="requires a head"),
    tiny("teacher.run=run", told="teacher is none"),
    _built("method=distillation", *TAUGHT, "method.views.teacher=null", told="method.views.teacher = null"),
    _built("method=ckd", "dataset.size=[64,64]", "method.views.teacher=null", told="CKD trains two networks"),
    _built("method=ckd", "dataset.size=[64,64]", "head=partial_fc", told="samples them"),
    _built(
        "method=distillation",
        *TAUGHT,
        "head=none",
        "method.guidance=0",
        told="nothing to learn",
        fill={"head=...": "head=cosface"},
    ),
    _built("method=distillation", "transfer=logits", *TAUGHT, "head=none", told="compares logits"),
    _built("method=distillation", "transfer=logits", *TAUGHT, "head=partial_fc", told="samples them"),
    Row(
        ("train", *BARE, "evaluation=none", "method=distillation", "transfer=logits", *TAUGHT, *OTHERS),
        "for the teacher",
        set_up=both(copied, _six),
        build=True,
        fill={"FOLDER": "of_six"},
    ),
    # AI-KD
    _built("method=aikd", *TAUGHT, told="has no quality source", fill={"NAME": "mated_cosine", "FOLDER": "run"}),
    _built(
        "method=aikd",
        *TAUGHT,
        "method.quality_weight=0",
        "backbone.embedding_size=16",
        "method.start=scratch",
        told="its teacher's 8",
    ),
    _built(
        "method=aikd",
        *TAUGHT,
        "method.quality_weight=0",
        "backbone.channels=[8,8,8,16]",
        told="backbones differ",
        fill={"backbone=...": "backbone.channels=[8,8,8,8]"},
    ),
    _built(
        "method=aikd",
        *TAUGHT,
        "method.quality_weight=0",
        "augmentation=periocular",
        "method.views.student=periocular",
        "method.views.teacher=face",
        told="sees images of 48x128",
    ),
    _built("method=aikd", *TAUGHT, "method.quality_weight=0", "method.trainable=[layer5]", told="has no such part"),
    # FaceNet and harmonic embedding
    _built(*FACENET, "loader.batch_size=12", told="make batches of 8"),
    _built(*FACENET, "trainer.accumulate_grad_batches=2", told="cannot be divided into 2 parts"),
    _built(
        "method=facenet",
        "head=none",
        "method.people_per_batch=20",
        "method.images_per_person=10",
        "loader.batch_size=200",
        told="offer 36",
    ),
    _built(*HARMONIC, "method.last_layer_epochs=1", "backbone.embedding_size=16", told="cannot be compared"),
    _built(*HARMONIC, "method.last_layer_epochs=5", told="would never be trained"),
    _built(
        *HARMONIC,
        "method.last_layer_epochs=1",
        "backbone.channels=[8,8,8,16]",
        told="different architecture",
        fill={"backbone=...": "backbone.channels=[8,8,8,8]"},
    ),
    _built(*HARMONIC, "method.last_layer_epochs=1", "method.last_layer=[lnear]", told="has no such module"),
    # MaskInv
    *(
        _built("method=maskinv", *TAUGHT, *words, told=told)
        for words, told in (
            (("method.raise_epoch=1",), "raised_guidance = null"),
            (("method.raised_guidance=3000", "trainer.max_epochs=30"), "exactly one of"),
            (("head=none", "method.raised_guidance=3000", "method.raise_when_stable=10"), "monitors the head's loss"),
            (("method.raised_guidance=3000", "method.raise_epoch=20"), "would never be raised"),
        )
    ),
    # gradients and groups
    _built("gradient_clip={backbne:5.0}", told="has no such part"),
    _built(
        "method=aikd",
        *TAUGHT,
        "method.quality_weight=0",
        "method.backbone_group={momentum:0.1}",
        "optimizer=adamw",
        told="is set for a parameter group",
    ),
    # quality labels
    *(
        _built("method=aikd", f"teacher=quality/{source}", "teacher.run=run", *words, told=told)
        for source, words, told in (
            ("crfiqa", ("teacher.quality.centres=classifier", "dataset.people=5"), "was trained on 6 classes"),
            ("crfiqa", ("teacher.quality.centres=classifier",), "lie no closer to their own class"),
            ("grafiqs", ("teacher.quality.stage=layr4",), "has no stage"),
            ("head_score", (), "needs a teacher whose head predicts"),
            ("embedding_norm", (), "runs the wrong way"),
            ("serfiq", ("method.check_direction=false",), "was trained without it"),
        )
    ),
    # batches
    _built("loader.batch_size=50", told="more than the 36 training images"),
    _run("loader.batch_size=9", "trainer.accumulate_grad_batches=2", told="cannot be divided into 2 parts"),
    _built("dataset.people=1", told="needs at least two classes"),
    _built("validation=people", "dataset.people=2", told="too few people are left"),
    *(
        tiny(*words, told=told)
        for words, told in (
            (("trainer.devices=none",), "is not a valid choice of devices"),
            (("trainer.strategy=dpp",), "Lightning has no such option"),
            (("trainer.accelerator=cpus",), "Lightning has no such option"),
        )
    ),
    _built("trainer.limit_train_batches=0.01", told="leaves 0 of"),
    # parts of a user's own
    *(
        Row(("train", *UNTESTED, *words), told, set_up=both(copied, environment(KDFACE_PLUGINS="tests")), build=True)
        for words, told in (
            (("method._target_=tests.advice.parts.Headless",), "uses no head"),
            (
                (
                    *("method=distillation", *TAUGHT, "transfer=similarity"),
                    *("~backbone.channels", "~backbone.blocks", "backbone._target_=tests.advice.parts.Plain"),
                ),
                "has no with_maps",
            ),
        )
    ),
    # quality labels that need classes, or somebody's other images
    Row(
        (
            *("train", *UNTESTED, "method=aikd", "teacher=quality/crfiqa", "teacher.quality.centres=classifier"),
            "teacher.run=headless",
        ),
        "this teacher has none",
        set_up=_headless,
        build=True,
    ),
    Row(
        (*FOLDER, "method=aikd", "teacher=quality/mated_cosine", "teacher.run=run"),
        "compares each image with others of the same person",
        set_up=both(copied, faces, lambda folder: picture(folder / "faces", "alone/x.png")),
        build=True,
    ),
]
