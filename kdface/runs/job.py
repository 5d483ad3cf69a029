"""The objects of one run, assembled for training and evaluation."""

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
    method: networks and losses, initialised, on the CPU; its optimiser and schedule come with it.
    data: training batches and what is evaluated during training.
    protocols: name -> evaluation protocol, run at the end.
    settings: how to train.
    seed: of every random draw.
    config: the resolved configuration.
    make_callbacks, make_loggers: those of the configuration, for a run folder.
    """

    method: Method
    data: FaceData
    protocols: dict[str, EvaluationProtocol]
    settings: Settings
    seed: int
    config: dict[str, Any]
    make_callbacks: Callable[[RunFolder], list[pl.Callback]]
    make_loggers: Callable[[RunFolder], list[Logger]]
