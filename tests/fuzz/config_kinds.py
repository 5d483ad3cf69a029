"""Configuration files and experiments of a user's own folder."""

from __future__ import annotations

from pathlib import Path

import yaml

from tests.fuzz.kinds import Kind, command, tried


def _make(folder: Path) -> None:
    own = folder / "own"
    for group in ("experiment", "head", "evaluation"):
        (own / group).mkdir(parents=True)
    (own / "head" / "mine.yaml").write_text(
        "# a head of mine\n_target_: kdface.heads.ArcFace\nmargin: 0.4 # radians\nscale: 32.0\n"
    )
    (own / "evaluation" / "mine.yaml").write_text(
        "# pairs of mine\nmine:\n  _target_: kdface.evaluation.random_verification\n  folds: 2\n  pairs_per_fold: 8\n"
        "  fars: [0.25]\n  dataset:\n    _target_: kdface.datasets.ToyFaces\n    people: 8\n    images_per_person: 4\n"
        "    size: ${dataset.size}\n    split: test\n"
    )
    values = {
        "name": "mine",
        "backbone": {"channels": [8, 8, 8, 8], "blocks": [1, 1, 1, 1], "embedding_size": 8},
        "dataset": {"people": 6, "images_per_person": 6, "size": [32, 32]},
        "loader": {"batch_size": 8},
        "trainer": {"max_epochs": 2, "gradient_clip_val": None},
        "optimizer": {"lr": 0.01, "momentum": 0.9},
    }
    choices = {"head": "mine", "dataset": "toy_faces", "backbone": "iresnet_nano", "evaluation": "mine"}
    defaults = "".join(f"  - override /{group}: {choice}\n" for group, choice in choices.items())
    (own / "experiment" / "mine.yaml").write_text(
        f"# @package _global_\n# an experiment of mine\ndefaults:\n{defaults}  - _self_\n{yaml.safe_dump(values)}"
    )


def _read(folder: Path) -> object:
    own = str(folder / "own")
    return [
        command("train", "experiment=mine", "hardware.threads=1", "--cfg", "job", "--config-dir", own),
        tried(lambda: command("list", "head", "--config-dir", own)),
    ]


KINDS = [Kind("configs", _make, ("own/experiment/*", "own/*/*"), _read, share=2)]
