"""Run folders made by hand: what a run leaves behind, without training one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from kdface.augmentations import Standard
from kdface.config.fingerprint import fingerprint
from kdface.datasets import ToyFaces
from kdface.reports.draw import views_sheet
from kdface.reports.plotting import save
from kdface.runs.folder import RunFolder
from kdface.sweeps import marks
from kdface.sweeps.ledger import Entry, Ledger

LATER = "later+and_another_test_set+and_a_third_test_set"  # what `kdface evaluate` calls its folder


def config(runs: Path, *, name: str = "demo", seed: int = 0, **changes: Any) -> dict[str, Any]:
    """A resolved configuration, as far as reports look at it; `changes` are dotted keys with "__" for the dot."""
    tree: dict[str, Any] = {
        "name": name,
        "seed": seed,
        "paths": {"runs": str(runs), "data": "/nowhere/data"},
        "method": {"_target_": "kdface.methods.SphereFaceR"},
        "head": {"_target_": "kdface.heads.ArcFace", "margin": 0.5, "scale": 64.0},
        "teacher": None,
        "dataset": {"_target_": "kdface.datasets.ToyFaces", "people": 10, "size": [112, 112]},
        "evaluation": {"lfw": {"_target_": "kdface.evaluation.lfw_verification", "pairs": "/nowhere/data/pairs.txt"}},
        "trainer": {"max_epochs": 2, "batch_size": 8},
        "logger": None,
    }
    for key, value in changes.items():
        *parents, last = key.split("__")
        node = tree
        for parent in parents:
            node = node[parent]
        node[last] = value
    return tree


def make_run(
    runs: Path,
    tree: Mapping[str, Any],
    metrics: Mapping[str, float | None] | None,
    *,
    data: str = "d0",
    train_data: str = "t0",
    losses: Sequence[float] = (3.0, 2.0, 1.0),
    scores: tuple[Sequence[float], Sequence[bool]] | None = None,
    arrays: Mapping[str, Mapping[str, NDArray[Any]]] | None = None,
    log: str = "",
) -> Path:
    """A run folder; `metrics` None: it was not finished."""
    root = runs / str(tree["name"]) / f"seed{tree['seed']}-{fingerprint(tree)[:8]}"
    root.mkdir(parents=True)
    (root / "config.yaml").write_text(yaml.safe_dump(dict(tree)), encoding="utf-8")
    origin = {"choices": {"head": tree["head"]["_target_"].split(".")[-1].lower()}, "command": ["kdface", "train"]}
    (root / "origin.json").write_text(json.dumps(origin))
    cards = {"train": card(train_data), **{f"evaluation.{test}": card(data) for test in tree["evaluation"]}}
    (root / "data.json").write_text(json.dumps(cards))
    environment = {"packages": {"torch": "2.13.0"}, "processor": "one", "git": {"commit": "abc123", "diff": ""}}
    (root / "environment.json").write_text(json.dumps(environment))
    records = [
        {"kind": "train", "step": 10 * (k + 1), "epoch": k, "loss": loss, "lr": 0.1, "time": 1.0 + k}
        for k, loss in enumerate(losses)
    ]
    (root / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    if log:
        (root / "output.log").write_text(log)
    tests: dict[str, Any] = dict(arrays or {})
    if scores is not None:
        tests["lfw"] = {"scores": np.array(scores[0]), "same": np.array(scores[1])}
    for test, found in tests.items():
        (root / "scores").mkdir(exist_ok=True)
        np.savez(root / "scores" / f"{test}.npz", **found)
    if metrics is not None:
        found = {key: {"value": value} for key, value in metrics.items()}
        results = {"metrics": found, "step": 30, "seed": tree["seed"], "train_seconds": 1.5, "symptoms": {}}
        (root / "results.json").write_text(json.dumps(results))
        (root / "DONE").write_text("finished\n")
    return root


def make_showcase(runs: Path, seeds: int = 3) -> None:
    """A plain and a distilled configuration of generated faces with something for every section, a failed run, and a
    sweep of three jobs: done, failed, never begun."""
    toy = {"_target_": "kdface.datasets.ToyFaces", "people": 8, "images_per_person": 4, "size": [32, 32]}
    pairs = {"_target_": "kdface.evaluation.random_verification", "folds": 2, "pairs_per_fold": 8, "dataset": toy}
    taught = {"_target_": "kdface.teachers.from_run", "run": "/nowhere/teacher"}
    same = np.tile(np.arange(8) < 4, 2)
    for strength, teacher in ((1.0, None), (1.6, taught)):
        for seed in range(seeds):
            rng = np.random.default_rng([int(10 * strength), seed])
            tree = config(
                runs, seed=seed, teacher=teacher, dataset=toy, evaluation={"toy": pairs, "who": {}, "grade": {}}
            )
            tree["augmentation"] = {"_target_": "kdface.augmentations.Standard"}
            people = np.repeat(np.arange(8), 4)
            sample = strength * np.eye(8)[people] + 0.4 * rng.normal(size=(32, 8))
            found = {
                "toy": {
                    "scores": 0.2 * rng.normal(size=16) + 0.3 * strength * same,
                    "same": same,
                    "sample": (sample / np.linalg.norm(sample, axis=1, keepdims=True)).astype(np.float16),
                    "sample_people": people.astype(np.int16),
                },
                "who": {"cmc": 1 - 0.5 / strength / np.arange(1, 21)},
                "grade": {
                    "discarded": np.arange(400) / 1000,
                    "errors": 0.1 - 0.1 * strength * np.arange(400) / 1000 + 0.003 * rng.normal(size=400),
                },
            }
            accuracy = 0.8 + 0.05 * strength + 0.01 * rng.normal()
            losses = (5 * np.exp(-np.arange(40) / 15) + 0.2 * rng.random(40)).tolist()
            metrics = {"toy/accuracy": accuracy, "toy/eer": 1 - accuracy}
            root = make_run(runs, tree, metrics, arrays=found, losses=losses)
            if teacher is None and seed == 0:
                evaluate_later(root)
                save(views_sheet(ToyFaces(8, 4, size=(32, 32)), Standard(), seed), root / "figures" / "views.png")
    make_run(runs, config(runs, name="broken"), None, log="RuntimeError: out of memory\n")
    ledger = Ledger.of(runs, ["demo"], ["lr"])
    for run, override in ((root.relative_to(runs).as_posix(), "lr=1"), ("demo/a", "lr=9"), ("demo/b", "lr=3")):
        ledger.write(Entry(run=run, overrides=[override]))
    fail(RunFolder(runs / "demo" / "a"), "the loss diverged")


def fail(folder: RunFolder, error: str) -> None:
    """A job that began, and failed before it had anything to report."""
    folder.root.mkdir(parents=True, exist_ok=True)
    folder.config.touch()
    marks.note_failure(folder, error)


def evaluate_later(root: Path) -> None:
    """What `kdface evaluate` leaves in a run's folder, of another commit."""
    found = {
        "metrics": {"later/accuracy": {"value": 0.75}},
        "checkpoint": "checkpoints/last.ckpt",
        "step": 30,
        "evaluation": {"later": {}},
        "environment": {"processor": "two", "git": {"commit": "def456", "diff": "+"}},
    }
    folder = root / "evaluations" / LATER
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps(found))


def card(fingerprint: str) -> dict[str, Any]:
    return {"name": "toy_faces", "fingerprint": fingerprint, "images": 4, "people": 2, "terms": "none"}
