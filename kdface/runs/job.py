"""The objects of a run, assembled for training and evaluation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loggers import Logger

from kdface.evaluation import EvaluationProtocol
from kdface.lightning import FaceData
from kdface.methods import Method
from kdface.runs.folder import RunFolder
from kdface.runs.settings import Settings


@dataclass
class Job:
    """Attributes:
    method: initialised networks and losses on the CPU, with optimiser and schedule.
    data: training batches and validation data.
    protocols: name -> evaluation protocol, run at the end.
    settings: training settings.
    seed: seed of all randomness.
    config: the resolved configuration.
    make_callbacks, make_loggers: build the configured callbacks and loggers for a run folder.
    """

    method: Method
    data: FaceData
    protocols: dict[str, EvaluationProtocol]
    settings: Settings
    seed: int
    config: dict[str, Any]
    make_callbacks: Callable[[RunFolder], list[pl.Callback]]
    make_loggers: Callable[[RunFolder], list[Logger]]
