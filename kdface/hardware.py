"""The hardware profile: what this machine does fastest, found by looking at it, and recorded with each run.

torch is imported when it is asked: `detect_by_system` often need not.
"""

from __future__ import annotations

import ctypes
import logging
import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from kdface.errors import UserError

if TYPE_CHECKING:
    import torch

log = logging.getLogger("kdface")
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
    """How to compute on this machine.

    Attributes:
        name: cuda, cpu-bf16, cpu or plain.
        accelerator: as Lightning names it.
        precision: as Lightning names it.
        channels_last: NHWC memory for convolutions.
        fused: fused optimiser kernels.
        reason: what was seen that led to this.
    """

    name: str
    accelerator: str
    precision: str
    channels_last: bool
    fused: bool
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """As environment.json holds it."""
        return asdict(self)


def cpu_has_amx() -> bool:
    """Whether the processor multiplies bfloat16 matrices (AMX). Without, bfloat16 is slower than float32. AVX512-BF16
    alone decides nothing: training steps took 1.2 to 1.5 times as long in it on one such processor, and 0.5 to 0.9 of
    the time on another (`benchmarks.steps`); `trainer.precision=bf16-mixed` chooses it."""
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
    """`detect()`, from what Linux lists: torch, whose import takes seconds, is asked only if an accelerator is there or
    the processor's instructions are not listed.

    Args:
        devices: the folder of device files.
        processor: the list of processors; an x86 one has a line of flags.
    """
    try:
        flags = next(line for line in processor.read_text(encoding="utf-8").splitlines() if line.startswith("flags"))
    except (OSError, StopIteration):
        return detect()
    return detect() if may_have_gpu(devices) else _of_processor("amx_tile" in flags.split())


def may_have_gpu(devices: Path = Path("/dev")) -> bool:
    """False if Linux lists no device file of an accelerator; true as well where no such files can be listed."""
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
    """The profile that training and evaluation use and that is recorded: `detect`, with what the Trainer is given.

    A processor has no autocast to float16; bfloat16 takes its place there, and a warning says so. Half precision
    divides gradients by its scale in the optimiser's step where that is fused, after they are clipped: no fused
    optimiser there.

    Raises `UserError` for a GPU where torch sees none.
    """
    profile = detect(choice)
    if accelerator in ("gpu", "cuda") and not _sees_gpu():
        raise UserError(
            f"trainer.accelerator = {accelerator}, and torch sees no GPU on this machine.",
            fix="trainer.accelerator=auto, or a torch that was built for the GPU (kdface doctor)",
        )
    if accelerator != "auto":
        profile = replace(profile, accelerator="gpu" if accelerator == "cuda" else accelerator)
    if precision is not None:
        profile = replace(profile, precision=_PRECISIONS.get(str(precision), str(precision)))
    if profile.precision == "16-mixed" and profile.accelerator == "cpu":
        log.warning("trainer.precision=16-mixed is for GPUs: this processor computes, and is recorded, in bf16-mixed")
        profile = replace(profile, precision="bf16-mixed")
    return replace(profile, fused=profile.fused and profile.precision != "16-mixed")


def _sees_gpu() -> bool:
    import torch

    return torch.cuda.is_available() or torch.backends.mps.is_available()


def cores() -> int:
    """Processors this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1


def keep_freed_memory() -> None:
    """Let glibc keep what is freed for the next tensor of the size; a no-op elsewhere.

    By default it gives large tensors back to the system at once, and every step pays for fresh pages again: a tenth of
    the processor time of a small network.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        trim_threshold, mmap_max = -1, -4  # glibc's malloc.h
        mallopt(mmap_max, 0)
        mallopt(trim_threshold, 2**31 - 1)


def weights_dtype(precision: object) -> torch.dtype | None:
    """The type that Lightning gives all weights under a `-true` precision; None under every other, which leaves them
    as they were made."""
    import torch

    true = {"64": torch.float64, "64-true": torch.float64, "16-true": torch.float16, "bf16-true": torch.bfloat16}
    return true.get(str(precision))


def forward_context(profile: Profile) -> AbstractContextManager[Any]:
    """The autocast that evaluation runs under, the same as training's."""
    import torch

    half = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(profile.precision)
    if half is None:
        return nullcontext()
    return torch.autocast("cuda" if profile.accelerator == "gpu" else "cpu", dtype=half)
