"""The hardware profile: the fastest settings for this machine, detected and recorded with each run.

torch is imported lazily: `detect_by_system` often does not need it.
"""

from __future__ import annotations

import ctypes
import logging
import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from kdface.errors import UserError

if TYPE_CHECKING:
    import torch

log = logging.getLogger("kdface")
CORES = "KDFACE_CORES"  # how many processors a job may use, where a scheduler counts them without assigning any
_PRECISIONS = {
    "32": "32-true",
    "64": "64-true",
    "16": "16-mixed",
    "bf16": "bf16-mixed",
}  # what Lightning takes for the same
# How device files of accelerators begin: NVIDIA's, those of its boards, AMD's, and Windows' for Linux guests.
_ACCELERATORS = ("nvidia", "nvhost", "nvmap", "kfd", "dxg")


@dataclass(frozen=True)
class Profile:
    """Compute settings for this machine.

    Attributes:
        name: cuda, cpu-bf16, cpu or plain.
        accelerator: Lightning's name.
        precision: Lightning's name.
        channels_last: NHWC memory for convolutions.
        fused: fused optimiser kernels.
        reason: the detected hardware behind the choice.
    """

    name: str
    accelerator: str
    precision: str
    channels_last: bool
    fused: bool
    reason: str


def cpu_has_amx() -> bool:
    """Whether the processor multiplies bfloat16 matrices (AMX). Without it bfloat16 is slower than float32. AVX512-BF16
    alone is inconclusive: training steps took 1.2 to 1.5 times as long with it on one processor, and 0.5 to 0.9 of the
    time on another (`benchmarks.steps`); select it with `trainer.precision=bf16-mixed`."""
    import torch

    return bool(getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)())


def detect(choice: Literal["auto", "plain"] = "auto") -> Profile:
    """The profile for this machine. `plain` is float32 with contiguous tensors everywhere."""
    import torch

    gpu = torch.cuda.is_available()
    accelerator = "gpu" if gpu else "cpu"
    if choice == "plain":
        return Profile("plain", accelerator, "32-true", False, False, "hardware.profile=plain")
    if gpu:
        name = torch.cuda.get_device_name()
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return Profile("cuda", "gpu", "bf16-mixed", True, True, f"{name} with bfloat16")
        return Profile("cuda", "gpu", "16-mixed", True, True, f"{name} without bfloat16: half precision")
    return _of_processor(cpu_has_amx())


def detect_by_system(devices: Path = Path("/dev"), processor: Path = Path("/proc/cpuinfo")) -> Profile:
    """`detect()` by what Linux reports: torch, whose import takes seconds, is only used if there is an accelerator or
    the processor's instruction sets are not listed.

    Args:
        devices: the folder of device files.
        processor: the list of processors; x86 ones have a line of flags.
    """
    try:
        flags = next(line for line in processor.read_text(encoding="utf-8").splitlines() if line.startswith("flags"))
    except (OSError, StopIteration):
        return detect()
    return detect() if may_have_gpu(devices) else _of_processor("amx_tile" in flags.split())


def may_have_gpu(devices: Path = Path("/dev")) -> bool:
    """False if Linux lists no device file of an accelerator; true if device files cannot be listed."""
    try:
        names = [node.name for node in devices.iterdir()]
    except OSError:
        return True
    return not names or any(name.startswith(_ACCELERATORS) for name in names)


def _of_processor(amx: bool) -> Profile:
    if amx:
        return Profile("cpu-bf16", "cpu", "bf16-mixed", True, False, "processor with AMX")
    return Profile("cpu", "cpu", "32-true", True, False, "processor without AMX: float32 is faster there")


def profile_for(
    choice: Literal["auto", "plain"], accelerator: str = "auto", precision: str | int | None = None
) -> Profile:
    """The recorded profile of training and evaluation: `detect` with the Trainer's settings.

    CPUs have no float16 autocast; bfloat16 is used instead, with a warning. With half precision a fused optimiser
    unscales gradients inside its step, after clipping, so it is disabled.

    Raises `UserError` if a GPU is requested but torch finds none.
    """
    profile = detect(choice)
    if accelerator in ("gpu", "cuda") and not _sees_gpu():
        raise UserError(
            f"trainer.accelerator = {accelerator}, but torch finds no GPU on this machine.",
            fix="trainer.accelerator=auto, or a torch build with GPU support (kdface doctor)",
        )
    if accelerator != "auto":
        profile = replace(profile, accelerator="gpu" if accelerator == "cuda" else accelerator)
    if precision is not None:
        profile = replace(profile, precision=_PRECISIONS.get(str(precision), str(precision)))
    if profile.precision == "16-mixed" and profile.accelerator == "cpu":
        log.warning("trainer.precision=16-mixed is for GPUs: using, and recording, bf16-mixed on this processor")
        profile = replace(profile, precision="bf16-mixed")
    return replace(profile, fused=profile.fused and profile.precision != "16-mixed")


def _sees_gpu() -> bool:
    import torch

    return torch.cuda.is_available() or torch.backends.mps.is_available()


def cores() -> int:
    """Number of processors this process may use."""
    try:
        found = len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        found = os.cpu_count() or 1
    return min(found, int(os.environ.get(CORES, found)))


def keep_freed_memory() -> None:
    """Let glibc keep freed memory for the next tensor of that size; a no-op elsewhere.

    By default it returns large tensors to the system at once, so every step pays for new pages: a tenth of the
    processor time of a small network.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        trim_threshold, mmap_max = -1, -4  # glibc's malloc.h
        mallopt(mmap_max, 0)
        mallopt(trim_threshold, 2**31 - 1)


def weights_dtype(precision: object) -> torch.dtype | None:
    """The type of all weights under a `-true` precision of Lightning; None for others, which keep the original type."""
    import torch

    true = {"64": torch.float64, "64-true": torch.float64, "16-true": torch.float16, "bf16-true": torch.bfloat16}
    return true.get(str(precision))


def forward_context(profile: Profile) -> AbstractContextManager[Any]:
    """The autocast context of evaluation, the same as in training."""
    import torch

    half = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(profile.precision)
    if half is None:
        return nullcontext()
    return torch.autocast("cuda" if profile.accelerator == "gpu" else "cpu", dtype=half)
