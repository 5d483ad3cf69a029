"""How a run is trained, as one plain value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Lt


@dataclass(frozen=True)
class TrainerSettings:
    """How a run is trained. Counts are of optimiser steps, batches are global (over all ranks).

    Attributes:
        max_epochs: passes over the training images.
        max_steps: stop after so many optimiser steps, whichever comes first; null: no such limit.
        batch_size: images per step, summed over ranks and accumulated parts.
        accumulate: split each batch in so many parts to save memory.
        clip_norm: largest gradient norm; null: not clipped.
        profile: auto looks at the machine (precision, memory format, fused optimiser); plain is float32 as it comes.
        precision: overrides the profile's precision; null: what the profile says.
        devices, nodes, strategy: as Lightning names them.
        workers: loader processes per rank.
        threads: CPU threads per rank; null: divided evenly.
        checkpoint_steps: write a checkpoint every so many steps as well as after each epoch; null: only then.
        evaluate_epochs: evaluate after every so many epochs; null: only at the end.
        evaluate_untrained: evaluate before the first step too, for a baseline and as a check of the protocols.
        ema_decay: evaluate and export an exponential moving average of the weights; null: the weights themselves.
        deterministic: refuse operations that give other bits on a second run.
        compile: compile the backbone with torch.compile.
        log_steps: write a training record every so many steps.
        sync_batchnorm: normalise by the statistics of the batches of all ranks, not of each rank's own part.

    A setting that was added later has a default here: a run from before it was trained with that, and keeps its name.
    """

    max_epochs: Annotated[int, Ge(1)]
    max_steps: Annotated[int, Ge(1)] | None
    batch_size: Annotated[int, Ge(2)]
    accumulate: Annotated[int, Ge(1)]
    clip_norm: Annotated[float, Gt(0)] | None
    profile: Literal["auto", "plain"]
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] | None
    devices: Annotated[int, Ge(1)]
    nodes: Annotated[int, Ge(1)]
    strategy: Literal["auto", "ddp"]
    workers: Annotated[int, Ge(0)]
    threads: Annotated[int, Ge(1)] | None
    checkpoint_steps: Annotated[int, Ge(1)] | None
    evaluate_epochs: Annotated[int, Ge(1)] | None
    evaluate_untrained: bool
    ema_decay: Annotated[float, Gt(0), Lt(1)] | None
    deterministic: bool
    compile: bool
    log_steps: Annotated[int, Ge(1)]
    sync_batchnorm: bool = False
