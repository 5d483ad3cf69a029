"""The environment of a run: versions, hardware, and the commit of the code with uncommitted changes."""

from __future__ import annotations

import importlib.metadata
import logging
import os
import platform
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kdface.atomic import write_json
from kdface.hardware import Profile, cores
from kdface.runs.folder import RunFolder

PACKAGES = (
    "kdface",
    "torch",
    "pytorch-lightning",
    "hydra-core",
    "omegaconf",
    "numpy",
    "scipy",
    "opencv-python-headless",
    "albumentations",
    "torchmetrics",
    "wandb",
    "pydantic",
    "matplotlib",
    "rich",
)


def versions() -> dict[str, str | None]:
    """Package -> installed version, or None if it is not installed."""
    return {name: version_of(name) for name in PACKAGES}


def version_of(package: str) -> str | None:
    """The installed version; None if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def environment(profile: Profile, threads: int, world: int) -> dict[str, Any]:
    """The content of `environment.json`."""
    import torch

    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": versions(),
        "processor": _processor(),
        "cores": cores(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "profile": asdict(profile),
        "threads": threads,
        "world_size": world,
        "git": _git(),
    }


def note_environment(folder: RunFolder, now: dict[str, Any]) -> None:
    """Write environment.json at the first start. On resume, warn about differences, which may affect bit-exactness, and
    record them under `resumed`."""
    path = folder.root / "environment.json"
    if not path.is_file():
        write_json(path, now)
        return
    before = folder.read_environment()
    compared = ("packages", "processor", "gpu", "profile", "threads", "world_size")
    differ = [key for key in compared if before.get(key) != now[key]]
    if differ:
        logging.getLogger("kdface").warning(
            "this run started with different %s: it resumes, but not bit-identically", ", ".join(differ)
        )
        later = [*before.get("resumed", []), {key: now[key] for key in differ}]
        if later[-1:] != later[-2:-1]:
            write_json(path, {**before, "resumed": later})


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor()


def _git() -> dict[str, Any] | None:
    """The commit and uncommitted changes of kdface's checkout; None outside a checkout."""
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():
        return None

    def ask(*words: str) -> str:
        said = subprocess.run(
            ["git", "-C", str(here), *words],
            capture_output=True,
            text=True,
            timeout=20,
            env={**os.environ, "LC_ALL": "C"},
        )
        return said.stdout if said.returncode == 0 else ""

    try:
        return {"commit": ask("rev-parse", "HEAD").strip() or None, "diff": ask("diff", "HEAD")}
    except (OSError, subprocess.TimeoutExpired):
        return None
