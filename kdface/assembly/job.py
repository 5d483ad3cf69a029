"""The objects of a run, assembled for training and evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kdface.config.settings import Settings
from kdface.lightning import FaceData
from kdface.methods import Method


@dataclass
class Job:
    """Attributes:
    method: initialised networks and losses on the CPU, with optimiser and schedule.
    data: training batches, and the evaluation protocols during training and at its end.
    settings: training settings.
    config: the resolved configuration.
    """

    method: Method
    data: FaceData
    settings: Settings
    config: dict[str, Any]
