"""Run the protocols, and write what came out as results.json and scores."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kdface.evaluation import EvaluationProtocol, Outcome
from kdface.hardware import Profile, forward_context
from kdface.methods import Method
from kdface.runs.folder import write_atomic


def evaluate(
    protocols: dict[str, EvaluationProtocol],
    method: Method,
    profile: Profile,
    rank: int = 0,
    world: int = 1,
) -> dict[str, Outcome]:
    """Run protocols on a method's evaluated network, in eval mode; the mode it was in is restored."""
    was_training = method.training
    method.eval()
    if world > 1:  # each rank has normalised by its own images; what is evaluated is what rank 0 saves
        for buffer in method.buffers():
            torch.distributed.broadcast(buffer, 0)
    embed = method.embed_for(rank, world)
    try:
        with forward_context(profile):
            outcomes = {name: protocol.evaluate(embed) for name, protocol in protocols.items()}
        for name, protocol in protocols.items():
            if left_out := getattr(protocol, "left_out", []):
                outcomes[name].choices["left_out"] = left_out
        return outcomes
    finally:
        method.train(was_training)


def results_of(outcomes: dict[str, Outcome]) -> dict[str, Any]:
    """The part of a results.json that says what came out: metrics by test set/metric, the rest by test set.

    Counts stand for every test set; symptoms, choices and operating points (of verification alone) where there are any.
    """
    points = {name: outcome.operating_points() for name, outcome in outcomes.items()}
    return {
        "metrics": {
            f"{name}/{key}": metric.to_dict()
            for name, outcome in outcomes.items()
            for key, metric in outcome.metrics.items()
        },
        "counts": {name: outcome.counts for name, outcome in outcomes.items()},
        "symptoms": {name: outcome.symptoms for name, outcome in outcomes.items() if outcome.symptoms},
        "operating_points": {name: found for name, found in points.items() if found},
        "choices": {name: outcome.choices for name, outcome in outcomes.items() if outcome.choices},
    }


def write_scores(folder: Path, outcomes: dict[str, Outcome]) -> None:
    """NAME.npz: raw similarities and labels, from which curves are drawn without the network."""
    for name, outcome in outcomes.items():
        if arrays := outcome.arrays():
            write_atomic(folder / f"{name}.npz", partial(_save_arrays, arrays))


def _save_arrays(arrays: dict[str, Any], path: Path) -> None:
    with open(path, "wb") as file:  # given a name, NumPy would append .npz to it
        np.savez(file, **arrays)
