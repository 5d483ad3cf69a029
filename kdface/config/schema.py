"""The root of the configuration. Below it, every type comes from the signature of the part that a `_target_` names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from annotated_types import Ge

from kdface.config.check import Part
from kdface.runs.settings import TrainerSettings


@dataclass(frozen=True)
class Paths:
    """Attributes:
    data: where datasets are looked for.
    runs: where run folders are written.
    """

    data: Path
    runs: Path


@dataclass(frozen=True)
class Configuration:
    """One training run.

    Attributes:
        name: the folder under `paths.runs`; null: the experiment's name, or method and backbone.
        seed: of every random draw; null draws one and records it.
    """

    method: Part
    backbone: Part
    head: Part | None
    teacher: Part | None
    augmentation: Part
    dataset: Part
    evaluation: dict[str, Part]
    optimizer: Part
    scheduler: Part
    trainer: TrainerSettings
    logger: Part | None
    paths: Paths
    name: str | None
    seed: Annotated[int, Ge(0)] | None
