"""The root of the configuration. Below it, every type comes from the signature of the part that a `_target_` names."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Gt

from kdface.config.check import Part, TrainerArguments
from kdface.runs.settings import EMASettings, HardwareSettings, LoaderSettings, ResumeSettings


@dataclass(frozen=True)
class Paths:
    """Attributes:
    data: where datasets are looked for.
    runs: where run folders are written.
    """

    data: Path
    runs: Path


@dataclass(frozen=True)
class DataSettings:
    """Attributes:
    verify: how closely test images are looked at before training: by their headers, or decoded (full).
    """

    verify: Literal["headers", "full"] = "headers"


@dataclass(frozen=True)
class Extras:
    """Attributes:
    print_config: print the resolved configuration before training.
    enforce_tags: refuse a run without `tags`.
    """

    print_config: bool = False
    enforce_tags: bool = False


@dataclass(frozen=True)
class Configuration:
    """One training run.

    Attributes:
        name: the folder under `paths.runs`; null: the experiment's name, or method and backbone.
        seed: of every random draw; null draws one and records it.
        trainer: arguments of pl.Trainer.
        logger, callbacks: Lightning's, by any name.
        validation: what is evaluated during training, at trainer.check_val_every_n_epoch; null: nothing.
        evaluate_untrained: evaluate before the first step too: a baseline, and a check of the protocols.
        weights: what the backbone starts with; null: weights drawn from the seed.
        freeze: parts of the backbone that are not trained, by name.
        lr_scale: part of the method -> what its learning rate is multiplied by.
        gradient_clip: part of the method -> largest norm of its gradient; null: none is clipped by itself.
        data: how data is looked at before it is used.
        tags: words to find runs by: in the run folder, the report and the loggers. They do not make another run.
        extras: what a command does beside training.
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
    logger: dict[str, Part] | None
    paths: Paths
    name: str | None
    seed: Annotated[int, Ge(0)] | None
    validation: dict[str, Part] | None = None
    callbacks: dict[str, Part] | None = None
    evaluate_untrained: bool = False
    weights: Part | None = None
    freeze: list[str] | None = None
    lr_scale: dict[str, Annotated[float, Gt(0)]] | None = None
    gradient_clip: dict[str, Annotated[float, Gt(0)]] | None = None
    data: DataSettings = field(default_factory=DataSettings)
    tags: list[str] | None = None
    extras: Extras = field(default_factory=Extras)
