"""One run's objects, assembled: what training and evaluation are handed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdface.datasets.loading import Order, TrainingSet
from kdface.evaluation import EvaluationProtocol
from kdface.methods import Method, Optimization
from kdface.runs.records import Logger
from kdface.runs.settings import Settings


@dataclass
class Job:
    """Attributes:
    method: networks and losses, initialised, on the CPU.
    optimization: how the parameters move.
    training: the training images through the augmentation.
    order: epoch -> (steps, batch) indices.
    batches: how many of an epoch's batches are trained on; accumulated parts count.
    protocols: name -> evaluation protocol, run at the end.
    validation: name -> evaluation protocol, run during training.
    settings: how to train.
    seed: of every random draw.
    config: the resolved configuration.
    make_logger: (folder, run name) -> where records go besides metrics.jsonl.
    """

    method: Method
    optimization: Optimization
    training: TrainingSet
    order: Order
    batches: int
    protocols: dict[str, EvaluationProtocol]
    validation: dict[str, EvaluationProtocol]
    settings: Settings
    seed: int
    config: dict[str, Any]
    make_logger: Callable[[Path, str], Logger | None]
