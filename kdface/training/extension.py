"""Extend a finished run to more epochs or steps, if the result equals that of training longer from the start."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import torch

from kdface.assembly.job import Job
from kdface.config.fingerprint import settings_that_differ
from kdface.errors import UserError
from kdface.runs.checkpoint import read_checkpoint, write_checkpoint
from kdface.runs.folder import RunFolder
from kdface.runs.named import is_edited
from kdface.runs.records import Records
from kdface.training.identity import same_files, step_of

log = logging.getLogger("kdface")
_LENGTH = {"trainer.max_epochs", "trainer.max_steps"}


def extend(folder: RunFolder, job: Job) -> None:
    """Start a new run from the end of a finished one that differs only in length.

    The result is bit-identical to a run of that length from the start. The shorter run is unchanged. If extension is
    not possible, the reason is logged.
    """
    shorter = _shorter(folder, job)
    if shorter is None:
        return
    step, total = step_of(shorter), job.method.total_steps
    if reason := _obstacle(job, step):
        log.warning("%s ends at step %d, this run at %d: it starts over, since %s", shorter.root, step, total, reason)
        return
    content = _of_longer(shorter.last, job)
    for name in ("data.json", "environment.json", "images.jsonl.gz", "metrics.jsonl"):
        if (shorter.root / name).is_file():
            shutil.copyfile(shorter.root / name, folder.root / name)
    validated = content["kdface"].get("validated", step) == step  # earlier checkpoints do not say when
    tests = job.data.test.keys() - (job.data.validation.keys() if validated else ())
    Records(folder.metrics).rewind(step, step, tests)
    for path in shorter.last.parent.rglob("*.ckpt"):  # that callbacks keep
        if path != shorter.last:
            write_checkpoint(_of_longer(path, job), folder.last.parent / path.relative_to(shorter.last.parent))
    write_checkpoint(content, folder.last)
    log.warning("%s ends at step %d: this run continues from there to step %d", shorter.root, step, total)


def _of_longer(path: Path, job: Job) -> dict[str, Any]:
    """A checkpoint of the shorter run as one of the longer one."""
    content = read_checkpoint(path)
    content["kdface"]["config"] = job.config
    return content


def _shorter(folder: RunFolder, job: Job) -> RunFolder | None:
    """The longest shorter finished run that differs only in length."""
    found: list[tuple[int, RunFolder]] = []
    for file in sorted(folder.root.parent.glob(f"seed{job.config['seed']}-*/config.yaml")):
        other = RunFolder(file.parent)
        if other.root == folder.root or not other.done or not other.last.is_file():
            continue
        try:
            before = other.read_config()
            rows = settings_that_differ(before, job.config)
            if not {key for key, _, _ in rows} <= _LENGTH or is_edited(other, before):
                continue
            if (step := step_of(other)) < job.method.total_steps and same_files(other, job.config):
                found.append((step, other))
        except UserError:  # unreadable folders cannot be extended
            continue
    return max(found, key=lambda pair: pair[0])[1] if found else None


def _obstacle(job: Job, step: int) -> str:
    """Why this run cannot continue from one of `step` steps; empty if it can."""
    method = job.method
    if step % method.steps_per_epoch:
        return f"the shorter run stopped in the middle of an epoch of {method.steps_per_epoch} steps"
    short, whole = (_rates(job, total, step) for total in (step, method.total_steps))
    if short != whole:
        return (
            "its learning rates depend on the number of steps (scheduler=constant and scheduler=multistep, without "
            "warm-up, do not)"
        )
    return ""


def _rates(job: Job, total: int, steps: int) -> list[float]:
    """The learning rates of the first steps of a run."""
    plan = job.method.optimization
    parameter: Any = torch.nn.Parameter(torch.zeros(1))
    optimizer = plan.optimizer([parameter])
    schedule = plan.schedule(optimizer, total, job.method.steps_per_epoch)
    rates = []
    for _ in range(steps):
        rates.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        schedule.step()
    return rates
