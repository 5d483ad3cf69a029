"""The root of the configuration. All other types come from the signatures of the parts named by `_target_`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Gt

from kdface.config.settings import EMASettings, HardwareSettings, LoaderSettings, ResumeSettings


class Part:
    """Marks a field whose value is a node with a `_target_`."""


class TrainerArguments:
    """Marks the field whose keys are arguments of `pl.Trainer`."""


@dataclass(frozen=True)
class Paths:
    """Attributes:
    data: folder of the datasets.
    runs: folder of the runs.
    """

    data: Path
    runs: Path


@dataclass(frozen=True)
class DataSettings:
    """Attributes:
    verify: how test images are checked before training: headers, or full (decoded).
    """

    verify: Literal["headers", "full"] = "headers"


@dataclass(frozen=True)
class Extras:
    """Attributes:
    print_config: print the resolved configuration before training.
    enforce_tags: raise an error if a run has no `tags`.
    """

    print_config: bool = False
    enforce_tags: bool = False


@dataclass(frozen=True)
class Configuration:
    """One training run.

    Attributes:
        name: folder under `paths.runs`; null: the experiment's name, or method and backbone.
        seed: seed of all randomness; null draws one and records it.
        trainer: arguments of pl.Trainer.
        logger, callbacks: Lightning loggers and callbacks, under any names.
        validation: protocols evaluated during training, every trainer.check_val_every_n_epoch; null: none.
        evaluate_untrained: also evaluate before the first step: a baseline, and a check of the protocols.
        weights: initial weights of the backbone; null: random, from the seed.
        freeze: names of backbone modules that are not trained.
        lr_scale: module of the method -> factor on its learning rate.
        gradient_clip: module of the method -> largest norm of its gradient; null: no clipping by module.
        data: checks of the data before use.
        tags: labels to find runs by: saved in the run folder, the report and the loggers. Not part of a run's identity.
        extras: optional behaviour of the command.
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
    trainer: TrainerArguments
    loader: LoaderSettings
    hardware: HardwareSettings
    ema: EMASettings
    resume: ResumeSettings
    paths: Paths
    name: str | None
    seed: Annotated[int, Ge(0)] | None
    validation: dict[str, Part] | None = None
    logger: dict[str, Part] | None = None
    callbacks: dict[str, Part] | None = None
    evaluate_untrained: bool = False
    weights: Part | None = None
    freeze: list[str] | None = None
    lr_scale: dict[str, Annotated[float, Gt(0)]] | None = None
    gradient_clip: dict[str, Annotated[float, Gt(0)]] | None = None
    data: DataSettings = field(default_factory=DataSettings)
    tags: list[str] | None = None
    extras: Extras = field(default_factory=Extras)
