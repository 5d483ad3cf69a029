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
from kdface.runs.settings import TrainerSettings


@dataclass
class Job:
    """Attributes:
    method: networks and losses, initialised, on the CPU.
    optimization: how the parameters move.
    training: the training images through the augmentation.
    order: epoch -> (steps, batch) indices.
    protocols: name -> evaluation protocol.
    settings: how to train.
    seed: of every random draw.
    config: the resolved configuration.
    make_logger: (folder, run name) -> where records go besides metrics.jsonl.
    """

    method: Method
    optimization: Optimization
    training: TrainingSet
    order: Order
    protocols: dict[str, EvaluationProtocol]
    settings: TrainerSettings
    seed: int
    config: dict[str, Any]
    make_logger: Callable[[Path, str], Logger | None]
