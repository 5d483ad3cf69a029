"""Run folders made by hand: what a run leaves behind, without training one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from kdface.config.fingerprint import fingerprint


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
    log: str = "",
) -> Path:
    """A run folder; `metrics` None: it was not finished."""
    root = runs / str(tree["name"]) / f"seed{tree['seed']}-{fingerprint(tree)[:8]}"
    root.mkdir(parents=True)
    (root / "config.yaml").write_text(yaml.safe_dump(dict(tree)), encoding="utf-8")
    origin = {"choices": {"head": tree["head"]["_target_"].split(".")[-1].lower()}, "command": ["kdface", "train"]}
    (root / "origin.json").write_text(json.dumps(origin))
    cards = {"train": card(train_data), "evaluation.lfw": card(data)}
    (root / "data.json").write_text(json.dumps(cards))
    environment = {"packages": {"torch": "2.13.0"}, "processor": "one", "git": {"commit": "abc123", "diff": ""}}
    (root / "environment.json").write_text(json.dumps(environment))
    records = [
        {"kind": "train", "step": 10 * (k + 1), "epoch": k, "loss": loss, "lr": 0.1, "time": 1.0 + k}
        for k, loss in enumerate(losses)
    ]
    (root / "metrics.jsonl").write_text("".join(json.dumps(each) + "\n" for each in records))
    if log:
        (root / "output.log").write_text(log)
    if scores is not None:
        (root / "scores").mkdir()
        np.savez(root / "scores" / "lfw.npz", scores=np.array(scores[0]), same=np.array(scores[1]))
    if metrics is not None:
        found = {key: {"value": value} for key, value in metrics.items()}
        results = {"metrics": found, "step": 30, "seed": tree["seed"], "train_seconds": 1.5, "symptoms": {}}
        (root / "results.json").write_text(json.dumps(results))
        (root / "DONE").write_text("finished\n")
    return root


def card(fingerprint: str) -> dict[str, Any]:
    return {"name": "toy_faces", "fingerprint": fingerprint, "images": 4, "people": 2, "terms": "none"}
