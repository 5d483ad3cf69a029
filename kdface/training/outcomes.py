"""Run the protocols and write results.json and scores."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kdface.atomic import write_binary
from kdface.evaluation import EvaluationProtocol, Outcome
from kdface.evaluation.protocol import outcome_of
from kdface.hardware import Profile, forward_context
from kdface.methods import Method


def evaluate(
    protocols: dict[str, EvaluationProtocol],
    method: Method,
    profile: Profile,
    rank: int = 0,
    world: int = 1,
) -> dict[str, Outcome]:
    """Run protocols on a method's evaluated network in eval mode, then restore its mode."""
    was_training = method.training
    method.eval()
    if world > 1:  # BatchNorm statistics differ between ranks: evaluate those that rank 0 saves
        for buffer in method.buffers():
            torch.distributed.broadcast(buffer, 0)
    embed = method.embed_for(rank, world)
    try:
        with forward_context(profile):
            return {name: outcome_of(protocol, embed, f"evaluation.{name}") for name, protocol in protocols.items()}
    finally:
        method.train(was_training)


def results_of(outcomes: dict[str, Outcome]) -> dict[str, Any]:
    """The outcomes in results.json: metrics by test set/metric, the rest by test set.

    All test sets have counts; symptoms, choices and operating points (verification only) are included if present.
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
    """Write NAME.npz with raw similarities and labels, to draw curves without the network."""
    for name, outcome in outcomes.items():
        arrays: dict[str, Any] = outcome.arrays()
        if arrays:
            write_binary(folder / f"{name}.npz", partial(np.savez, **arrays))
