"""Mistakes about ranks, GPUs and a cluster: told before a job starts, so no other machine is needed to try them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.advice.fixtures import environment, text
from tests.advice.row import Row
from tests.conftest import UNTESTED

DIVIDED = ("train", *UNTESTED, "trainer.max_steps=1", "trainer.devices=2", "head=partial_fc")


def _started(*words: str, told: str, fill: dict[str, str] | None = None) -> Row:
    """As torchrun starts the first of two ranks on two machines."""
    two = environment(RANK="0", WORLD_SIZE="2", LOCAL_RANK="0", LOCAL_WORLD_SIZE="1")
    return Row(("train", *UNTESTED, *words), told, set_up=two, fill=fill or {}, build=True)


def _sweep(*words: str, told: str, set_up: Callable[[Path], None] | None = None, **fill: str) -> Row:
    return Row(("sweep-check", *UNTESTED, "seed=0,1", *words), told, set_up=set_up, fill=fill)


ROWS = [
    _started(
        "trainer.devices=4",
        told="2 ranks were started",
        fill={"RANKS_OF_A_MACHINE": "1", "MACHINES": "2"},
    ),
    _started("trainer.num_nodes=2", "seed=null", told="would draw a different seed"),
    # class weights that are divided over ranks
    Row((*DIVIDED, "gradient_clip={head:5.0}"), "gradient_clip.head needs", build=True),
    Row((*DIVIDED, "trainer.gradient_clip_val=5.0"), "trainer.gradient_clip_val needs", build=True),
    # 16-mixed is a GPU's: of a processor the same check is asked by itself
    Row(
        ("python", "parts.trained_on_two_ranks(precision='16-mixed')"),
        "skips steps based on its own gradients",
    ),
    # where the jobs of a sweep run
    _sweep("trainer.devices=2", told="has 1 GPU(s)", set_up=environment(CUDA_VISIBLE_DEVICES="0")),
    _sweep("hydra/launcher=slurm", told="SLURM is not available here"),
    Row(
        ("python", "(lambda gpus: sweeps.slots.share(gpus, 4, 1, 'hydra.launcher.gpus'))(gpus=2)"),
        "hydra.launcher.gpus = 2, but trainer.devices = 4",
    ),
    _sweep("paths.runs=taken", told="paths.runs", set_up=text("taken", ""), ANOTHER_FOLDER="runs"),
]
