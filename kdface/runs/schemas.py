"""What the files of a run folder and of a sweep hold, as far as anybody relies on it; more may stand in them."""

from __future__ import annotations

from typing import Annotated, Any, Required

from annotated_types import Ge
from pydantic import ConfigDict
from typing_extensions import TypedDict

Count = Annotated[int, Ge(0)]


class Metric(TypedDict, total=False):
    """One number; None if the data cannot resolve it."""

    value: Required[float | None]
    std: float | None
    low: float | None
    high: float | None


class Point(TypedDict, total=False):
    """A threshold at a false-accept rate; `low` and `high` are null where they are not bounded."""

    far: Required[float]
    threshold: Required[float]
    low: float | None
    high: float | None
    tar: float | None


class Card(TypedDict, total=False):
    """A dataset in data.json."""

    fingerprint: str
    name: str
    images: Count
    people: Count
    terms: str | None


class Git(TypedDict, total=False):
    commit: str | None
    diff: str | None


class Environment(TypedDict, total=False):
    """environment.json."""

    packages: dict[str, str | None]
    processor: str
    gpu: str | None
    profile: dict[str, Any]
    threads: int
    world_size: int
    git: Git | None
    resumed: list[dict[str, Any]]


class Results(TypedDict, total=False):
    """results.json of a run, and of `kdface evaluate`."""

    metrics: Required[dict[str, Metric]]
    untrained: dict[str, Metric] | None
    counts: dict[str, Any]
    symptoms: dict[str, list[str]] | None
    choices: dict[str, dict[str, Any]] | None
    operating_points: dict[str, list[Point]] | None
    skipped: list[Any]
    step: Count
    seed: int
    train_seconds: float
    resumed_at: int | None


class LaterResults(Results, total=False):
    """results.json of `kdface evaluate`."""

    checkpoint: str
    evaluation: dict[str, dict[str, Any]]
    paths: dict[str, str]
    data: dict[str, Card]
    environment: Environment


class Origin(TypedDict, total=False):
    """origin.json."""

    command: list[str]
    choices: dict[str, Any]
    where: dict[str, str]
    python: str
    began_at: dict[str, Any] | None


class Record(TypedDict, total=False):
    """A line of metrics.jsonl."""

    kind: Required[str]
    step: Required[int]
    time: float


class Plan(TypedDict):
    """plan.json."""

    total_steps: Count


class Failure(TypedDict):
    """failed.json."""

    error: str


class Sweep(TypedDict, total=False):
    """sweep.json."""

    name: str
    swept: list[str]
    launcher: list[str]


class Job(TypedDict, total=False):
    """jobs/KEY.json of a sweep, and nothing else in it: an `Entry` is made of it."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]

    run: Required[str]
    overrides: list[str]
    point: dict[str, str]
    base: str
    ticket: str
    pruned: bool


class Paths(TypedDict):
    data: str
    runs: str


class Config(TypedDict, total=False):
    """config.yaml, of any time: what is read before the whole of it is checked (`kdface.config.check`)."""

    name: Required[str]
    seed: Required[int]
    paths: Required[Paths]
    trainer: Required[dict[str, Any]]
    dataset: dict[str, Any]
    augmentation: dict[str, Any]
    backbone: dict[str, Any]
    method: dict[str, Any]
    optimizer: dict[str, Any]
    scheduler: dict[str, Any]
    head: dict[str, Any] | None
    teacher: dict[str, Any] | None
    evaluation: dict[str, Any] | None
    loader: dict[str, Any] | None
    logger: dict[str, Any] | None


class CheckpointFields(TypedDict, total=False):
    """What kdface writes into a checkpoint, under `kdface`."""

    format: Required[int]
    config: dict[str, Any]
    preprocessing: Required[dict[str, Any]]
    num_classes: Required[Count]
    people: list[str]
    seed: int
    step: Required[Count]
    batches: Required[Count]
