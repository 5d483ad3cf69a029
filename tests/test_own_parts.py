"""What a user adds lies in the user's folder: a file and a choice for each part, and nothing of kdface is edited."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from kdface.cli import main
from kdface.runs.folder import RunFolder

# part -> (module of the user's, choice); the backbone's factory is somebody else's package, of the shape of timm's.
SOURCES = {
    "callback": """
import pytorch_lightning as pl

class Seen(pl.Callback):
    def __init__(self, file: str = "seen.txt") -> None:
        self.file = file

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        pl_module.log("train/global_step", float(trainer.global_step))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        with open(self.file, "a") as file:
            file.write(" ".join(sorted(trainer.callback_metrics)) + "\\n")
""",
    "head": """
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear, normalize, one_hot
from kdface.heads import HeadOutput

class NormMargin(nn.Module):
    def __init__(self, embedding_size: int, num_classes: int, scale: float = 16.0, margin: float = 0.2) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(num_classes, embedding_size))
        self.scale, self.margin = scale, margin

    def forward(self, embedding: Tensor, label: Tensor) -> HeadOutput:
        norm = embedding.detach().norm(dim=1, keepdim=True)
        cosine = linear(normalize(embedding), normalize(self.weight))
        margin = self.margin * norm / norm.mean()
        logits = self.scale * (cosine - margin * one_hot(label, len(self.weight)))
        return HeadOutput(cross_entropy(logits, label), logits, cosine.detach())
""",
    "dataset": """
import numpy as np
from kdface.faces import Preprocessing, Sample

class Squares:
    name, preprocessing = "squares", Preprocessing(size=(32, 32))

    def __init__(self, images: int = 16) -> None:
        self.people = ["red", "green", "blue"]
        self.labels = np.arange(images, dtype=np.int64) % 3
        self.keys = [f"{self.people[label]}/{place}" for place, label in enumerate(self.labels)]

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> Sample:
        image = np.random.default_rng(index).integers(0, 99, (32, 32, 3), dtype=np.uint8)
        image[..., self.labels[index]] += 150
        return Sample(image, int(self.labels[index]), self.keys[index])
""",
    "loss": """
from torch import Tensor
from torch.nn.functional import cosine_similarity
from kdface.losses.transfer import Computed, Transfer

class CosineTransfer(Transfer):
    def __init__(self, power: float = 1.0) -> None:
        super().__init__()
        self.power = power

    def forward(self, student: Computed, teacher: Computed) -> Tensor:
        return ((1 - cosine_similarity(student.embedding, teacher.embedding)) ** self.power).mean()
""",
    "protocol": """
import numpy as np
from kdface.evaluation import Measured, Outcome
from kdface.evaluation.embed import Embedder
from kdface.faces import FaceSet

class MeanNorm:
    def __init__(self, dataset: FaceSet) -> None:
        self.datasets = (dataset,)

    def evaluate(self, embed: Embedder) -> Outcome:
        found = embed(self.datasets[0], list(self.datasets[0].keys))
        norms = np.linalg.norm(np.asarray(found), axis=1)
        return Outcome({"mean_norm": Measured(float(norms.mean()))}, {"images": len(norms)})
""",
}
ZOO = """
import torch
from torch import Tensor, nn

def create_model(model_name: str, pretrained: bool = False, **kwargs: object) -> nn.Module:
    return _Net(**kwargs)

class _Net(nn.Module):
    def __init__(self, num_classes: int = 1000, width: int = 5) -> None:
        super().__init__()
        assert num_classes == 0
        self.body = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, width))

    def forward(self, images: Tensor) -> Tensor:
        return self.body(images)
"""
CHOICES = {
    "callback": ("callbacks/mine", "# mine\nseen:\n  _target_: own_room.callback.Seen\n"),
    "head": ("head/mine", "# mine\n_target_: own_room.head.NormMargin\nscale: 8.0\n"),
    "dataset": ("dataset/mine", "# mine\n_target_: own_room.dataset.Squares\nimages: 16\n"),
    "loss": ("transfer/mine", "# @package method\n# mine\ntransfer:\n  _target_: own_room.loss.CosineTransfer\n"),
    "protocol": (
        "evaluation/mine",
        "# mine\nsquares:\n  _target_: own_room.protocol.MeanNorm\n"
        "  dataset:\n    _target_: own_room.dataset.Squares\n",
    ),
    "backbone": ("backbone/mine", "# mine\n_target_: foreign_zoo.create_model\nmodel_name: resnet18\nnum_classes: 0\n"),
}
MINE = [
    *("-cd", "choices", "backbone=mine", "head=mine", "dataset=mine", "evaluation=mine", "validation=evaluation"),
    *("loader.batch_size=8", "trainer.max_steps=2", "hardware.threads=1", "name=mine", "tags=[night]"),
    *("trainer.accumulate_grad_batches=2", "logger=[csv,tensorboard]", "callbacks=[mine,best]"),
    "callbacks.best.monitor=squares/mean_norm",
]


@dataclass
class Folder:
    """The user's folder, and what adding each part took: files of code and choices."""

    root: Path
    touched: dict[str, list[str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Folder]:
    """A run of parts of one's own, and a distillation of it; the packages lie in the current folder."""
    root, before = tmp_path_factory.mktemp("user"), Path.cwd()
    touched: dict[str, list[str]] = {"Trainer flag": [], "two loggers": []}
    (root / "foreign_zoo.py").write_text(ZOO)  # somebody else's
    for part, (choice, text) in CHOICES.items():
        files = {f"choices/{choice}.yaml": text}
        if part in SOURCES:
            files[f"own_room/{part}.py"] = SOURCES[part]
        for name, content in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(content)
        touched[part] = sorted(files)
    patch = pytest.MonkeyPatch()
    patch.chdir(root)
    patch.setenv("KDFACE_PLUGINS", "own_room,foreign_zoo")
    patch.setattr(sys, "argv", ["kdface"])
    patch.setattr(sys, "path", [place for place in sys.path if place not in ("", str(root))])
    assert main(["train", *MINE]) == 0
    assert main(["train", *MINE, "name=pupil", "method=distillation", "transfer=mine", "teacher.run=runs/mine"]) == 0
    yield Folder(root, touched)
    patch.undo()
    assert Path.cwd() == before
    for name in [name for name in sys.modules if name.partition(".")[0] in ("own_room", "foreign_zoo")]:
        del sys.modules[name]


def _run(folder: Folder, name: str) -> RunFolder:
    (config,) = (folder.root / "runs" / name).glob("*/config.yaml")
    return RunFolder(config.parent)


def test_a_part_takes_one_file_and_one_choice_at_most(folder: Folder) -> None:
    counts = {part: len(files) for part, files in folder.touched.items()}
    print("\nfiles touched: " + ", ".join(f"{part} {count}" for part, count in counts.items()))
    assert counts == {
        **{"Trainer flag": 0, "two loggers": 0, "backbone": 1},
        **{"callback": 2, "head": 2, "dataset": 2, "loss": 2, "protocol": 2},
    }


def test_the_parts_did_their_work(folder: Folder) -> None:
    run = _run(folder, "mine")
    state = torch.load(run.last, weights_only=True)["state_dict"]
    assert state["head.weight"].shape == (3, 5)  # people, and the width that one image of the foreign network showed
    assert run.read_results()["metrics"]["squares/mean_norm"]["value"] > 0
    assert "squares/mean_norm" in (folder.root / "seen.txt").read_text().split()
    rows = [row for row in map(json.loads, run.metrics.read_text().splitlines()) if row["kind"] == "train"]
    assert rows and all(row["global_step"] == row["step"] for row in rows)  # what a callback logs is of its step
    assert (run.root / "csv" / "metrics.csv").is_file() and list((run.root / "tensorboard").iterdir())
    assert "squares" in {card["name"] for card in json.loads((run.root / "data.json").read_text()).values()}
    pupil = [json.loads(line) for line in _run(folder, "pupil").metrics.read_text().splitlines()]
    terms = [row["terms"] for row in pupil if row["kind"] == "train"]
    assert terms and all(0 <= term["distillation"]["raw"] <= 2 for term in terms)  # 1 - cosine


def test_changed_code_of_own_parts_is_told(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    file = folder.root / "own_room" / "head.py"
    before = file.read_text()
    for text, told in ((before, False), (before + "# changed\n", True)):
        file.write_text(text)
        assert main(["train", *MINE]) == 0
        said = capsys.readouterr().out
        assert "this run is finished" in said
        assert ("the code of own_room has changed since" in said) == told
    file.write_text(before)


@pytest.mark.parametrize("checkpoint", ["best", "last", "path"])
def test_a_checkpoint_is_tested_as_templates_write_it(
    folder: Folder, checkpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = _run(folder, "mine")
    given = MINE
    if checkpoint == "path":
        (best,) = run.last.parent.glob("best-*.ckpt")
        checkpoint, given = os.path.relpath(best), []
    assert main(["train", *given, "train=false", "test=true", f"ckpt_path={checkpoint}"]) == 0
    said = capsys.readouterr().out
    assert "squares" in said and ("last.ckpt" if checkpoint == "last" else "best-") in said


def test_tags_are_in_the_run_folder_and_the_report(folder: Folder) -> None:
    assert _run(folder, "mine").read_config()["tags"] == ["night"]
    assert main(["report", "runs", "-o", "report.html"]) == 0
    assert '"tags": ["night"]' in (folder.root / "report.html").read_text()
