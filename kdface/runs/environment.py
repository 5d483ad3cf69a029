"""The environment of a run: versions, hardware, and the commit of the code with uncommitted changes."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import logging
import os
import platform
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kdface.atomic import write_json
from kdface.config.locate import plugins
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
        "plugins": own_code(),
    }


def own_code() -> dict[str, str]:
    """Package of `$KDFACE_PLUGINS` -> SHA-256 of its Python files, with their names; empty if it is not found."""
    return {name: _digest(name) for name in plugins()}


def _digest(package: str) -> str:
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return ""
    if spec is None:
        return ""
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    found = {file.relative_to(folder).as_posix(): file for folder in folders for file in folder.rglob("*.py")}
    if not folders and spec.origin:
        found = {Path(spec.origin).name: Path(spec.origin)}
    digest = hashlib.sha256()
    for name, file in sorted(found.items()):
        digest.update(f"{name} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest() if found else ""


def changed_code(folder: RunFolder) -> list[str]:
    """The packages of `$KDFACE_PLUGINS` whose code differs from that of a run's start."""
    if not (folder.root / "environment.json").is_file():
        return []
    before = folder.read_environment().get("plugins", {})
    return [name for name, digest in own_code().items() if before.get(name, digest) != digest]


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
    differ += ["plugins"] if changed_code(folder) else []
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
