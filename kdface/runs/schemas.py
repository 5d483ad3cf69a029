"""The fields of files in run folders and sweeps that the code relies on; files may contain more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Required

from annotated_types import Ge, Gt, Len, Lt
from pydantic import AfterValidator, ConfigDict, FiniteFloat
from typing_extensions import TypedDict

Count = Annotated[int, Ge(0)]


class Metric(TypedDict, total=False):
    """A number; None if the data cannot resolve it."""

    value: Required[float | None]
    std: float | None
    low: float | None
    high: float | None


class Point(TypedDict, total=False):
    """A threshold at a false-accept rate; `low` and `high` are null if unbounded."""

    far: Required[float]
    threshold: Required[float]
    low: float | None
    high: float | None
    tar: float | None


class Card(TypedDict, total=False):
    """A dataset in data.json."""

    fingerprint: Required[str]
    name: str
    images: Count
    people: Count
    terms: str | None


class Git(TypedDict, total=False):
    """The commit and uncommitted changes at the start of a run."""

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
    plugins: dict[str, str]
    resumed: list[dict[str, Any]]


class Stopped(TypedDict):
    """What ended training before its last step: trainer.max_time, or the key of a callback."""

    by: str
    total_steps: Count


class Results(TypedDict, total=False):
    """results.json of a run, and of `kdface evaluate`."""

    metrics: Required[dict[str, Metric]]
    untrained: dict[str, Metric] | None
    counts: dict[str, dict[str, Any]]
    symptoms: dict[str, list[str]] | None
    choices: dict[str, dict[str, Any]] | None
    operating_points: dict[str, list[Point]] | None
    skipped: list[Any]
    changed_during: list[str]
    step: Count
    seed: int
    train_seconds: float
    resumed_at: int | None
    stopped: Stopped


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


class Term(TypedDict):
    """A term of the loss; None if not finite."""

    raw: float | None
    weighted: float | None


class _Record(TypedDict, total=False):
    kind: Required[str]
    step: Required[Count]
    time: float
    epoch: float
    terms: dict[str, Term]
    test: str
    metrics: dict[str, Metric]


def _evaluation_has_metrics(record: _Record) -> _Record:
    if record["kind"] == "evaluation" and "metrics" not in record:
        raise ValueError("an evaluation has no metrics")
    return record


# A line of metrics.jsonl.
Record = Annotated[_Record, AfterValidator(_evaluation_has_metrics)]


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
    config_dirs: list[str]


class Job(TypedDict, total=False):
    """jobs/KEY.json of a sweep, without further fields, since an `Entry` is built from it."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]

    run: Required[str]
    overrides: list[str]
    point: dict[str, str]
    base: str
    ticket: str
    pruned: bool


class Paths(TypedDict):
    """The folders of a configuration."""

    data: str
    runs: str


def _parts_have_names(tree: Any) -> Any:
    """Raise `ValueError` unless every `_target_` is a string."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, Mapping):
            if not isinstance(node.get("_target_", ""), str):
                raise ValueError(f"a _target_ is {str(node['_target_'])[:40]!r}, not a name")
            waiting += node.values()
        elif isinstance(node, list):
            waiting += node
    return tree


def _is_part(tree: dict[str, Any]) -> dict[str, Any]:
    if "_target_" not in tree:
        raise ValueError("there is no _target_")
    _parts_have_names(tree)
    return tree


class _Config(TypedDict, total=False):
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
    evaluation: dict[str, dict[str, Any]] | None
    validation: dict[str, dict[str, Any]] | None
    callbacks: dict[str, dict[str, Any]] | None
    loader: dict[str, Any] | None
    logger: dict[str, Any] | None


# config.yaml of any version: the fields read before the full check (`kdface.config.check`).
Config = Annotated[_Config, AfterValidator(_parts_have_names)]


class Preprocessing(TypedDict):
    """`kdface.faces.Preprocessing` as written by its `to_dict`, without further fields, since it is built from it."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]

    template: str
    size: Annotated[list[Annotated[int, Gt(0), Lt(1 << 16)]], Len(2, 2)]
    color: Literal["rgb", "bgr"]
    mean: Annotated[FiniteFloat, Gt(-1e6), Lt(1e6)]
    std: Annotated[FiniteFloat, Gt(0), Lt(1e6)]


class CheckpointFields(TypedDict, total=False):
    """The metadata that kdface writes to a checkpoint, under `kdface`."""

    format: Required[int]
    config: Config
    preprocessing: Required[Preprocessing]
    num_classes: Required[Count]
    people: list[str]
    seed: int
    step: Required[Count]
    batches: Required[Count]


class Exported(TypedDict, total=False):
    """The metadata of a file written by `kdface export`, or of the card of another file."""

    backbone: Annotated[dict[str, Any], AfterValidator(_is_part)]
    preprocessing: Required[Preprocessing]
    quality_hidden: Annotated[int, Gt(0), Lt(1 << 16)]
    resizes: bool
    operating_points: dict[str, list[Point]] | None


class Fingerprints(TypedDict, total=False):
    """fingerprints.json of a pack: the SHA-256 of each file."""

    files: Required[dict[str, str]]
